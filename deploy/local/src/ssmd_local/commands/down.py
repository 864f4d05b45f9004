"""``ssmd down``: ends a capture that runs elsewhere, or what a killed one left behind."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from ssmd_local.places import RunPaths
from ssmd_local.plan import STOP_ORDER
from ssmd_local.state import ProcessId, read_state, signal_process

__all__ = ["down", "stop_leftovers"]

_POLL_S = 0.1
_SUPERVISOR_S = 300.0
_LEFTOVER_S = 120.0


async def down(paths: RunPaths, *, say: Callable[[str], None]) -> int:
    """Ask ``ssmd up`` to end and wait until it has; 0 also where nothing runs."""
    state = read_state(paths)
    if state is None:
        say(f"nothing runs over {paths.data}")
        return 0
    if signal_process(state.supervisor, signal.SIGTERM):
        say(f"stopping ssmd up (process {state.supervisor.pid}) …")
        if not await _gone(state.supervisor, _SUPERVISOR_S):
            say(f"error: it has not ended in {_SUPERVISOR_S:g} s; its logs are in {paths.logs}")
            return 1
        say("stopped")
        return 0
    return await stop_leftovers(paths, say=say)


async def stop_leftovers(paths: RunPaths, *, say: Callable[[str], None]) -> int:
    """Stop what a killed ``ssmd up`` left running, in its order; 1 where one had to be killed.

    The caller has made sure that no ``ssmd up`` runs.
    """
    state = read_state(paths)
    if state is None:
        return 0
    code = 0
    for name in STOP_ORDER:
        process = state.processes.get(name)
        if process is None or not signal_process(process, signal.SIGTERM):
            continue
        say(f"stopping {name} (process {process.pid}), left by an earlier run …")
        if not await _gone(process, _LEFTOVER_S):
            say(f"error: {name} did not stop in {_LEFTOVER_S:g} s and was killed")
            signal_process(process, signal.SIGKILL)
            await _gone(process, _LEFTOVER_S)
            code = 1
    paths.state.unlink(missing_ok=True)
    return code


async def _gone(process: ProcessId, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.is_alive():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True

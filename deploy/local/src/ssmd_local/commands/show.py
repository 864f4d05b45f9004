"""``ssmd status``: what runs, how it goes, and what the archive holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import httpx

from ssmd_local.archive_summary import summarise_archive
from ssmd_local.places import RunPaths
from ssmd_local.plan import STOP_ORDER
from ssmd_local.probes import ask_counters, ask_process
from ssmd_local.state import read_state
from ssmd_local.status import archive_lines, process_lines, status_line

__all__ = ["show"]


async def show(paths: RunPaths, *, say: Callable[[str], None]) -> int:
    """Tell how things are; 0 where everything runs and is ready, 1 otherwise."""
    state = read_state(paths)
    code = 1
    if state is None:
        say(f"nothing runs over {paths.data}")
    else:
        async with httpx.AsyncClient(trust_env=False) as client:
            found = [
                await ask_process(client, name, state.processes[name], state.urls.get(name))
                for name in reversed(STOP_ORDER)
                if name in state.processes
            ]
            counters = await ask_counters(client, state.urls)
        say(f"{state.feed} ({state.source}), started {state.started_at}, {state.api_url}")
        for line in process_lines(found):
            say(line)
        if not state.supervisor.is_alive():
            say("ssmd up itself is gone: `ssmd down` stops the rest")
        running_s = time.time() - datetime.fromisoformat(state.started_at).timestamp()
        say(status_line(counters, running_s=running_s, left_s=None))
        code = 0 if state.supervisor.is_alive() and all(p.state in ("ready", "running") for p in found) else 1
    for line in archive_lines(summarise_archive(paths.data)):
        say(line)
    return code

"""Which processes run over an archive: a small file that ``up`` writes and ``status`` and ``down`` read.

A process is named by its id and its start time together, so that an old file never points at a stranger who was
given the same id.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import msgspec

from ssmd_local.places import RunPaths

__all__ = ["ProcessId", "RunState", "process_id", "read_state", "signal_process", "write_state"]

_STAT_START = 19
"""Place of the start time in ``/proc/PID/stat``, counted after the command's closing bracket."""


class ProcessId(msgspec.Struct, frozen=True):
    """A process, for its life alone.

    Attributes:
        pid: Its id.
        started: When the system says it was started, as the system writes it.
    """

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Tell whether this very process runs."""
        return _started(self.pid) == self.started


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What runs.

    Attributes:
        supervisor: The ``ssmd up``.
        processes: Its processes by name, in the order started.
        urls: Where each tells of itself: the service's base URL, by name.
    """

    supervisor: ProcessId
    source: str
    feed: str
    api_url: str
    nats_url: str
    started_at: str
    processes: dict[str, ProcessId] = {}
    urls: dict[str, str] = {}


def process_id(pid: int) -> ProcessId:
    """Return the identity of a process that runs now; one that is gone already is never alive."""
    return ProcessId(pid, _started(pid) or "gone")


def signal_process(process: ProcessId, number: signal.Signals) -> bool:
    """Send a signal to this very process; False where it is gone."""
    if not process.is_alive():
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def write_state(paths: RunPaths, state: RunState) -> None:
    """Write the state by rename: a reader sees all of it or the one before."""
    fresh = paths.state.with_suffix(".tmp")
    fresh.write_bytes(msgspec.json.encode(state))
    fresh.replace(paths.state)


def read_state(paths: RunPaths) -> RunState | None:
    """Return what was written last; None where there is nothing, or nothing of this version."""
    try:
        return msgspec.json.decode(paths.state.read_bytes(), type=RunState)
    except (OSError, msgspec.DecodeError):
        return None


def _started(pid: int) -> str | None:
    """Return when a process was started, in the system's own words; None for one that is gone or a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    except ProcessLookupError:
        return None
    return None if fields[0] == "Z" else fields[_STAT_START]


def _started_by_ps(pid: int) -> str | None:
    done = subprocess.run(  # noqa: S603 - a fixed program, for systems without /proc
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = done.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None

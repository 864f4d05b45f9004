"""Where figures come from: the machine, what runs on it, when, and how busy it was beside the measurement."""

from __future__ import annotations

import datetime as dt
import os
import platform
from pathlib import Path

__all__ = ["machine", "machine_line", "peak_bytes"]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text("utf-8").splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def machine() -> dict[str, str | int | float]:
    """Return what a reader needs to place figures; ``load`` is how many wanted a processor when they began."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cpus": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def machine_line() -> str:
    """Return :func:`machine` as the line above a table."""
    told = machine()
    return (
        f"{told['date']}, {told['cpus']} processors ({told['processor']}), {told['system']}, "
        f"Python {told['python']}, load {told['load']} before"
    )


def peak_bytes(pid: int | str = "self") -> int:
    """Return the most memory a process ever held; 0 where the system does not tell.

    Not ``ru_maxrss``, which begins with what the process held that it was started by.
    """
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0

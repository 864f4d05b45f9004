"""How each program is started: the console script beside this Python, else its package in this Python's path."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from ssmd_common.errors import ConfigError
from ssmd_local.nats_server import nats_server_binary
from ssmd_local.plan import API, ARCHIVER, CONNECTOR, NATS, SIMULATOR

__all__ = ["child_environment", "command"]


def command(name: str) -> list[str]:
    """Return the words that start a program.

    Raises:
        ConfigError: It is not installed.
    """
    if name == NATS:
        return [str(nats_server_binary())]
    script = _script(name)
    if script.exists():
        return [str(script)]
    package = name.replace("-", "_")
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{name} is not installed", remedy="run ./ssmd, which makes the virtual environment")
    return [sys.executable, "-c", f"from {package}.cli import main; main()"]


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the processes: ours, and our import path where programs are not installed.

    Without a console script a program is a package that was put into the path by other means than installing it.
    """
    if all(_script(name).exists() for name in (SIMULATOR, CONNECTOR, ARCHIVER, API)):
        return dict(environ)
    return {**environ, "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)}


def _script(name: str) -> Path:
    return Path(sysconfig.get_path("scripts")) / name

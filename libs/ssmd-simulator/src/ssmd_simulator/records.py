"""What a run puts on record: every frame sent or withheld, the end of every connection, every fault performed.

Beside the data path, for whoever has to account for all of it afterwards.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO
    from pathlib import Path

    from ssmd_simulator.faults import Fault

__all__ = ["FaultLog", "SentLog"]


class SentLog:
    """Everything that became of frames in this run, a JSON line each.

    ``{"at_ns","connection","n","frame"}``
        A frame that was handed to the operating system for an open socket. ``connection`` counts from 1 in the run,
        ``n`` from 1 in the connection; ``at_ns`` is this machine's clock, whatever the exchange's says. The line is
        written before the frame is: whatever a client received is here. What was on its way when a connection broke
        is here too, and was never received: the frames of a connection that a client has are the first of these,
        without a hole.
    ``{"at_ns","connection","withheld","frame"}``
        A frame a fault kept back, which no client ever received: ``withheld`` is the fault's name.
    ``{"at_ns","connection","ended":{"frames","code","by","whole"}}``
        The connection's end: how many frames were sent, who closed it (``exchange`` or ``client``; ``nobody`` where
        the TCP connection broke) and with which code. ``whole`` says that the exchange closed it and the client
        answered that: then it has read every frame.

    A frame that is not UTF-8 stands in base64 under ``frame_base64``.

    Raises:
        ConfigError: The file exists already, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._file = _new_file(path, "a sent log")

    def write(self, connection: int, first_number: int, frames: Sequence[bytes]) -> None:
        """Append frames that follow each other in a connection."""
        lines, at_ns = bytearray(), time.time_ns()
        for number, frame in enumerate(frames, start=first_number):
            lines += _line({"at_ns": at_ns, "connection": connection, "n": number, **_frame(frame)})
        self._file.write(lines)

    def withhold(self, connection: int, fault: str, frames: Sequence[bytes]) -> None:
        """Append frames that were not sent."""
        lines, at_ns = bytearray(), time.time_ns()
        for frame in frames:
            lines += _line({"at_ns": at_ns, "connection": connection, "withheld": fault, **_frame(frame)})
        self._file.write(lines)

    def end(self, connection: int, *, frames: int, code: int | None, by: str, whole: bool) -> None:
        """Append a connection's end."""
        ended = {"frames": frames, "code": code, "by": by, "whole": whole}
        self._file.write(_line({"at_ns": time.time_ns(), "connection": connection, "ended": ended}))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FaultLog:
    """Every fault performed, a JSON line each: ``{"at_ns","fault","connection","frames"}``.

    ``at_ns`` is this machine's clock, ``fault`` is written as on the command line, ``connection`` is null where it
    is about none, and ``frames`` counts what had been sent on it.

    Raises:
        ConfigError: The file exists already, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._file = _new_file(path, "a fault log")

    def write(self, fault: Fault, connection: int | None, frames: int | None) -> None:
        """Append one fault."""
        self._file.write(
            _line({"at_ns": time.time_ns(), "fault": str(fault), "connection": connection, "frames": frames})
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _new_file(path: Path, what: str) -> FileIO:
    try:
        # Unbuffered: a reader that has a frame finds it here, whatever becomes of this process.
        return path.open("xb", buffering=0)
    except FileExistsError as error:
        raise ConfigError(
            "exists already", file=str(path), remedy=f"{what} is of one run; name another file"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(path)) from error


def _frame(frame: bytes) -> dict[str, object]:
    try:
        return {"frame": frame.decode()}
    except UnicodeDecodeError:
        return {"frame_base64": frame}


def _line(fields: dict[str, object]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"

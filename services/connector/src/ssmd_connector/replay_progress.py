"""How far a replay is: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ssmd_common.archive.times import SECOND_NS, to_rfc3339

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ReplayProgress"]

log = structlog.get_logger()

_LOG_EVERY_S = 30.0
_SHOWN_WAIT_S = 2.0


class ReplayProgress:
    """Tells how far a replay is, on stderr.

    Args:
        records: How many there are.
        shown: Whether a terminal may show it; not where the records themselves go to one.
    """

    def __init__(self, records: int, *, shown: bool = True) -> None:
        self.done = 0
        self._records = records
        self._on_terminal = shown and sys.stderr.isatty()
        self._logged_at = time.monotonic()
        self._bar = Progress(
            TextColumn("replaying"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[at]}"),
            console=Console(stderr=True),
            disable=not self._on_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("replay", total=records, at="")

    def move(self, records: int, at_ns: int) -> int:
        """Take note of so many more records, the last of them received at ``at_ns``; return 0, to count anew."""
        if not records:
            return 0
        self.done += records
        if self._on_terminal:
            self._bar.update(self._task, completed=self.done, at=to_rfc3339(at_ns - at_ns % SECOND_NS))
        elif time.monotonic() - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.info("replay_progress", records=self.done, of=self._records, at=to_rfc3339(at_ns))
        return 0

    def pause(self, wait_ns: int, at_ns: int) -> None:
        """Take note of a pause until what happened at ``at_ns`` is due."""
        wait_s = wait_ns / SECOND_NS
        if wait_s < _SHOWN_WAIT_S:
            return
        until = to_rfc3339(at_ns - at_ns % SECOND_NS)
        if self._on_terminal:
            self._bar.update(self._task, completed=self.done, at=f"nothing came until {until}: {wait_s:.0f} s")
        elif wait_s >= _LOG_EVERY_S:
            log.info("replay_pauses", seconds=round(wait_s), until=until)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

"""Where ``ssmd`` talks: one live line on a terminal, a plain line now and then elsewhere.

A terminal that went away, or a closed pipe, must never end a capture: what cannot be written is lost.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["Screen"]

_PLAIN_EVERY_S = 10.0


class Screen:
    """The running output; a context that ends the live line."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._errors = Console(highlight=False, soft_wrap=True, stderr=True)
        self._live: Live | None = None
        self._last_plain = 0.0
        self._broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end_status()

    def say(self, line: str) -> None:
        """Print a line, above the live one where there is one."""
        self._write(lambda: self._console.print(Text(line)))

    def fail(self, problem: str) -> None:
        """Print what went wrong, on stderr, below the live line."""
        self.end_status()
        self._write(lambda: self._errors.print(Text(f"error: {problem}")))

    def status(self, line: str) -> None:
        """Show how it goes now."""
        if not self._console.is_terminal:
            now = time.monotonic()
            if now - self._last_plain >= _PLAIN_EVERY_S:
                self._last_plain = now
                self.say(line)
            return
        self._write(lambda: self._show(line))

    def end_status(self) -> None:
        """Leave the live line as it is and go on below it."""
        live, self._live = self._live, None
        if live is not None:
            self._write(live.stop)

    def _show(self, line: str) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)

    def _write(self, write: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            write()
            sys.stdout.flush()
        except (OSError, ValueError):
            self._broken = True
            self._live = None
            # What is buffered must not fail again when the interpreter ends.
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - lives as long as the process

"""How a process begins, stops and fails: signals, exit codes, and one line for a person when it cannot go on.

Exit codes are those of :mod:`ssmd_common.errors`: 0 done, 1 work failed, 2 configuration or arguments.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from typer.exceptions import Abort, TyperException

from ssmd_common.errors import SsmdError
from ssmd_common.service import logs
from ssmd_common.service.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from typer import Typer

__all__ = ["Stop", "run", "run_app"]

log = structlog.get_logger()

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_INTERRUPTED = 130


class Stop:
    """The wish that the service ends: set by SIGTERM, SIGINT, or the service itself; never taken back.

    Attributes:
        reason: What asked for it, such as ``SIGTERM``; empty before.
        asked: How often it was asked for. A second signal changes nothing: an orderly stop is what keeps the data.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.asked = 0
        self._event = asyncio.Event()

    def set(self, reason: str) -> None:
        """Ask for an orderly stop."""
        self.asked += 1
        if self.asked == 1:
            self.reason = reason
            log.info("stop_requested", reason=reason)
        else:
            log.warning("stop_already_underway", reason=reason, asked=self.asked)
        self._event.set()

    def is_set(self) -> bool:
        """Tell whether a stop was asked for."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return once a stop is asked for."""
        await self._event.wait()

    async def wait_for(self, seconds: float) -> bool:
        """Sleep, but not past a stop; return whether one was asked for."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


def run(
    main: Callable[[Stop], Awaitable[int | None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run a service's async main until it returns, and return the process's exit code.

    SIGTERM and SIGINT set the :class:`Stop` that ``main`` is given; ``main`` then ends in its own order. A signal
    before the event loop runs is kept, one after it is ignored: neither tears the process apart. Call it from the
    main thread.

    Args:
        main: The service; ``None`` counts as 0.
        loop_factory: Makes the event loop; asyncio's own by default.

    Returns:
        The exit code: that of ``main``, of the :exc:`~ssmd_common.errors.SsmdError` it raised (told in one line on
        stderr), or 1 for any other exception (logged with its traceback).
    """
    stop = Stop()
    early: list[str] = []
    loop: asyncio.AbstractEventLoop | None = None

    def on_signal(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if loop is None:
            early.append(name)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(stop.set, name)

    async def inside_the_loop() -> int:
        nonlocal loop
        loop = asyncio.get_running_loop()
        for name in early:
            stop.set(name)
        return await main(stop) or 0

    # Not `loop.add_signal_handler`: closing the loop would bring back the defaults, and a second Ctrl-C in that
    # moment would tear the process apart while it ends.
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(inside_the_loop())
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the process's last word on any failure
        return _tell(error)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_app(app: Typer) -> NoReturn:
    """Run a Typer app as this process: its ``main()`` for the console script.

    Every failure is one line ``error: …`` on stderr and the right exit code: usage errors and
    ``ConfigError`` 2, other ``SsmdError`` theirs, a command's returned integer or ``typer.Exit`` as it says,
    anything unexpected 1 with its traceback in the log.
    """
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        _print_error(f"{' '.join(error.format_message().split())} (see --help)")
        code = error.exit_code
    except (Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output (head, less) has enough; what is buffered has nowhere to go.
        sys.stdout = None  # keeps the interpreter from flushing into the closed pipe
        code = 1
    except Exception as error:  # noqa: BLE001 - the process's last word on any failure
        code = _tell(error)
    for number in _SIGNALS:
        signal.signal(
            number, signal.SIG_IGN
        )  # the exit code stands; a Ctrl-C in the last millisecond changes nothing
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: BaseException) -> int:
    """Tell of a failure and return its exit code."""
    known: list[SsmdError] = []
    unknown: list[BaseException] = []
    for leaf in _leaves(error):
        known.append(leaf) if isinstance(leaf, SsmdError) else unknown.append(leaf)
    if unknown and not structlog.is_configured():
        logs.configure(Path(sys.argv[0]).name)  # without it a traceback would show what its variables hold
    for leaf in unknown:
        log.error("service_failed", problem=str(leaf) or type(leaf).__name__, exc_info=leaf)
    for line in dict.fromkeys(str(leaf) for leaf in known):
        _print_error(line)
    return 1 if unknown else max(leaf.exit_code for leaf in known)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def _print_error(text: Any) -> None:
    print(f"error: {redact_text(str(text))}", file=sys.stderr, flush=True)  # noqa: T201 - the CLI's voice

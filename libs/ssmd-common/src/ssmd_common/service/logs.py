"""What a service says about itself: structured lines on stderr, one an event, never one a message.

Modules write ``log = structlog.get_logger()`` and ``log.info("segment_sealed", name=..., records=...)``: a fixed
snake_case event and named values. On a terminal the lines are for people, elsewhere each is a JSON object with
``ts`` (RFC 3339, UTC), ``level``, ``service`` and ``event`` first. Secrets are cut out on the way.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from ssmd_common.errors import ConfigError
from ssmd_common.service.redact import redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LEVELS", "configure"]

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
"""The levels :func:`configure` takes."""

_FIRST_KEYS = ("ts", "level", "service", "event")


def configure(service: str, *, level: str = "info") -> None:
    """Send this process's log lines to stderr, those of libraries (from warning up) among them.

    Call once at the start of a process; a later call replaces the earlier settings.

    Args:
        service: The name every line carries, such as ``ssmd-archiver``.
        level: The lowest level of ssmd's own lines, one of :data:`LEVELS`.

    Raises:
        ConfigError: The level is none of :data:`LEVELS`.
    """
    if level not in LEVELS:
        raise ConfigError(f"no log level {level!r}", field="log level", remedy=f"one of {', '.join(LEVELS)}")
    on_terminal = sys.stderr.isatty()

    def name_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        name_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact,
    ]
    if on_terminal:
        render: list[Processor] = [
            # The traceback is a string by now, redacted: the renderer prints it as it is.
            structlog.dev.ConsoleRenderer(timestamp_key="ts", exception_formatter=structlog.dev.plain_traceback),
        ]
    else:
        render = [_order, structlog.processors.JSONRenderer(default=str)]

    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=False,
    )
    handler = _StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _name_logger, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        ),
    )
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, _StderrHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _name_logger(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Give a library's free text a fixed event name, and keep the text and the library's name beside it."""
    record = event.get("_record")
    event["message"] = event.get("event", "")
    event["event"] = "library_log"
    event["logger"] = record.name if isinstance(record, logging.LogRecord) else ""
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: value if name.startswith("_") else redact_value(name, value) for name, value in event.items()}


def _order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {name: event[name] for name in _FIRST_KEYS if name in event}
    return first | {name: value for name, value in event.items() if name not in first}


class _Stderr:
    """Writes lines to whatever ``sys.stderr`` is at that moment.

    A reader of the log that went away, or a full disk under it, must not end a capture: such a line is lost.
    """

    def __init__(self, *_names: Any) -> None:
        self._stream = sys.stderr

    def msg(self, line: str) -> None:
        """Write one line; the levels below are the same to us."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _StderrHandler(logging.Handler):
    """The standard library's way to the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        _Stderr().msg(self.format(record))

"""What the benchmarks share: realistic frames, and the readers the archiver is compared with."""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["quiet"]


def quiet() -> None:
    """Let the services say only what is wrong, and not among the figures."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )

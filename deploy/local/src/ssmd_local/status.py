"""What ``ssmd`` tells a person: the running line, the table of processes, the last word; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssmd_local.archive_summary import FeedSummary
from ssmd_local.counters import Counters
from ssmd_local.places import RunPaths
from ssmd_local.plan import Plan, Source

__all__ = ["ProcessStatus", "archive_lines", "banner", "process_lines", "status_line"]

_UNKNOWN = "?"
_MINUTE_S = 60
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process, as ``ssmd status`` found it.

    Attributes:
        state: ``ready``, ``not ready``, ``running`` where it tells nothing of itself, or ``gone``.
        reasons: Why it is not ready.
    """

    name: str
    pid: int
    state: str
    reasons: Mapping[str, str]


def _count(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


def _span(seconds: float) -> str:
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}:{whole % _MINUTE_S:02d} min"
    return f"{whole // _HOUR_S}:{whole % _HOUR_S // _MINUTE_S:02d} h"


def status_line(counters: Counters, *, running_s: float, left_s: float | None) -> str:
    """Return the one line that tells how the capture goes."""
    left = "" if left_s is None else f", {_span(max(0.0, round(left_s)))} left"
    return (
        f"{_span(running_s)}{left} · received {_count(counters.received)} · archived {_count(counters.archived)}"
        f" · segments sealed {_count(counters.sealed)} · gaps {_count(counters.gaps)} · lag {_count(counters.lag)}"
    )


_SOURCES = {
    Source.SIMULATOR: "the simulator on this machine",
    Source.CAPTURE: "a recording, played by the simulator",
    Source.LIVE: "the exchange, live",
}


def banner(plan: Plan, paths: RunPaths) -> list[str]:
    """Return what to say once everything runs."""
    return [
        f"capturing {plan.feed} from {_SOURCES[plan.source]}",
        f"  archive    {paths.data}",
        f"  pages      {plan.api_url}/",
        f"  manifests  {plan.api_url}/manifests/{plan.feed}",
        f"  API        {plan.api_url}/docs",
        f"  NATS       {plan.nats_url}, stream {plan.stream}",
        f"  logs       {paths.logs}",
        "Ctrl-C stops it and seals what is open",
    ]


def process_lines(processes: Sequence[ProcessStatus]) -> list[str]:
    """Return a line a process."""
    width = max((len(process.name) for process in processes), default=0)
    lines: list[str] = []
    for process in processes:
        why = "".join(f"; {name}: {reason}" for name, reason in process.reasons.items())
        lines.append(f"{process.name:<{width}}  {process.pid:>7}  {process.state}{why}")
    return lines


def archive_lines(feeds: Sequence[FeedSummary]) -> list[str]:
    """Return a line a feed of the archive."""
    if not feeds:
        return ["the archive holds no day yet"]
    lines: list[str] = []
    for feed in feeds:
        last = "nothing sealed yet"
        if feed.last_segment is not None:
            last = f"last sealed {feed.last_segment} at {feed.last_sealed_at}"
        lines.append(
            f"{feed.feed}: {feed.records:,} records in {_of(feed.segments, 'sealed segment')} of "
            f"{_of(feed.days, 'day')}, {_of(feed.gaps, 'gap')}; {last}"
        )
    return lines


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"

"""``ssmd-connector check``: everything that can be known without a network, told in plain lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table

from ssmd_common.config.support import unknown_variables, unused_fields, version_in_force
from ssmd_common.errors import ConfigError
from ssmd_common.sequences import SequenceGap, SequenceTracker
from ssmd_connector.plan import INSTANCE_VARIABLE, Plan, today
from ssmd_connector.venues.venue import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ssmd_common.config.environment import Environment
    from ssmd_common.config.feed import Feed
    from ssmd_connector.venues.venue import Route, Venue

__all__ = ["Routing", "check", "recorded_frames", "route_all", "warnings"]


class _Recorded(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a recording that holds the time of receipt beside the frame."""

    received_ms: int
    frame: msgspec.Raw


def warnings(feed: Feed, env: Environment, environ: Mapping[str, str]) -> list[str]:
    """Return what is accepted and does nothing, or is likely misspelt, a line each."""
    return unused_fields(feed, env) + unknown_variables(environ, env, known=(INSTANCE_VARIABLE,))


def check(plan: Plan, *, frames: Path | None, console: Console | None = None) -> int:
    """Tell what the two files amount to, and route recorded frames where some are given.

    Returns:
        0, or 1 when a data frame could not be routed.

    Raises:
        ConfigError: A file, key or argument is wrong.
    """
    out = console or Console(highlight=False, soft_wrap=True)
    for line in warnings(plan.feed, plan.env, plan.environ):
        out.print(f"warning: {line}", markup=False)
    keys = plan.check_keys()
    plan.env.transport.with_secrets(plan.environ)
    subjects, transport = plan.env.subjects(), plan.env.transport
    in_force = version_in_force(plan.feed, today())
    out.print(f"feed {plan.feed.name}, version {in_force.version}, venue {plan.settings.venue}", markup=False)
    out.print(f"connects to {plan.url()}" + (f" with the key of {keys}" if keys else ""), markup=False)
    out.print(f"publishes to {subjects.data_filter} and {subjects.capture_filter}", markup=False)
    out.print(f"stream {transport.stream} at {transport.url}, as instance {plan.instance}", markup=False)
    if frames is None:
        out.print("ok")
        return 0
    routing = route_all(plan.venue, recorded_frames(frames))
    routing.print_to(out)
    return 1 if routing.lost else 0


def recorded_frames(path: Path) -> Iterator[bytes]:
    """Yield the frames of a recording: a frame a line, or ``{"received_ms": …, "frame": …}``.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                text = line.rstrip(b"\r\n")
                if not text:
                    continue
                try:
                    yield bytes(msgspec.json.decode(text, type=_Recorded).frame)
                except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                    yield text
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path), field="--frames") from None


@dataclass
class Routing:
    """What became of recorded frames.

    Attributes:
        frames: How many there were.
        counts: Frames by kind, type and subject type.
        tickers: Tickers by the same.
        sequenced: Frames with an exchange sequence, by the same.
        reasons: Why frames could not be routed, and how many.
        gaps: Gaps in the exchange's sequences.
        repeats: Numbers that came again.
    """

    frames: int = 0
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    tickers: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)
    sequenced: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    repeats: int = 0

    @property
    def lost(self) -> int:
        """Frames that could not be routed."""
        return sum(self.reasons.values())

    def take(self, route: Route) -> None:
        """Count one frame."""
        self.frames += 1
        key = (route.kind.value, route.type or "-", route.subject_type or "-")
        self.counts[key] += 1
        tickers = route.tickers or ((route.ticker,) if route.ticker else ())
        self.tickers.setdefault(key, set()).update(tickers)
        self.sequenced[key] += bool(route.seq_key)
        if route.kind is Kind.UNPARSED or not route.routed:
            self.reasons[route.reason] += 1

    def print_to(self, out: Console) -> None:
        """Print the table."""
        table = Table("kind", "type", "subject type", "frames", "tickers", "numbered", box=None, pad_edge=False)
        for key, count in sorted(self.counts.items()):
            table.add_row(*key, str(count), str(len(self.tickers[key])), str(self.sequenced[key]))
        out.print(table)
        out.print(f"{self.frames} frames, {self.gaps} sequence gaps, {self.repeats} numbers repeated", markup=False)
        for reason, count in self.reasons.most_common():
            out.print(f"not routed: {count} ({reason})", markup=False)


def route_all(venue: Venue, frames: Iterable[bytes]) -> Routing:
    """Route frames as the connector would; a recording may begin anywhere in a sequence."""
    routing = Routing()
    strict, holey = SequenceTracker(), SequenceTracker(leaves_holes=True)
    for frame in frames:
        route = venue.route(frame)
        routing.take(route)
        if route.seq_key:
            finding = (holey if route.leaves_holes else strict).observe(route.seq_key, route.seq, route.seq_last)
            routing.gaps += isinstance(finding, SequenceGap)
            routing.repeats += finding is not None and not isinstance(finding, SequenceGap)
    return routing

"""``ssmd-connector check``: everything that can be known before a capture, told in plain lines.

Without a network, unless a try of the handshake is asked for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console

from ssmd_common.config.addresses import version_in_force
from ssmd_common.config.support import require_feed_supported
from ssmd_common.config.unused import unknown_variables, unused_fields
from ssmd_common.errors import ConfigError
from ssmd_common.nats.connection import check_settings, shown_url
from ssmd_common.service import lifecycle
from ssmd_common.service.redact import redact_text
from ssmd_connector.handshake import try_handshake
from ssmd_connector.plan import INSTANCE_VARIABLE, Plan, today, venue_of
from ssmd_connector.recordings import recorded_frames
from ssmd_connector.routing import route_all
from ssmd_connector.segment_frames import segment_frames
from ssmd_connector.venues.venue import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ssmd_common.config.environment import Environment
    from ssmd_common.config.feed import Feed
    from ssmd_connector.routing import Finding, Routing

__all__ = ["check", "warnings"]

_ROWS_SHOWN = 40
_FINDINGS_SHOWN = 20
_TICKERS_SHOWN = 3


def warnings(feed: Feed, env: Environment, environ: Mapping[str, str]) -> list[str]:
    """Return what is accepted and does nothing, or is likely misspelt, a line each."""
    return unused_fields(feed, env) + unknown_variables(environ, env, known=(INSTANCE_VARIABLE,))


def check(feed: Feed, env: Environment | None, frames: Path | None, *, as_json: bool, live: bool = False) -> int:
    """Tell what a feed amounts to, in an environment where one is given, and what becomes of recorded frames.

    Args:
        feed: The feed.
        env: The environment; None for the feed alone.
        frames: Recorded frames to route.
        as_json: Tell of the frames in JSON.
        live: Open the exchange's socket once, with the environment's keys.

    Returns:
        0, or 1 when no socket could be opened or a data frame could not be routed.

    Raises:
        ConfigError: A file, key or argument is wrong, or the exchange refuses the keys.
    """
    if live and env is None:
        raise ConfigError(
            "needs an environment, which says where and with which keys", field="--live", remedy="add --env FILE"
        )
    if as_json and frames is None:
        raise ConfigError("tells of frames, and none are given", field="--json", remedy="add --frames FILE")
    require_feed_supported(feed, today())
    plan = None if env is None else Plan.of(feed, env)
    # What exchanges send is neither markup nor emoji, `17:A:` among it.
    out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, stderr=as_json)
    if plan is not None:
        _print_plan(plan, out)
    else:
        version, venue = version_in_force(feed, today()).version, feed.websocket_settings().venue
        out.print(f"feed {feed.name}, version {version}, venue {venue}")
    if plan is not None and live:
        code = lifecycle.run(lambda stop: try_handshake(plan, stop))
        if code:
            return code
        out.print("the exchange took the handshake")
    if frames is None:
        out.print("ok" if plan is not None else "ok; add --env to check where it is captured")
        return 0
    settings = feed.websocket_settings() if plan is None else plan.settings
    routing = route_all(venue_of(settings), segment_frames(frames) or recorded_frames(frames))
    if as_json:
        print(json.dumps(routing.summary(), indent=2))  # noqa: T201 - for a program, not a terminal
    else:
        out.print()
        _print_routing(routing, out)
    return 1 if routing.lost else 0


def _print_plan(plan: Plan, out: Console) -> None:
    for line in warnings(plan.feed, plan.env, plan.environ):
        out.print(f"warning: {line}")
    keys = plan.check_keys()
    try:
        check_settings(plan.env.transport, plan.environ)
    except ConfigError as error:
        raise error.within(plan.env.file, "transport") from None
    subjects, transport = plan.env.subjects(), plan.env.transport
    in_force = version_in_force(plan.feed, today())
    out.print(f"feed {plan.feed.name}, version {in_force.version}, venue {plan.settings.venue}")
    out.print(f"connects to {plan.url()}" + (f" with the key of {keys}" if keys else ""))
    if plan.discovery is not None:
        out.print(f"looks for {plan.discovery} at {redact_text(plan.rest_url())}")
    out.print(f"publishes to {subjects.data_filter} and {subjects.capture_filter}")
    out.print(f"stream {transport.stream} at {shown_url(transport)}, as instance {plan.instance}")


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], out: Console) -> None:
    """Print columns as wide as they need, never cut: numbers to the right, all else to the left."""
    lines = [[_plain(str(cell)) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(columns, *lines, strict=True)]
    numeric = [all(cell.isdigit() for cell in column) for column in zip(*lines, strict=True)] or [False] * len(
        columns
    )
    for line in (columns, *lines):
        cells = zip(line, widths, numeric, strict=True)
        text = "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells)
        out.print(text.rstrip())


def _print_routing(routing: Routing, out: Console) -> None:
    types = [
        (kind, name, subject_type if kind == Kind.DATA.value else "-", row.frames, row.numbered, _few(row.tickers))
        for (kind, name, subject_type), row in sorted(routing.rows.items())
    ]
    _print_table(("kind", "type", "subject type", "frames", "numbered", "tickers"), types, out)
    if routing.sequences:
        out.print()
        _print_sequences(routing, out)
    out.print()
    if routing.unknown:
        names = _plain(", ".join(routing.unknown))
        out.print(f"types this venue does not know, published under their own names: {names}")
    if routing.unverifiable:
        names = _plain(", ".join(routing.unverifiable))
        out.print(f"unverifiable, without numbers that show a loss at the exchange: {names}")
    _print_findings("sequence", routing.breaks, out)
    _print_findings("not routed", routing.lost, out)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(routing.kinds.items()))
    gaps = sum(sequence.gaps for sequence in routing.sequences.values())
    out.print(
        f"{routing.frames} frames: {kinds or 'none'}; sequence gaps: {gaps}; not routed: {len(routing.lost)}",
    )


def _print_sequences(routing: Routing, out: Console) -> None:
    # What is wrong comes first, and is never left out before what is right.
    ordered = sorted(routing.sequences.items(), key=lambda item: (not item[1].findings, item[0]))
    columns = ("sequence", "counts", "frames", "first", "last", "gaps", "missing", "repeated", "late")
    rows = [
        (key, s.kind, s.frames, s.first, s.last, s.gaps, s.missing, s.repeated, s.late)
        for key, s in ordered[:_ROWS_SHOWN]
    ]
    _print_table(columns, rows, out)
    _print_rest(len(ordered) - _ROWS_SHOWN, "sequences", out)


def _print_findings(title: str, findings: Sequence[Finding], out: Console) -> None:
    for finding in findings[:_FINDINGS_SHOWN]:
        place = "in the evidence" if finding.line is None else f"line {finding.line}"
        out.print(f"{title}: {place}: {_plain(finding.text)}")
    _print_rest(len(findings) - _FINDINGS_SHOWN, "findings", out)


def _print_rest(rest: int, what: str, out: Console) -> None:
    if rest > 0:
        out.print(f"… and {rest} more {what}; --json tells all")


def _plain(text: str) -> str:
    """Return text of a frame so that it shows what it holds and does nothing to a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _few(names: Iterable[str]) -> str:
    known = sorted(names)
    shown = ", ".join(known[:_TICKERS_SHOWN])
    return f"{len(known)}: {shown}{', …' if len(known) > _TICKERS_SHOWN else ''}" if known else "-"

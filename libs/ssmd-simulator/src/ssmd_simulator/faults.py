"""What can go wrong at this exchange, by name, and what goes wrong when. Pure: all chance comes from a seed.

Before `performance`, which does it. :data:`CATALOGUE` names every fault; :func:`parse` reads one as it stands on
the command line; :func:`schedule` puts those asked for and random ones in the order in which they fall due.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "CATALOGUE",
    "Fault",
    "Kind",
    "Planned",
    "RandomFaults",
    "Where",
    "fault",
    "parse",
    "parse_time",
    "schedule",
]

_MIB = 1 << 20


class Where(Enum):
    """What a fault happens to."""

    HANDSHAKE = "handshake"
    """Every connection is closed with 1012 (the exchange restarts), and the next handshake is treated so."""
    REST = "rest"
    """The next request of REST."""
    CONNECTION = "connection"
    """One open connection."""
    FRAMES = "frames"
    """The next frames of one open connection that will do."""
    COMMANDS = "commands"
    """The next commands of a client that will do."""
    EXCHANGE = "exchange"
    """The exchange as a whole."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault that can be asked for.

    Attributes:
        name: Its name on the command line.
        where: What it happens to.
        help: What happens, in a line; ``VALUE`` is the number that goes with it.
        default: The value where none is given; None for a fault without one.
        drawn: The values a random fault draws from; empty for one that is never drawn by chance, since a client may
            rightly give up, or would be left without an exchange.
        least: The smallest value that makes sense.
    """

    name: str
    where: Where
    help: str
    default: float | None = None
    drawn: tuple[float | None, ...] = (None,)
    least: float = 0.0


_KINDS = (
    Kind("handshake-401", Where.HANDSHAKE, "refuse the next handshake with 401", drawn=()),
    Kind("handshake-403", Where.HANDSHAKE, "refuse the next handshake with 403", drawn=()),
    Kind(
        "handshake-429",
        Where.HANDSHAKE,
        "answer the next handshake 429 with Retry-After: VALUE seconds (0: without)",
        default=1,
        drawn=(0, 1, 2),
    ),
    Kind(
        "handshake-500", Where.HANDSHAKE, "answer the next VALUE handshakes 500", default=1, drawn=(1, 2), least=1
    ),
    Kind(
        "handshake-503", Where.HANDSHAKE, "answer the next VALUE handshakes 503", default=1, drawn=(1, 2), least=1
    ),
    Kind("compressed", Where.HANDSHAKE, "compress the next connection's frames, if its client offers to"),
    Kind(
        "rest-429",
        Where.REST,
        "answer the next REST request 429 with Retry-After: VALUE seconds (0: without)",
        default=0,
        drawn=(0, 1),
    ),
    Kind("rest-500", Where.REST, "answer the next VALUE REST requests 500", default=1, drawn=(1, 2), least=1),
    Kind(
        "close",
        Where.CONNECTION,
        "close with code VALUE",
        default=1001,
        drawn=(1000, 1001, 1008, 1011, 1012, 1013, 4000),
        least=1000,
    ),
    Kind("reset", Where.CONNECTION, "reset the TCP connection, with no closing handshake"),
    Kind("eof", Where.CONNECTION, "end the TCP connection, with no closing handshake"),
    Kind(
        "half-open",
        Where.CONNECTION,
        "from now on nothing comes out of the socket and nothing is read: no frames, no pings, no end; after VALUE "
        "seconds it is reset (0: only the client can end it)",
        default=0,
    ),
    Kind(
        "silence",
        Where.CONNECTION,
        "no frames and no answers for VALUE seconds, but pings (0: until the client leaves)",
        default=0,
        drawn=(0, 1, 3),
    ),
    Kind(
        "slow-reads", Where.CONNECTION, "read nothing of what the client sends for VALUE seconds", 5, drawn=(1, 3)
    ),
    Kind(
        "slow-writes", Where.CONNECTION, "send everything in crumbs of 1 to 64 bytes for VALUE seconds", 2, (1, 2)
    ),
    Kind("bad-frame", Where.CONNECTION, "send a frame with reserved bits set, which breaks the WebSocket protocol"),
    Kind("error-10", Where.CONNECTION, "end a subscription with error 10 (channel error)"),
    Kind("error-25", Where.CONNECTION, "end a subscription with error 25 (subscription buffer overflow)"),
    Kind("huge-frame", Where.FRAMES, "pad the next data frame to VALUE bytes", 4 * _MIB, (4 * _MIB,), least=1024),
    Kind("malformed-json", Where.FRAMES, "send VALUE frames that are no JSON between others", 1, (1, 3), least=1),
    Kind("duplicate-seq", Where.FRAMES, "send each of the next VALUE data frames with a seq twice", 1, (1, 3), 1),
    Kind("missing-seq", Where.FRAMES, "do not send the next VALUE data frames with a seq", 1, (1, 3), least=1),
    Kind(
        "reordered-seq",
        Where.FRAMES,
        "send the next data frame with a seq after the one that follows it in its sid",
    ),
    Kind(
        "late-acks",
        Where.COMMANDS,
        "hold the next commands for VALUE seconds, then answer them last first, data in between and before the ack",
        default=1,
        drawn=(0.5, 2),
    ),
    Kind(
        "error-18", Where.COMMANDS, "refuse the next VALUE commands with error 18 (command timeout)", 1, (1, 2), 1
    ),
    Kind("error-26", Where.COMMANDS, "refuse the next VALUE commands that add markets with error 26", 1, (1, 2), 1),
    Kind(
        "error-27", Where.COMMANDS, "refuse the next VALUE commands with error 27 (too many commands)", 1, (1, 2), 1
    ),
    Kind(
        "clock-skew",
        Where.EXCHANGE,
        "set the exchange's clock VALUE seconds off (0: right again): timestamps, Date header, handshake check",
        default=5,
        drawn=(-5, -1, 0, 1, 5),
        least=-math.inf,
    ),
)

CATALOGUE: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
"""Every fault, by name."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: What it is.
        value: The number that goes with it, 0 for a fault without one.
    """

    kind: Kind
    value: float = 0.0

    def __str__(self) -> str:
        """Return it as it would stand on the command line."""
        return self.kind.name if self.kind.default is None else f"{self.kind.name}={self.value:.12g}"


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault that was asked for.

    Attributes:
        fault: Which.
        at_s: When it first falls due, in seconds since the start.
        every_s: After how many seconds it falls due again; None for once.
    """

    fault: Fault
    at_s: float = 0.0
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class RandomFaults:
    """Faults by chance.

    Attributes:
        mean_s: Seconds between two of them on average: anywhere from half to one and a half times as many.
        seed: What they follow from.
        only: The names to draw from; empty for all that may be drawn.
    """

    mean_s: float
    seed: int
    only: tuple[str, ...] = ()


def fault(name: str, value: float | None = None) -> Fault:
    """Return a fault by name.

    Args:
        name: One of :data:`CATALOGUE`.
        value: The number that goes with it; None for its default.

    Raises:
        ConfigError: There is no such fault, or its value makes no sense.
    """
    kind = CATALOGUE.get(name)
    if kind is None:
        raise ConfigError(f"{name!r} is no fault", field="--fault", remedy="--list-faults names them all")
    if value is None:
        return Fault(kind, kind.default or 0.0)
    if kind.default is None:
        raise ConfigError(f"{name} takes no value", field="--fault")
    if not math.isfinite(value) or value < kind.least or (name == "close" and not 1000 <= value <= 4999):  # noqa: PLR2004 - RFC 6455
        raise ConfigError(f"{value:g} is no value for {name}", field="--fault", remedy=kind.help)
    return Fault(kind, value)


_TEXT = re.compile(r"(?P<name>[a-z0-9-]+)(=(?P<value>-?[0-9.]+))?(@(?P<every>every[ :]?)?(?P<time>.+))?")
_TIME = re.compile(r"(?P<number>[0-9.]+)(?P<unit>ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_SHORTEST_S = 0.01


def parse(text: str) -> Planned:
    """Read ``NAME[=VALUE][@TIME]`` or ``NAME[=VALUE][@every TIME]``.

    Without a time the fault falls due at once.

    Raises:
        ConfigError: It reads otherwise.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} cannot be read", field="--fault", remedy="NAME[=VALUE][@5s] or [@every 5s]")
    wanted = fault(match["name"], None if match["value"] is None else _number(match["value"], field="--fault"))
    if match["time"] is None:
        return Planned(wanted)
    time_s = parse_time(match["time"], field="--fault", least_s=_SHORTEST_S if match["every"] else 0.0)
    return Planned(wanted, time_s, time_s if match["every"] else None)


def parse_time(text: str, *, field: str, least_s: float = _SHORTEST_S) -> float:
    """Return the seconds in ``200ms``, ``5s``, ``1m``, ``1h``, or a bare number of them.

    Raises:
        ConfigError: It reads otherwise, or is below ``least_s``.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no time", field=field, remedy="write 200ms, 5s, 1m or 1h")
    time_s = _number(match["number"], field=field) * _SECONDS[match["unit"]]
    if time_s < least_s:
        raise ConfigError(f"{text!r} is too short", field=field, remedy=f"at least {least_s * 1000:g} ms")
    return time_s


def _number(digits: str, *, field: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise ConfigError(f"{digits!r} is no number", field=field) from None


def schedule(
    planned: Iterable[Planned], by_chance: RandomFaults | None = None, *, but: frozenset[str] = frozenset()
) -> Iterator[tuple[float, Fault]]:
    """Yield ``(seconds since the start, fault)``, earliest first; the same for the same arguments, maybe for ever.

    Args:
        planned: The faults that were asked for.
        by_chance: Others.
        but: Names never to draw by chance.

    Raises:
        ConfigError: ``by_chance`` names a fault that does not exist, or leaves none to draw from.
    """
    sources = [_times(one) for one in planned]
    if by_chance is not None:
        sources.append(_drawn(by_chance, _drawable(by_chance.only, but)))
    return heapq.merge(*sources, key=lambda due: due[0])


def _times(planned: Planned) -> Iterator[tuple[float, Fault]]:
    if planned.every_s is None:
        yield planned.at_s, planned.fault
        return
    for turn in itertools.count():
        yield planned.at_s + turn * planned.every_s, planned.fault


def _drawable(only: tuple[str, ...], but: frozenset[str]) -> list[Kind]:
    for name in only:
        fault(name)
    kinds = [kind for kind in _KINDS if kind.drawn and kind.name not in but and (not only or kind.name in only)]
    if not kinds:
        never = ", ".join(kind.name for kind in _KINDS if not kind.drawn or kind.name in but)
        raise ConfigError("leaves no fault to draw", field="--only", remedy=f"these are never drawn: {never}")
    return kinds


def _drawn(plan: RandomFaults, kinds: list[Kind]) -> Iterator[tuple[float, Fault]]:
    # Not for secrets: the same seed has to give the same faults.
    chance = random.Random(f"{plan.seed}/faults")  # noqa: S311 - a reproducible schedule, no secret
    at_s = 0.0
    while True:
        at_s += plan.mean_s * chance.uniform(0.5, 1.5)
        kind = chance.choice(kinds)
        yield at_s, fault(kind.name, chance.choice(kind.drawn))

"""The life of one connection as a state machine without I/O: the shell tells it what happened, it says what to do.

=============  ==========================================================  ===============================
state          entered when                                                left when
=============  ==========================================================  ===============================
SUBSCRIBING    the socket is open and authenticated                        every command has its answer
STREAMING      at least one subscription was confirmed                     :class:`~.effects.Disconnect`
ENDED          something asked for a new connection, or the shell stopped  never: the next has its own
=============  ==========================================================  ===============================

Data frames are followed in every state: they arrive between a command and its answer, and on other subscriptions
while one is being recovered. Only received frames count as liveness, and no answer to our own keep-alive does.
What is said to the exchange, and when it is whole again after a gap, is the :class:`Dialogue`'s to know. Every
``now_ns`` is a monotonic clock's.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from ssmd_common.sequences import SequenceGap, SequenceTracker
from ssmd_connector.causes import Cause
from ssmd_connector.effects import Disconnect, GapFound, Ready, Repeated, Resynced
from ssmd_connector.venues.venue import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ssmd_common.sequences import SequenceRepeat
    from ssmd_connector.effects import Effect
    from ssmd_connector.venues.venue import Route

__all__ = ["Dialogue", "Session", "State"]

_NS_PER_S = 1_000_000_000
_GAPS_FOLLOWED = 1024
_NOTHING: tuple[Effect, ...] = ()


class State(Enum):
    """Where a connection is in its life."""

    SUBSCRIBING = "subscribing"
    STREAMING = "streaming"
    ENDED = "ended"


class Dialogue(Protocol):
    """What one exchange is told, and how its answers are read. One for each connection; pure."""

    @property
    def watched(self) -> frozenset[str]:
        """The types of data frames that must be shown to :meth:`data`."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nothing is subscribed to, so that no frame is to be expected."""
        ...

    @property
    def refused(self) -> tuple[str, ...]:
        """What the exchange refused of what was asked for, in its words, and the connection goes on without."""
        ...

    def begin(self, now_ns: int) -> list[Effect]:
        """Say what is sent first."""
        ...

    def control(self, route: Route, frame: bytes, now_ns: int) -> list[Effect]:
        """Take a control frame."""
        ...

    def data(self, route: Route, frame: bytes, now_ns: int) -> list[Effect]:
        """Take a data frame of a watched type."""
        ...

    def gap(self, gap_no: int, gap: SequenceGap, now_ns: int) -> list[Effect]:
        """Begin to recover from a gap, where the exchange has a way."""
        ...

    def change_markets(self, added: Iterable[str], removed: Iterable[str], now_ns: int) -> list[Effect]:
        """Subscribe to other markets from now on, where the exchange has a way."""
        ...

    def refresh_books(self, now_ns: int) -> list[Effect]:
        """Ask for full state, where the exchange has a way."""
        ...

    def tick(self, now_ns: int) -> list[Effect]:
        """Look at the clock: deadlines of answers, keep-alive."""
        ...

    def end(self) -> list[Effect]:
        """Say what is sent before an orderly close."""
        ...


class Session:
    """One connection, from open to its end.

    Args:
        dialogue: The exchange's side of it.
        gap_numbers: Yields the numbers of gaps, shared by the session's connections.
        silence_ns: Longest silence before the connection counts as dead.
        sequence_starts_at: First number of every exchange sequence, where the exchange promises one.
    """

    def __init__(
        self, dialogue: Dialogue, *, gap_numbers: Iterator[int], silence_ns: int, sequence_starts_at: int | None
    ) -> None:
        self._dialogue = dialogue
        self._gap_numbers = gap_numbers
        self._silence_ns = silence_ns
        self._tracker = SequenceTracker(starts_at=sequence_starts_at)
        self._holey = SequenceTracker(leaves_holes=True)
        self._gaps: dict[tuple[str, int], int] = {}
        self._healed: dict[int, None] = {}
        self._last_frame_ns = 0
        self.state = State.SUBSCRIBING

    @property
    def refused(self) -> tuple[str, ...]:
        """What the exchange refused, and the connection goes on without, in its words."""
        return self._dialogue.refused

    def opened(self, now_ns: int) -> list[Effect]:
        """Begin: the socket is open."""
        self._last_frame_ns = now_ns
        return self._settle(self._dialogue.begin(now_ns))

    def received(self, route: Route, frame: bytes, now_ns: int, *, received_ns: int = 0) -> Sequence[Effect]:
        """Take one frame; the shell publishes it whatever comes of it.

        Args:
            route: Where the venue sends it.
            frame: Its bytes.
            now_ns: The monotonic clock, by which every deadline goes.
            received_ns: The wall clock, for the record.
        """
        # Where something was refused, heartbeats do not show that anything was granted.
        if not (route.is_pong or (route.kind is Kind.CONTROL and self._dialogue.refused)):
            self._last_frame_ns = now_ns
        effects = self._follow(route, now_ns, received_ns) if route.seq_key else None
        if route.kind is Kind.CONTROL:
            effects = (effects or []) + self._settle(self._dialogue.control(route, frame, now_ns))
        elif route.type in self._dialogue.watched:
            effects = (effects or []) + self._settle(self._dialogue.data(route, frame, now_ns))
        return effects or _NOTHING

    def change_markets(self, added: Iterable[str], removed: Iterable[str], now_ns: int) -> list[Effect]:
        """Subscribe to other markets from now on."""
        return self._settle(self._dialogue.change_markets(added, removed, now_ns))

    def refresh_books(self, now_ns: int) -> list[Effect]:
        """Ask for full state, so that what follows can be read without what came before."""
        return self._settle(self._dialogue.refresh_books(now_ns))

    def tick(self, now_ns: int) -> list[Effect]:
        """Look at the clock, about once a second."""
        if self.state is State.ENDED:
            return []
        if self._dialogue.is_idle:
            self.excuse_silence(now_ns)
        silent_ns = now_ns - self._last_frame_ns
        if silent_ns >= self._silence_ns:
            return self._settle([Disconnect(Cause.SILENT, f"no frame for {silent_ns / _NS_PER_S:.0f} s")])
        return self._settle(self._dialogue.tick(now_ns))

    def excuse_silence(self, now_ns: int) -> None:
        """Do not count the time up to now as silence: nobody was reading, or nothing was to be expected."""
        self._last_frame_ns = now_ns

    def stopping(self) -> list[Effect]:
        """End in order: say goodbye, take what still comes, decide nothing more."""
        farewell = self._dialogue.end() if self.state is not State.ENDED else []
        self.state = State.ENDED
        return farewell

    def silent_s(self, now_ns: int) -> float:
        """Return how long no frame came."""
        return max(0, now_ns - self._last_frame_ns) / _NS_PER_S

    def _follow(self, route: Route, now_ns: int, received_ns: int) -> list[Effect] | None:
        tracker = self._holey if route.leaves_holes else self._tracker
        if route.begins:
            for key in {key for key, _, _ in route.numbers}:
                tracker.forget(key)
        finding = tracker.observe(route.seq_key, route.seq, route.seq_last, at_ns=received_ns)
        effects = None if finding is None else self._found(finding, now_ns)
        for numbers in route.more_numbers:
            finding = tracker.observe(*numbers, at_ns=received_ns)
            if finding is not None:
                effects = (effects or []) + self._found(finding, now_ns)
        return effects

    def _found(self, finding: SequenceGap | SequenceRepeat, now_ns: int) -> list[Effect]:
        if not isinstance(finding, SequenceGap):
            popped = (self._gaps.pop((finding.key, after), None) for after in finding.healed)
            numbers = [number for number in popped if number is not None]
            self._healed |= dict.fromkeys(numbers)
            while len(self._healed) > _GAPS_FOLLOWED:
                del self._healed[next(iter(self._healed))]
            return [Repeated(finding), *(Resynced(number, finding.key, healed=True) for number in numbers)]
        number = self._gaps[finding.key, finding.after_seq] = next(self._gap_numbers)
        if len(self._gaps) > _GAPS_FOLLOWED:
            del self._gaps[next(iter(self._gaps))]
        return [GapFound(number, finding), *self._settle(self._dialogue.gap(number, finding, now_ns))]

    def _settle(self, effects: list[Effect]) -> list[Effect]:
        """Move on where the effects say so; nothing is decided after the end."""
        if self.state is State.ENDED:
            return []
        if self._healed:
            # Nothing is missing there any more, whatever was asked for meanwhile.
            effects = [one for one in effects if not (isinstance(one, Resynced) and one.gap_no in self._healed)]
        for index, effect in enumerate(effects):
            if isinstance(effect, Disconnect):
                self.state = State.ENDED
                return effects[: index + 1]
            if isinstance(effect, Ready):
                self.state = State.STREAMING
        return effects

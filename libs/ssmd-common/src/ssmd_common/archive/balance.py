"""The balance of a day's frames, counted by the connector's own numbers; pure.

Of every connection, what it had received by the end of the day, less what it had by the start of it, is archived,
or lost in a recorded gap, or unverifiable because the connector crashed before it could tell, or still under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from ssmd_common import events
from ssmd_common.archive.gaps import GapLayer
from ssmd_common.archive.index import ConnectionFrames, Event, Index, Reject
from ssmd_common.archive.manifest import GapEntry
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_common.ranges import Ranges, range_total

__all__ = ["Balance", "CertificatePart", "ConnectionBalance", "FrameAccounts", "total_balance"]

_INTERRUPTION = ".closed"


class CertificatePart(BaseModel):
    """A part of a certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Balance(CertificatePart):
    """Frames of the day: ``received + carried_in`` equals the sum of everything below."""

    received: int = Field(description="Frames the connectors count as received, in this day's record")
    carried_in: int = Field(description="Frames received before it that had not come to the archive yet")
    archived: int = Field(description="Distinct frames archived in this day")
    lost: dict[str, int] = Field(description="Frames in recorded gaps, by the layer that lost them")
    unverifiable: int = Field(description="Frames of a connector that crashed before it could tell their fate")
    carried_out: int = Field(description="Frames received that may still come: published, spooled or about to be")
    unaccounted: int = Field(description="Frames that nothing explains; 0 in a sound archive")


class ConnectionBalance(Balance):
    """The same of one connection."""

    session: str
    connection: int
    published: int = Field(description="Frames with a PubAck of NATS, as the connector told in this day's record")


def total_balance(connections: Sequence[ConnectionBalance]) -> Balance:
    """Return the sum of the connections' balances."""

    def total(name: str) -> int:
        return sum(getattr(connection, name) for connection in connections)

    layers = {layer.value for layer in GapLayer}
    return Balance(
        received=total("received"),
        carried_in=total("carried_in"),
        archived=total("archived"),
        lost={name: sum(connection.lost.get(name, 0) for connection in connections) for name in sorted(layers)},
        unverifiable=total("unverifiable"),
        carried_out=total("carried_out"),
        unaccounted=total("unaccounted"),
    )


@dataclass(slots=True)
class _Account:
    """One connection as the day's record tells of it.

    Attributes:
        frames: Numbers of the frames archived so far.
        lost_before: Numbers known to be lost before the day.
        reported: Frames received, as last reported.
        acked: Highest number up to which every frame has its PubAck.
        at_start: What ``received``, ``acked``, ``archived`` and ``carried`` were when the day began.
    """

    frames: Ranges = field(default_factory=Ranges)
    lost_before: Ranges = field(default_factory=Ranges)
    reported: int = 0
    acked: int = 0
    at_start: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def of(cls, state: ConnectionFrames) -> _Account:
        account = cls(Ranges(state.frames), Ranges(state.missing), state.reported or 0, state.acked_through)
        if state.closed == events.CRASHED:
            for first, end in account.outstanding():
                account.lost_before.add_range(first, end)  # the day it crashed in told that they are unverifiable
        account.at_start = (
            account.received,
            account.acked,
            len(account.frames),
            range_total(account.outstanding()),
        )
        return account

    @property
    def received(self) -> int:
        return max(self.reported, self.frames.end - 1, 0)

    def outstanding(self) -> list[tuple[int, int]]:
        """Return the ranges of numbers received that are neither archived nor were lost before the day."""
        missing = self.frames.missing(1, self.received + 1)
        return [part for first, end in missing for part in self.lost_before.missing(first, end)]

    def recovered(self) -> int:
        """Return how many frames came in this day that were called lost before."""
        missing = self.lost_before.pairs()
        return sum(end - first - range_total(self.frames.missing(first, end)) for first, end in missing)

    def tell(self, reported: int, acked_through: int) -> None:
        self.reported = max(self.reported, reported)
        self.acked = max(self.acked, acked_through)


class FrameAccounts:
    """Follows the connections of a day through its indexes."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, int], _Account] | None = None

    def fold(self, index: Index) -> None:
        """Add a segment; the first one's header says how things stood before."""
        if self._accounts is None:
            states = index.header.connections
            self._accounts = {(state.session, state.connection): _Account.of(state) for state in states}
        for block in index.blocks:
            for key, ranges in block.frames.items():
                session, _, number = key.rpartition(".")
                account = self._account(session, int(number))
                for first, end in ranges:
                    account.frames.add_range(first, end)
        for line in index.lines():
            if isinstance(line, Event | Reject):
                self._message(line)

    def _account(self, session: str, connection: int) -> _Account:
        accounts = self._accounts if self._accounts is not None else {}
        return accounts.setdefault((session, connection), _Account())

    def _message(self, line: Event | Reject) -> None:
        identity = None if line.msg_id is None else parse_msg_id(line.msg_id)
        if isinstance(identity, FrameId):
            self._account(identity.session, identity.connection).frames.add(identity.frame_no)
        event = events.decode_event(bytes(line.payload)) if isinstance(line, Event) else None
        match event:
            case events.Heartbeat():
                for state in event.connections:
                    self._account(event.session, state.connection).tell(state.frames, state.acked_through)
            case events.ConnectionClosed():
                self._account(event.session, event.connection).tell(event.frames, event.acked_through)
            case _:
                pass

    def balances(self, gaps: Sequence[GapEntry]) -> list[ConnectionBalance]:
        """Return each connection's balance, by session and connection.

        A gap of the stream's own sequences counts messages, not frames, so as many frames as it lost messages may
        be explained by it, of whichever connection.
        """
        in_stream = sum(
            gap.missing_count or 0 for gap in gaps if gap.layer == GapLayer.STREAM.value and not gap.key
        )
        unknowable = any(gap.missing_count is None for gap in gaps if gap.layer == "stream" and not gap.key)
        found = []
        for (session, connection), account in sorted((self._accounts or {}).items()):
            if not connection:
                continue  # the session's own events, before and beside its connections
            mine = [gap for gap in gaps if gap.key == f"{session}.{connection}"]
            balance = _balance(session, connection, account, mine)
            by_stream = balance.unaccounted if unknowable else min(balance.unaccounted, in_stream)
            if by_stream:
                in_stream -= min(by_stream, in_stream)
                lost = {**balance.lost, "stream": balance.lost.get("stream", 0) + by_stream}
                balance = balance.model_copy(
                    update={"lost": dict(sorted(lost.items())), "unaccounted": balance.unaccounted - by_stream}
                )
            if balance.received or balance.archived or balance.carried_in or balance.lost:
                found.append(balance)
        return found


def _balance(session: str, connection: int, account: _Account, gaps: Sequence[GapEntry]) -> ConnectionBalance:
    rest = Ranges(account.outstanding())
    lost: dict[str, int] = {}
    for gap in gaps:
        if gap.start_seq is None or gap.end_seq is None:
            continue
        before = len(rest)
        rest = _without(rest, gap.start_seq, gap.end_seq)
        if len(rest) < before:
            lost[gap.layer] = lost.get(gap.layer, 0) + before - len(rest)
    open_end = _without(rest, 1, account.acked + 1)
    crashed = any(gap.gap_id.endswith(_INTERRUPTION) and gap.cause == events.CRASHED for gap in gaps)
    received, acked, archived, carried = account.at_start
    return ConnectionBalance(
        session=session,
        connection=connection,
        received=account.received - received,
        carried_in=carried + account.recovered(),
        published=account.acked - acked,
        archived=len(account.frames) - archived,
        lost=dict(sorted(lost.items())),
        unverifiable=len(open_end) if crashed else 0,
        carried_out=0 if crashed else len(open_end),
        unaccounted=len(rest) - len(open_end),
    )


def _without(numbers: Ranges, first: int, end: int) -> Ranges:
    """Return a set of numbers without those of ``[first, end)``."""
    kept = Ranges()
    for low, high in numbers.pairs():
        kept.add_range(low, min(high, first))
        kept.add_range(max(low, end), high)
    return kept

"""What a simulator says it sent, held against what was captured: each frame is there once, or in a recorded gap."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ssmd_common.archive.gaps import Gap, GapLayer, merge_gaps
from ssmd_common.archive.index import Event, GapRecord
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.reader import day_segments
from ssmd_common.events import CRASHED, STOPPED, ConnectionClosed, Control, FrameUnparsed, decode_event

__all__ = ["Accounting", "SentConnection", "Withheld", "account", "matched", "read_sent"]

_DIGEST_BYTES = 8


class _Ended(msgspec.Struct):
    frames: int
    code: int | None
    by: str
    whole: bool


class _Line(msgspec.Struct):
    connection: int
    at_ns: int
    n: int = 0
    withheld: str = ""
    frame: str | None = None
    frame_base64: str | None = None
    ended: _Ended | None = None

    @property
    def bytes(self) -> bytes:
        return self.frame.encode() if self.frame is not None else base64.b64decode(self.frame_base64 or "")


class _Head(msgspec.Struct):
    sid: int | None = None
    seq: int | None = None


@dataclass
class Withheld:
    """A frame the simulator kept back.

    Attributes:
        fault: Why.
        frame: Its bytes.
        at_ns: When it would have been sent.
        sid: Its subscription, where it carries a sequence.
        seq: Its place in that sequence; 0 where it carries none.
        shown_by: The number of the next frame sent in that sequence: with it the loss shows. None where none was.
    """

    fault: str
    frame: bytes
    at_ns: int
    sid: int | None = None
    seq: int = 0
    shown_by: int | None = None


@dataclass
class SentConnection:
    """One connection, as the simulator saw it.

    Attributes:
        frames: What was sent on it, in order.
        sent_ns: When the last of them was.
        withheld: What a fault kept back.
        whole: Whether its client is known to have read every frame.
    """

    frames: list[bytes] = field(default_factory=list)
    sent_ns: int = 0
    withheld: list[Withheld] = field(default_factory=list)
    whole: bool = False


def digest(frame: bytes) -> bytes:
    """Return what stands for a frame where there are too many to keep."""
    return hashlib.blake2b(frame, digest_size=_DIGEST_BYTES).digest()


def read_sent(path: Path, *, of: Callable[[bytes], bytes] = bytes) -> dict[int, SentConnection]:
    """Read a simulator's sent log: its connections by number.

    Args:
        path: The log.
        of: What to keep of each frame sent.
    """
    found: dict[int, SentConnection] = {}
    # What was withheld and does not show yet, by connection and subscription.
    hidden: dict[tuple[int, int], list[Withheld]] = {}
    with path.open("rb") as lines:
        for text in lines:
            line = msgspec.json.decode(text, type=_Line)
            connection = found.setdefault(line.connection, SentConnection())
            if line.ended is not None:
                connection.whole = line.ended.whole
                assert line.ended.frames == len(connection.frames)
            elif line.withheld:
                withheld = Withheld(line.withheld, line.bytes, line.at_ns)
                head = _head(withheld.frame)
                if head.sid is not None and head.seq is not None:
                    withheld.sid, withheld.seq = head.sid, head.seq
                    hidden.setdefault((line.connection, head.sid), []).append(withheld)
                connection.withheld.append(withheld)
            else:
                connection.frames.append(of(line.bytes))
                connection.sent_ns = line.at_ns
                assert line.n == len(connection.frames)
                if hidden:
                    head = _head(line.bytes)
                    shown = hidden.pop((line.connection, head.sid), []) if head.sid is not None and head.seq else []
                    for withheld in shown:
                        withheld.shown_by = line.n
    return found


def _head(frame: bytes) -> _Head:
    try:
        return msgspec.json.decode(frame, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Head()


def matched(
    captured: Sequence[Sequence[bytes]], sent: dict[int, SentConnection]
) -> list[tuple[SentConnection, int]]:
    """Hold the frames captured on each connection against those sent on it.

    Args:
        captured: The frames, one at least, of each captured connection in the order received; the connections in
            their order.
        sent: What the simulator sent. Connections of which nothing was captured may come between.

    Returns:
        For each captured connection the one it is, and how many of its last frames never arrived: they were on
        their way when it ended. Everything before them is captured, once, in its order, with its bytes.

    Raises:
        AssertionError: It is otherwise: a frame is missing in the middle, twice there, changed, or was never sent.
    """
    numbers = iter(sorted(sent))
    found: list[tuple[SentConnection, int]] = []
    for place, frames in enumerate(captured, start=1):
        for number in numbers:
            connection = sent[number]
            if list(frames) == connection.frames[: len(frames)]:
                lost = len(connection.frames) - len(frames)
                assert not (connection.whole and lost), f"connection {place} was read whole, and {lost} are missing"
                found.append((connection, lost))
                break
            same = sum(one == other for one, other in zip(frames, connection.frames, strict=False))
            assert same == 0, (
                f"captured connection {place} is the simulator's {number}, but only {same} of its {len(frames)} "
                f"frames are in their place"
            )
        else:
            raise AssertionError(f"captured connection {place}, of {len(frames)} frames, was never sent")
    return found


@dataclass
class Accounting:
    """Where every frame sent is.

    Attributes:
        sent: How many frames the simulator sent.
        archived: How many are in the archive, once, with their bytes.
        in_gaps: How many are not, and lie in a recorded gap.
        withheld: How many frames a fault kept back, each in a recorded gap too.
        after_stop: How many were on their way when the connector stopped in order, for good.
        connections: How many connections were captured.
        gaps: How many gaps are recorded, by layer, cause and status.
        wrong: What is neither archived nor in a gap, in words.
    """

    sent: int = 0
    archived: int = 0
    in_gaps: int = 0
    withheld: int = 0
    after_stop: int = 0
    connections: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


@dataclass
class _Captured:
    """One connection, as the archive has it."""

    key: str
    frames: dict[int, bytes] = field(default_factory=dict)
    received_ns: int = 0
    first_seq: int = 0


class _Archive:
    """What an archive holds of a feed: frames by connection, and gaps."""

    def __init__(self, base: Path, feed: str) -> None:
        self._connections: dict[str, _Captured] = {}
        self.wrong: list[str] = []
        self.stopped: set[str] = set()
        gaps: list[Gap] = []
        for day in list_days(base, feed):
            for segment in day_segments(day):
                for record in segment.records():
                    if record.connection is not None and record.frame_no is not None:
                        self._add(
                            record.connection, record.frame_no, record.data, record.received_ns or 0, record.seq
                        )
                for line in segment.index.lines():
                    match line:
                        case Event():
                            self._add_event(line)
                        case GapRecord():
                            gaps.append(line.gap)
        self.gaps = merge_gaps(gaps)

    @property
    def connections(self) -> list[_Captured]:
        """The connections in the order in which they began."""
        return sorted(self._connections.values(), key=lambda one: one.first_seq)

    def connection_gap(self, key: str) -> Gap | None:
        """Return the gap after a connection, if one is recorded."""
        gaps = (gap for gap in self.gaps if gap.layer is GapLayer.CONNECTION and gap.key == key)
        return next((gap for gap in gaps if gap.cause != "not_kept"), None)

    def holds(self, key: str, seq: int) -> bool:
        """Tell whether a gap of this key holds a sequence number."""
        return any(
            gap.key == key and gap.start_seq is not None and gap.start_seq <= seq < (gap.end_seq or seq + 1)
            for gap in self.gaps
        )

    def _add_event(self, line: Event) -> None:
        event = decode_event(bytes(line.payload))
        if isinstance(event, FrameUnparsed):
            data = base64.b64decode(event.data)
        elif isinstance(event, Control):
            data = base64.b64decode(event.frame) if event.base64 else event.frame.encode()
        else:
            if isinstance(event, ConnectionClosed) and event.cause == STOPPED:
                self.stopped.add(f"{event.session}.{event.connection}")
            return
        self._add(f"{event.session}.{event.connection}", event.frame_no, data, event.at_ns, line.seq)

    def _add(self, key: str, frame_no: int, data: bytes, received_ns: int, seq: int) -> None:
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = _Captured(key, first_seq=seq)
        if frame_no in connection.frames:
            self.wrong.append(f"frame {frame_no} of {key} is there twice")
        connection.frames[frame_no] = digest(data)
        connection.received_ns = max(connection.received_ns, received_ns)


def account(base: Path, feed: str, sent_log: Path) -> Accounting:
    """Say where every frame of a simulator's sent log is: in the archive once, or in a recorded gap that holds it.

    A frame captured is one of its connection's, at its place, with its bytes. One that is not must be

    * behind the last that was captured on its connection, in the gap of layer ``connection`` that begins there with
      the next frame number and ends after it was sent; or below it, in a gap that counts its number;
    * or, kept back by the simulator, in a gap of the exchange's own sequence, or in that between two connections.
    """
    archive, sent = _Archive(base, feed), read_sent(sent_log, of=digest)
    found = Accounting(
        sent=sum(len(one.frames) for one in sent.values()),
        connections=len(archive.connections),
        gaps=dict(Counter(f"{gap.layer} {gap.cause} {gap.status}" for gap in archive.gaps)),
        wrong=list(archive.wrong),
    )
    numbers = sorted(sent)
    before: _Captured | None = None
    for captured in archive.connections:
        number = _counterpart(captured, numbers, sent)
        if number is None:
            found.wrong.append(f"{captured.key}: no connection of the exchange holds its frames")
            continue
        for passed in numbers[: numbers.index(number)]:
            _behind(found, archive, before, sent[passed], 0, f"connection {passed}")
        numbers = numbers[numbers.index(number) + 1 :]
        _compare(found, archive, captured, sent[number], f"connection {number}")
        before = captured
    for left in numbers:
        _behind(found, archive, before, sent[left], 0, f"connection {left}")
    return found


def _counterpart(captured: _Captured, numbers: Iterable[int], sent: dict[int, SentConnection]) -> int | None:
    """Return which of the exchange's connections a captured one is, by its first frame that is there."""
    first = min(captured.frames)
    for number in numbers:
        frames = sent[number].frames
        if first <= len(frames) and frames[first - 1] == captured.frames[first] and _alike(captured, frames):
            return number
    return None


def _alike(captured: _Captured, frames: Sequence[bytes]) -> bool:
    """Tell whether most of a captured connection is these: first frames are replies, and those of others too."""
    same = sum(number <= len(frames) and frames[number - 1] == one for number, one in captured.frames.items())
    return same * 2 > len(captured.frames)


def _compare(found: Accounting, archive: _Archive, captured: _Captured, sent: SentConnection, what: str) -> None:
    last = max(captured.frames)
    for number in range(1, last + 1):
        data = captured.frames.get(number)
        if data is None:
            if archive.holds(captured.key, number):
                found.in_gaps += 1
            else:
                found.wrong.append(f"{what}: frame {number} of {last} is missing, and in no gap")
        elif number > len(sent.frames) or data != sent.frames[number - 1]:
            found.wrong.append(f"{what}: frame {number} is not what was sent")
        else:
            found.archived += 1
    _behind(found, archive, captured, sent, last, what)
    for withheld in sent.withheld:
        if _is_in_gap(archive, captured, withheld, last):
            found.withheld += 1
        else:
            found.wrong.append(
                f"{what}: withheld for {withheld.fault}, and in no gap: {withheld.frame[:80].decode()}"
            )


def _is_in_gap(archive: _Archive, captured: _Captured, withheld: Withheld, last: int) -> bool:
    """Tell whether a frame kept back is in a gap of its sequence, or, where none shows it, behind its connection.

    Args:
        archive: The archive.
        captured: The connection.
        withheld: The frame.
        last: The number of the last frame captured on the connection.
    """
    if withheld.shown_by is not None and withheld.shown_by <= last:
        return archive.holds(f"{captured.key}/sid:{withheld.sid}", withheld.seq)
    gap = archive.connection_gap(captured.key)
    if gap is None:
        return captured.key in archive.stopped
    return gap.end_ns is None or gap.end_ns >= withheld.at_ns


def _behind(
    found: Accounting, archive: _Archive, captured: _Captured | None, sent: SentConnection, last: int, what: str
) -> None:
    """Account for the frames of a connection behind the last that is archived."""
    lost = len(sent.frames) - last
    if lost <= 0:
        return
    gap = archive.connection_gap(captured.key) if captured is not None else None
    if captured is not None and gap is None and captured.key in archive.stopped:
        # The gap after an orderly stop is recorded by whoever comes next, and nobody did.
        found.after_stop += lost
    elif captured is None or gap is None:
        found.wrong.append(f"{what}: {lost} frames behind {last} are missing, and in no gap")
    elif sent.whole and last and gap.cause != CRASHED:
        found.wrong.append(f"{what}: its client had read every frame, and {lost} behind {last} are missing")
    elif gap.start_ns > captured.received_ns or (gap.end_ns is not None and gap.end_ns < sent.sent_ns):
        found.wrong.append(f"{what}: {lost} frames behind {last} are outside of {gap}")
    elif last and gap.start_seq is not None and gap.start_seq != last + 1:
        found.wrong.append(f"{what}: the gap after frame {last} begins with {gap.start_seq}")
    else:
        found.in_gaps += lost

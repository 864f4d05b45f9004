"""The frames of a sealed segment, data and control, each connection's in the order they came off its socket.

The data file alone lacks the control frames, which lie in the evidence, and its order is that of the PubAcks.
"""

from __future__ import annotations

import base64
import heapq
from itertools import count
from typing import TYPE_CHECKING

from ssmd_common.archive.index import Event, Reject
from ssmd_common.archive.layout import DATA_SUFFIX, EVIDENCE, INDEX_SUFFIX, day_dates, is_segment_stem
from ssmd_common.archive.reader import Record
from ssmd_common.events import carried_frame, decode_event
from ssmd_common.frames import FrameId, parse_msg_id
from ssmd_connector.recordings import RecordedFrame
from ssmd_connector.replay_source import find_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ssmd_connector.replay_source import Item, Source

__all__ = ["in_frame_order", "segment_frames"]

_OVERTAKEN = 100_000
"""Acknowledgements overtake one another within a connector's window, which is no larger."""


def segment_frames(path: Path) -> Iterator[RecordedFrame] | None:
    """Return the frames of a segment; None for what is none, or lies apart from its evidence.

    Raises:
        ConfigError: The segment cannot be read.
        ArchiveError: A file is damaged, at once or while the frames are read.
    """
    stem = path.name.removesuffix(DATA_SUFFIX)
    folder = path.resolve().parent
    is_segment = path.name.endswith(DATA_SUFFIX) and is_segment_stem(stem) and bool(day_dates([folder.name]))
    if not is_segment or not (folder / EVIDENCE / f"{stem}{INDEX_SUFFIX}").is_file():
        return None
    return in_frame_order(_frames(find_source([path])))


def in_frame_order(frames: Iterable[RecordedFrame]) -> Iterator[RecordedFrame]:
    """Iterate over frames in the order of their numbers, connection by connection; those without keep theirs."""
    waiting: dict[str, list[tuple[int, int, RecordedFrame]]] = {}
    places = count()
    for frame in frames:
        heap = waiting.setdefault(frame.connection, [])
        heapq.heappush(heap, (frame.frame_no or 0, next(places), frame))
        if len(heap) > _OVERTAKEN:
            yield heapq.heappop(heap)[-1]
    for heap in waiting.values():
        while heap:
            yield heapq.heappop(heap)[-1]


def _frames(source: Source) -> Iterator[RecordedFrame]:
    lines = count(1)
    for _segment, items in source.groups():
        for item in items:
            frame = _frame(item, lines)
            if frame is not None:
                yield frame


def _frame(item: Item, lines: Iterator[int]) -> RecordedFrame | None:
    """Return the frame an item is about; None for one that is about none, or does not hold it (an oversize one)."""
    match item:
        case Record():
            return RecordedFrame(next(lines), item.data, item.connection or "", item.frame_no)
        case Event():
            data = carried_frame(decode_event(bytes(item.payload)))
            return None if data is None else _identified(item.msg_id, data)
        case Reject():
            return _identified(item.msg_id or "", base64.b64decode(item.data))
        case _:
            return None


def _identified(msg_id: str, data: bytes) -> RecordedFrame:
    identity = parse_msg_id(msg_id)
    if not isinstance(identity, FrameId):
        return RecordedFrame(None, data)
    return RecordedFrame(None, data, f"{identity.session}.{identity.connection}", identity.frame_no)

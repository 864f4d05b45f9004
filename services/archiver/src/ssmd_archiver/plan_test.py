from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.plan import jump_gaps
from ssmd_common.archive.gaps import Gap
from ssmd_common.nats.streams import StreamInfo
from ssmd_common.ranges import Ranges


def _jump(first_seq: int, deleted: tuple[int, ...], start: int, end: int) -> list[Gap]:
    info = StreamInfo(
        name="S",
        subjects=(),
        created="",
        server_ns=0,
        first_seq=first_seq,
        last_seq=100,
        last_ns=0,
        messages=0,
        bytes=0,
        deleted=deleted,
    )
    return jump_gaps(info, epoch=1, start_seq=start, end_seq=end, start_ns=5, end_ns=9)


def test_what_lies_below_the_first_sequence_fell_to_retention() -> None:
    assert [(g.cause, g.start_seq, g.end_seq, g.missing_count) for g in _jump(20, (), 10, 20)] == [
        ("retention", 10, 20, 10)
    ]


def test_deleted_and_lost_messages_are_told_apart() -> None:
    gaps = _jump(12, (13, 14), 10, 16)
    assert [(g.cause, g.start_seq, g.end_seq) for g in gaps] == [
        ("retention", 10, 12),
        ("lost", 12, 13),
        ("deleted", 13, 15),
        ("lost", 15, 16),
    ]


@settings(deadline=None)
@given(st.integers(1, 60), st.sets(st.integers(1, 60)), st.integers(1, 30), st.integers(1, 30))
def test_the_gaps_cover_the_jump_exactly_once(first_seq: int, deleted: set[int], start: int, length: int) -> None:
    gaps = _jump(first_seq, tuple(deleted), start, start + length)
    covered = Ranges()
    for gap in gaps:
        assert gap.start_seq is not None
        assert gap.end_seq is not None
        assert gap.missing_count == gap.end_seq - gap.start_seq > 0
        covered.add_range(gap.start_seq, gap.end_seq)
    assert covered.pairs() == [(start, start + length)]
    assert sum(gap.missing_count or 0 for gap in gaps) == length
    assert len({gap.gap_id for gap in gaps}) == len(gaps)

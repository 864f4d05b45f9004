from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.sequences import SequenceGap, SequenceTracker
from ssmd_simulator import faults, harm
from ssmd_simulator.harm import MALFORMED, Harm, Leaving

FRAME_FAULTS = [name for name, kind in faults.CATALOGUE.items() if kind.where is faults.Where.FRAMES]


def delta(seq: int, sid: int = 1) -> bytes:
    return b'{"type":"orderbook_delta","sid":%d,"seq":%d,"msg":{"market_ticker":"A.5"}}' % (sid, seq)


TICKER = b'{"type":"ticker","sid":2,"msg":{"market_ticker":"A.5"}}'
OK = b'{"type":"ok","id":3,"sid":1,"seq":9,"msg":{}}'
SUBSCRIBED = b'{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":3}}'
OTHERS = [TICKER, OK, SUBSCRIBED, b"no JSON", b"\xff", b"[]", b"{}"]


def armed(*names: str, number: int = 0) -> Harm:
    suffering = Harm(number)
    for text in names:
        suffering.arm(faults.parse(text).fault)
    return suffering


def sent(leaving: list[Leaving]) -> list[bytes]:
    return [one.frame for one in leaving if not one.withheld]


@st.composite
def traffic(draw: st.DrawFn) -> list[list[bytes]]:
    """Groups of frames of two sequences and of none."""
    seqs = {1: 0, 3: 0}
    groups: list[list[bytes]] = []
    for size in draw(st.lists(st.integers(0, 5), max_size=20)):
        group: list[bytes] = []
        for _ in range(size):
            other = draw(st.sampled_from([None, None, *OTHERS]))
            if other is None:
                sid = draw(st.sampled_from([1, 3]))
                seqs[sid] += 1
                other = delta(seqs[sid], sid=sid)
            group.append(other)
        groups.append(group)
    return groups


@settings(deadline=None)
@given(
    groups=traffic(),
    arms=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(FRAME_FAULTS)), max_size=5),
    number=st.integers(0, 30),
)
def test_every_frame_is_sent_or_withheld_once_but_for_copies_and_what_was_put_in(
    groups: list[list[bytes]], arms: list[tuple[int, str]], number: int
) -> None:
    suffering = Harm(number)
    left: list[Leaving] = []
    for turn, group in enumerate(groups):
        for at, name in arms:
            if at == turn:
                suffering.arm(faults.fault(name, 2000 if name == "huge-frame" else None))
        left += suffering.leaving(group)
    left += suffering.end()
    original = Counter(frame for group in groups for frame in group)
    out = Counter(_unpadded(one.frame) for one in left if one.fault not in ("duplicate-seq", "malformed-json"))
    assert out == original
    assert {one.frame for one in left if one.fault == "malformed-json"} <= set(MALFORMED)
    assert {one.fault for one in left if one.withheld} <= {"missing-seq", "reordered-seq"}


def _unpadded(frame: bytes) -> bytes:
    head, mark, _ = frame.partition(b',"padding":"')
    return head + b"}" if mark else frame


@settings(deadline=None)
@given(groups=traffic())
def test_without_a_fault_every_frame_leaves_as_it_is(groups: list[list[bytes]]) -> None:
    idle = Harm()
    for group in groups:
        assert idle.leaving(group) == [Leaving(frame) for frame in group]
    assert (idle.is_idle, idle.end()) == (True, [])


@settings(deadline=None)
@given(count=st.integers(1, 5), before=st.integers(1, 5), after=st.integers(1, 5))
def test_missing_frames_are_a_gap_of_so_many_to_a_tracker(count: int, before: int, after: int) -> None:
    suffering, tracker = Harm(), SequenceTracker(starts_at=1)
    findings = []
    for seq in range(1, before + count + after + 1):
        if seq == before + 1:
            suffering.arm(faults.fault("missing-seq", count))
        for frame in sent(suffering.leaving([delta(seq), TICKER])):
            head = json.loads(frame)
            if "seq" in head:
                findings.append(tracker.observe("sid:1", head["seq"]))
    (gap,) = [finding for finding in findings if finding is not None]
    assert isinstance(gap, SequenceGap)
    assert (gap.after_seq, gap.missing_count) == (before, count)


def test_a_duplicate_follows_at_once() -> None:
    suffering = armed("duplicate-seq=2")
    assert sent(suffering.leaving([delta(1), TICKER, delta(2), delta(3)])) == [
        delta(1),
        delta(1),
        TICKER,
        delta(2),
        delta(2),
        delta(3),
    ]


def test_a_reordered_frame_comes_after_the_next_of_a_sequence_even_much_later() -> None:
    suffering = armed("reordered-seq")
    assert sent(suffering.leaving([delta(1), TICKER])) == [TICKER]
    assert sent(suffering.leaving([TICKER])) == [TICKER]
    assert sent(suffering.leaving([delta(1, sid=3)])) == [delta(1, sid=3)]
    assert sent(suffering.leaving([delta(2), delta(3)])) == [delta(2), delta(1), delta(3)]
    assert suffering.is_idle


def test_a_reordered_frame_that_nothing_follows_was_withheld() -> None:
    suffering = armed("reordered-seq")
    assert suffering.leaving([delta(1)]) == []
    assert suffering.end() == [Leaving(delta(1), "reordered-seq", withheld=True)]


def test_replies_are_never_lost_doubled_or_padded() -> None:
    suffering = armed("missing-seq=9", "duplicate-seq=9", "huge-frame")
    assert sent(suffering.leaving([OK, SUBSCRIBED])) == [OK, SUBSCRIBED]


@pytest.mark.parametrize("frame", [delta(1), TICKER])
def test_a_huge_frame_has_the_size_asked_for_and_reads_as_before(frame: bytes) -> None:
    (huge,) = sent(armed("huge-frame=4194304").leaving([frame]))
    assert len(huge) == 4 << 20
    read = json.loads(huge)
    del read["padding"]
    assert read == json.loads(frame)


def test_malformed_frames_come_in_turn_between_others_and_none_is_json() -> None:
    suffering = armed(f"malformed-json={len(MALFORMED)}", number=3)
    left = [suffering.leaving([TICKER]) for _ in MALFORMED]
    assert [pair[0].frame for pair in left] == [TICKER] * len(MALFORMED)
    assert [pair[1].frame for pair in left] == [*MALFORMED[3:], *MALFORMED[:3]]
    assert suffering.is_idle
    for frame in MALFORMED:
        with pytest.raises((ValueError, RecursionError)):
            json.loads(frame, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def test_held_acks_come_last_first_after_some_data() -> None:
    suffering, other = Harm(), SUBSCRIBED.replace(b'"id":1', b'"id":2')
    suffering.holds_acks = True
    assert suffering.leaving([SUBSCRIBED, other]) == []
    assert sent(suffering.leaving([TICKER])) == [TICKER, other, SUBSCRIBED]
    suffering.leaving([SUBSCRIBED])
    suffering.holds_acks = False
    assert not suffering.is_idle
    assert [one.frame for one in suffering.released()] == [SUBSCRIBED]
    assert suffering.is_idle


@pytest.mark.parametrize(
    ("message", "names", "refused"),
    [
        (b'{"id":4,"cmd":"list_subscriptions"}', ["error-18"], "error-18"),
        (b'{"id":4,"cmd":"list_subscriptions"}', ["error-26", "error-27"], "error-27"),
        (b'{"id":4,"cmd":"subscribe","params":{"channels":["trade"]}}', ["error-26"], "error-26"),
        (
            b'{"id":4,"cmd":"update_subscription","params":{"sids":[1],"action":"add_markets"}}',
            ["error-26"],
            "error-26",
        ),
        (b'{"id":4,"cmd":"update_subscription","params":{"sids":[1],"action":"get_snapshot"}}', ["error-26"], None),
        (b"no command", ["error-18"], None),
    ],
)
def test_a_command_is_refused_by_the_first_fault_that_is_about_it(
    message: bytes, names: list[str], refused: str | None
) -> None:
    found = harm.refusal(message, names)
    if refused is None:
        assert found is None
    else:
        assert found is not None
        name, answer = found
        assert (name, json.loads(answer)["id"]) == (refused, 4)
        assert json.loads(answer)["msg"]["code"] == int(refused[-2:])

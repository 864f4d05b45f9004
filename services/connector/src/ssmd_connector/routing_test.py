from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.websocket import WebsocketSettings
from ssmd_connector.recordings import RecordedFrame
from ssmd_connector.routing import Routing, route_all
from ssmd_connector.venues.generic import GenericVenue
from ssmd_connector.venues.kalshi import KalshiVenue

if TYPE_CHECKING:
    from collections.abc import Callable

    from ssmd_connector.venues.venue import Venue


def generic(*sequences: dict[str, Any]) -> Venue:
    return GenericVenue(
        WebsocketSettings.model_validate(
            {
                "route": {"type": ["type"], "symbol": ["symbol"]},
                "control": {"types": ["beat"]},
                "sequences": sequences,
            }
        )
    )


@dataclass(frozen=True)
class Rule:
    """One way of numbering, with a stream of it: frames of two counters, taking turns.

    ``numbers`` tells which numbers the frame at an index of a counter covers, half-open.
    """

    venue: Venue
    numbers: Callable[[int], tuple[int, int]]
    frame: Callable[[str, int, int], Any]

    def line(self, place: int, counter: str) -> bytes:
        first, end = self.numbers(place)
        return json.dumps(self.frame(counter, first, end)).encode()


PER_SYMBOL = {"key": ["symbol"]}
RULES = {
    "sid": Rule(
        KalshiVenue(),
        lambda place: (place + 1, place + 2),
        lambda sid, first, _end: {"type": "trade", "sid": "ab".index(sid) + 1, "seq": first, "msg": {}},
    ),
    "contiguous": Rule(
        generic({"kind": "contiguous", "value": "n", **PER_SYMBOL}),
        lambda place: (place + 7_000_000_000, place + 7_000_000_001),
        lambda symbol, first, _end: {"type": "match", "symbol": symbol, "n": first},
    ),
    "contiguous as text": Rule(
        generic({"kind": "contiguous", "value": "n", **PER_SYMBOL}),
        lambda place: (place, place + 1),
        lambda symbol, first, _end: {"type": "match", "symbol": symbol, "n": str(first)},
    ),
    "range": Rule(
        generic({"kind": "range", "first": "U", "last": "u", **PER_SYMBOL}),
        lambda place: (place * 5 + 100, place * 5 + 105),
        lambda symbol, first, end: {"type": "depthUpdate", "symbol": symbol, "U": first, "u": end - 1},
    ),
    "chain": Rule(
        generic({"kind": "range", "previous": "pu", "last": "u", **PER_SYMBOL}),
        lambda place: (place * 5 + 100, place * 5 + 105),
        lambda symbol, first, end: {"type": "change", "symbol": symbol, "pu": str(first - 1), "u": end - 1},
    ),
    "several in a frame": Rule(
        generic({"kind": "contiguous", "value": "trades.*.id", **PER_SYMBOL}),
        lambda place: (place * 3, place * 3 + 3),
        lambda symbol, first, end: {
            "type": "trade",
            "symbol": symbol,
            "trades": [{"id": number} for number in range(first, end)],
        },
    ),
}
COUNTERS = ("a", "b")
LENGTH = 12


def followed(rule: Rule, order: list[tuple[str, int]]) -> Routing:
    lines = [rule.line(place, counter) for counter, place in order]
    return route_all(rule.venue, [RecordedFrame(number, line) for number, line in enumerate(lines, 1)])


def whole() -> list[tuple[str, int]]:
    return [(counter, place) for place in range(LENGTH) for counter in COUNTERS]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_stream_as_it_was_sent_has_no_finding(rule: Rule) -> None:
    routing = followed(rule, whole())
    assert routing.breaks == []
    assert len(routing.sequences) == 2
    assert routing.unverifiable == []


@given(rule=st.sampled_from(list(RULES.values())), data=st.data())
@settings(deadline=None)
def test_what_was_dropped_repeated_and_reordered_is_found_and_nothing_else(rule: Rule, data: st.DataObject) -> None:
    """Any frames in any order: what was found is what a ledger of all numbers says."""
    order = data.draw(st.lists(st.sampled_from(whole()), max_size=40))
    routing = followed(rule, order)
    for counter in COUNTERS:
        places = [place for name, place in order if name == counter]
        if not places:
            continue
        behind = [place for at, place in enumerate(places) if place <= max(places[:at], default=-1)]
        (sequence,) = [
            sequence
            for key, sequence in routing.sequences.items()
            if key in (f"sid:{'ab'.index(counter) + 1}", f"all:{counter}")
        ]
        assert sequence.frames == len(places)
        assert sequence.repeated + sequence.late == len(behind)
        # A frame before the first one received is no hole: the stream may be listened to from anywhere.
        width = rule.numbers(0)[1] - rule.numbers(0)[0]
        assert sequence.missing == width * len(set(range(places[0], max(places))) - set(places))


@given(rule=st.sampled_from(list(RULES.values())), data=st.data())
@settings(deadline=None)
def test_each_single_fault_is_told_for_what_it_is(rule: Rule, data: st.DataObject) -> None:
    place = data.draw(st.integers(1, LENGTH - 2))
    order = whole()
    at = order.index(("a", place))

    dropped = followed(rule, order[:at] + order[at + 1 :])
    width = rule.numbers(0)[1] - rule.numbers(0)[0]
    assert [(s.gaps, s.missing, s.repeated, s.late) for s in dropped.sequences.values()] == [
        (1, width, 0, 0),
        (0, 0, 0, 0),
    ]

    twice = followed(rule, [*order[:at], order[at], *order[at:]])
    assert [(s.gaps, s.missing, s.repeated, s.late) for s in twice.sequences.values()] == [
        (0, 0, 1, 0),
        (0, 0, 0, 0),
    ]

    later = order.index(("a", place + 1))
    order[at], order[later] = order[later], order[at]
    swapped = followed(rule, order)
    assert [(s.gaps, s.missing, s.repeated, s.late) for s in swapped.sequences.values()] == [
        (1, 0, 0, 1),
        (0, 0, 0, 0),
    ]


def test_of_numbers_that_leave_holes_only_those_that_do_not_rise_are_found() -> None:
    venue = generic({"kind": "increasing", "value": "n", "key": ["symbol"]})
    frames = [{"type": "ticker", "symbol": "A", "n": number} for number in (10, 25, 25, 12, 30)]
    routing = route_all(
        venue, [RecordedFrame(at, json.dumps(frame).encode()) for at, frame in enumerate(frames, 1)]
    )
    assert [(finding.line, finding.text) for finding in routing.breaks] == [
        (3, "all:A: 25 repeated behind 25"),
        (4, "all:A: 12 late behind 25"),
    ]
    assert routing.unverifiable == ["ticker"]


def test_a_type_of_which_some_frames_are_not_numbered_is_unverifiable() -> None:
    venue = generic({"kind": "contiguous", "value": "n"})
    routing = route_all(venue, [RecordedFrame(1, b'{"type":"t","n":1}'), RecordedFrame(2, b'{"type":"t"}')])
    assert routing.unverifiable == ["t"]


def test_what_could_not_be_routed_is_told_by_line_and_reason() -> None:
    lines = [b'{"type":"t"}', b"not json", b'{"other":1}', b'{"type":"beat"}', b'{"id":1,"cmd":"subscribe"}']
    routing = route_all(generic(), [RecordedFrame(at, line) for at, line in enumerate(lines, 10)])
    assert [finding.line for finding in routing.lost] == [11, 12, 14]
    assert [finding.text.split(": ")[-1] for finding in routing.lost[:2]] == ["not json", '{"other":1}']
    assert dict(routing.kinds) == {"control": 1, "data": 3, "unparsed": 1}
    assert json.loads(json.dumps(routing.summary()))["not_routed"][0]["line"] == 11


def test_a_command_to_kalshi_is_named_as_one_and_a_frame_that_only_looks_like_it_is_not_routed() -> None:
    lines = [b'{"id":1,"cmd":"subscribe","params":{}}', b'{"cmd":"subscribe"}', b'{"id":1,"cmd":7}']
    routing = route_all(KalshiVenue(), [RecordedFrame(at, line) for at, line in enumerate(lines, 1)])
    assert dict(routing.kinds) == {"client": 1, "data": 2}
    assert [finding.line for finding in routing.lost] == [2, 3]


def test_numbers_that_begin_anew_are_followed_from_there_and_what_was_missing_stays_missing() -> None:
    venue = generic(
        {"kind": "contiguous", "value": "n", **PER_SYMBOL, "restart": [{"path": "is", "equals": "snapshot"}]}
    )
    numbers = [("delta", 90), ("delta", 92), ("snapshot", 1), ("delta", 2), ("delta", 4), ("delta", 2)]
    frames = [{"type": "book", "symbol": "a", "is": what, "n": number} for what, number in numbers]
    routing = route_all(venue, [RecordedFrame(line, json.dumps(f).encode()) for line, f in enumerate(frames, 1)])
    (sequence,) = routing.sequences.values()
    assert (sequence.first, sequence.last, sequence.gaps, sequence.missing) == (1, 92, 2, 2)
    assert [finding.text for finding in routing.breaks] == [
        "all:a: 1 missing between 90 and 92",
        "all:a: 1 missing between 2 and 4",
        "all:a: 2 repeated behind 4",
    ]

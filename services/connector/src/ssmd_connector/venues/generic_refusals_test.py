from __future__ import annotations

import json

from ssmd_connector.venues.generic_refusals import PATIENCE, Refusals


def on_connections(refusals: Refusals, *connections: tuple[str, ...]) -> list[bool]:
    """Return after each connection's refusals whether they are to stay."""
    found = []
    for texts in connections:
        refusals.begin()
        for text in texts:
            refusals.take(text)
        found.append(refusals.are_to_stay)
    return found


def kraken(symbol: str, number: int) -> str:
    return json.dumps(
        {
            "error": f"Currency pair not supported {symbol}",
            "req_id": number,
            "success": False,
            "time_in": f"2026-11-23T09:21:{number:02}.428340Z",
        }
    )


def test_the_same_refusal_stays_after_so_many_connections_whatever_its_times_and_ids() -> None:
    told = [(kraken("OLD/USD", number),) for number in range(PATIENCE)]
    assert on_connections(Refusals(), *told) == [False] * (PATIENCE - 1) + [True]


def test_several_stay_together_in_whatever_order_they_come() -> None:
    first, second = (kraken("OLD/USD", 1), kraken("ODD/USD", 2)), (kraken("ODD/USD", 3), kraken("OLD/USD", 4))
    assert on_connections(Refusals(), first, second, first) == [False, False, True]


def test_a_new_one_beside_one_that_stays_asks_for_a_new_connection() -> None:
    refusals = Refusals()
    old, new = kraken("OLD/USD", 1), kraken("NEW/USD", 2)
    assert on_connections(refusals, (old,), (old,), (old,), (old, new), (old,)) == [False, False, True, False, True]
    assert on_connections(refusals, (old, new)) == [False]


def test_a_connection_that_was_lost_early_tells_nothing_and_one_that_lived_unrefused_ends_the_row() -> None:
    refusals = Refusals()
    assert on_connections(refusals, ("no",), ("no",), (), ("no",)) == [False, False, True, True]
    refusals.begin()
    refusals.forget_unheard()
    assert on_connections(refusals, ("no",)) == [False]


def test_what_is_heard_is_told_once_and_never_grows_without_bound() -> None:
    refusals = Refusals()
    assert [refusals.take(text) for text in ("no such a", "no such b", "no such a")] == [True, True, False]
    assert refusals.heard == ("no such a", "no such b")
    letters = "abcdefghijklmnopqrstuvwxyz"
    taken = sum(refusals.take(f"{a}{b}{c}") for a in letters for b in letters for c in letters[:3])
    assert 2 + taken == len(refusals.heard) < 26 * 26 * 3

from __future__ import annotations

import pytest

from ssmd_simulator.directory import Directory

NOW_NS = 1_786_085_241_920_369_000


def test_what_becomes_of_markets_is_news_in_its_order() -> None:
    directory = Directory(2)
    assert directory.news == []
    new = directory.open_next(NOW_NS)
    old = directory.entries[0]
    directory.settle(old.listing.ticker, NOW_NS + 10**9)
    assert [(one.kind, one.entry) for one in directory.news] == [
        ("created", new),
        ("activated", new),
        ("close_date_updated", old),
        ("determined", old),
        ("settled", old),
    ]
    assert (old.is_open, old.settled_ts, old.closes_ts, old.result in {"yes", "no"}) == (
        False,
        1786085242,
        1786085242,
        True,
    )


def test_a_market_is_settled_once() -> None:
    directory = Directory(2)
    ticker = directory.entries[0].listing.ticker
    directory.settle(ticker, NOW_NS)
    with pytest.raises(KeyError):
        directory.settle(ticker, NOW_NS)
    assert len(directory.news) == 3


def test_the_oldest_goes_first_and_the_last_one_stays() -> None:
    directory = Directory(3)
    settled = [directory.settle_oldest(NOW_NS) for _ in range(4)]
    assert settled == [directory.entries[0], directory.entries[1], None, None]
    assert directory.entries[2].is_open
    directory.open_next(NOW_NS)
    assert directory.settle_oldest(NOW_NS) is directory.entries[2]

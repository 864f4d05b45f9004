from __future__ import annotations

from datetime import time
from typing import Any

import pytest

from ssmd_common.config.kalshi import Discover, KalshiSettings
from ssmd_common.config.loading import parse_model
from ssmd_common.config.paths import path_segments
from ssmd_common.config.websocket import WebsocketSettings
from ssmd_common.errors import ConfigError


def _kalshi(text: str) -> KalshiSettings:
    return parse_model(text, KalshiSettings, file="f.yaml")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("{}", time(0)),
        ('{snapshot_at: "00:00Z"}', time(0)),
        ("{snapshot_at: 06:30Z}", time(6, 30)),
        ("{snapshot_at: 23:59:59Z}", time(23, 59, 59)),
        ("{snapshot_at: off}", None),
        ('{snapshot_at: "off"}', None),
        ("{snapshot_at: null}", None),
    ],
)
def test_the_daily_snapshots_have_a_time_in_utc_or_none(text: str, at: time | None) -> None:
    assert _kalshi(text).snapshot_at == at


@pytest.mark.parametrize("value", ["12:30", '"12:30"', "24:00Z", "12:60Z", "true", "[1]", "12:30+01:00"])
def test_a_time_without_z_or_beyond_the_day_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml: snapshot_at: .* is no time of the day in UTC \(write it as"):
        _kalshi(f"{{snapshot_at: {value}}}")


def test_one_name_may_stand_for_a_list_of_them() -> None:
    found = _kalshi("discover: {series: KXBTCD, events: [A, B], status: open, every: 5m}").discovery
    assert found is not None
    assert (found.series, found.events, found.status) == (("KXBTCD",), ("A", "B"), ("open",))
    assert found.every.seconds == 300
    assert str(found) == "series KXBTCD, event A, event B markets, open, every 5m"
    assert str(Discover()) == "all markets, open or unopened, every 10m"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{discover: {status: active}}", r"discover\.status\.0: 'active' is not allowed \(use 'open', 'unopened'"),
        ("{discover: {status: []}}", r"discover\.status"),
        ("{discover: {serie: A}}", r"discover\.serie: unknown key \(did you mean 'series'"),
        ("{discover: {every: 0m}}", r"discover\.every: '0m' is no length of time"),
        ("{markets: [A], discover: {}}", "markets are listed and discovered"),
        ("{sockets: 0}", "sockets"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        _kalshi(text)


@pytest.mark.parametrize(
    ("settings", "discovery"),
    [
        ({}, None),
        ({"channels": ["ticker", "orderbook_delta"]}, Discover()),
        ({"channels": ["orderbook_delta"], "markets": ["A"]}, None),
        ({"discover": {"series": ["S"]}}, Discover(series=("S",))),
    ],
)
def test_books_of_all_markets_are_discovered_and_a_list_asks_nobody(
    settings: dict[str, Any], discovery: Discover | None
) -> None:
    assert KalshiSettings.model_validate(settings).discovery == discovery


@pytest.mark.parametrize(
    ("discover", "everything"),
    [({}, True), ({"series": ["S"]}, False), ({"events": ["E"]}, False), ({"multivariate": "exclude"}, False)],
)
def test_only_an_unbounded_search_covers_everything(discover: dict[str, Any], *, everything: bool) -> None:
    assert Discover.model_validate(discover).covers_everything is everything


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ('\'{"s": "{symbol}"}\'', "is text, in which nothing is filled in \\(write the JSON as YAML"),
        ('\'{"s": "{id}"}\'', "is text, in which nothing is filled in"),
        ('{a: {"x.{symbol}": true}}', "{symbol} stands in a key, which is not filled in \\(put it into a value"),
        ('{a: ["{SYMBOL}@trade"]}', "{SYMBOL} is nothing to fill in \\(there are {symbols}, {symbol}, {id}"),
        ('{s: "a {symbols}"}', "{symbols} stands beside other text \\(write {symbol} there"),
        ("7", "is no frame"),
        ("[]", "is no frame"),
        ("{1: a}", "is no JSON|Input should be a valid string|text"),
    ],
)
def test_a_subscribe_frame_that_would_go_out_unfilled_is_refused(frame: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"subscribe\.0.*(?:{problem})"):
        parse_model(f"{{route: {{type: [t]}}, subscribe: [{frame}]}}", WebsocketSettings, file="f.yaml")


@pytest.mark.parametrize("answer", ["{}", "{text: pong, path: id}", "{text: pong, equals: 1}"])
def test_an_answer_is_a_text_or_a_path(answer: str) -> None:
    text = f"{{route: {{type: [t]}}, keep_alive: {{text: ping, interval_s: 1, answer: {answer}}}}}"
    with pytest.raises(
        ConfigError, match=r"keep_alive\.answer: is a text alone, or a path \(give the text, or path"
    ):
        parse_model(text, WebsocketSettings, file="f.yaml")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("{kind: range, value: u}", "kind range goes with first and last alone, or previous and last"),
        (
            "{kind: range, first: U, previous: pu, last: u}",
            "kind range goes with first and last alone, or previous",
        ),
        ("{kind: contiguous, last: u}", r"kind contiguous goes with value alone \(give it, and nothing else"),
    ],
)
def test_a_rule_with_the_places_of_another_kind_is_refused(rule: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"sequences\.0: {problem}"):
        parse_model(f"{{route: {{type: [t]}}, sequences: [{rule}]}}", WebsocketSettings, file="f.yaml")


def test_an_index_may_stand_for_a_path_and_counts_from_the_end_below_zero() -> None:
    text = "{route: {type: [1, {path: -1}], symbol: [0]}, sequences: [{kind: contiguous, value: -2}]}"
    found = parse_model(text, WebsocketSettings, file="f.yaml")
    assert found.route is not None
    assert [place.segments for place in (*found.route.type, *found.route.symbol)] == [(1,), (-1,), (0,)]
    assert found.sequences[0].value is not None
    assert found.sequences[0].value.segments == (-2,)


@pytest.mark.parametrize("path", ["$.data.s", "/data/s", "data[0].s", "data[*].s", "data[]", "data..s", "a. b "])
def test_a_path_in_another_notation_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"route\.type\.0\.path: .* is no path \(join names and array indexes by"):
        parse_model(f"{{route: {{type: ['{path}']}}}}", WebsocketSettings, file="f.yaml")


def test_a_name_of_digits_with_a_leading_zero_is_no_index() -> None:
    assert path_segments("0.10.007.a.*") == (0, 10, "007", "a", "*")

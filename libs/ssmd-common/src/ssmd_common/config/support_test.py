from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ssmd_common.config.environment import Environment
from ssmd_common.config.feed import Feed
from ssmd_common.config.support import (
    endpoint,
    kalshi_credentials,
    require_supported,
    rest_endpoint,
    unknown_variables,
    unused_fields,
    version_in_force,
    websocket_settings,
)
from ssmd_common.config.websocket import WebsocketSettings, path_segments
from ssmd_common.errors import ConfigError, CredentialError

TODAY = date(2026, 11, 1)
KEYS = {"kalshi": {"fields": ["api_key", "private_key"], "source": "env:A,B"}}


def feed(*, version: dict[str, Any] | None = None, **fields: Any) -> Feed:
    v2 = {
        "version": "v2",
        "effective_from": "2026-01-01",
        "protocol": {"transport": "wss", "message": "json"},
        "endpoint": "wss://exchange",
    }
    document = {"name": "kalshi", "type": "websocket", "versions": [v2 | (version or {})]}
    return Feed.model_validate(document | fields)


def generic(**websocket: Any) -> Feed:
    return feed(name="kraken", websocket={"route": {"type": ["channel"]}} | websocket)


def environment(**fields: Any) -> Environment:
    return Environment.model_validate({"name": "e", "feed": "kalshi", "transport": {"type": "nats"}} | fields)


@given(
    st.lists(
        st.tuples(
            st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.none() | st.dates(date(2020, 1, 1), date(2030, 1, 1))
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda pair: pair[0],
    ),
    st.dates(date(2020, 1, 1), date(2030, 1, 1)),
)
def test_the_version_in_force_is_the_last_to_begin_that_is_not_over(
    spans: list[tuple[date, date | None]], day: date
) -> None:
    spans = [(start, end) for start, end in spans if end is None or end >= start] or [(date(2020, 1, 1), None)]
    base = feed().versions[0]
    versions = tuple(base.model_copy(update={"effective_from": start, "effective_to": end}) for start, end in spans)
    found = feed().model_copy(update={"versions": versions}).version_on(day)

    in_force = [start for start, end in spans if start <= day and (end is None or day <= end)]
    assert (found.effective_from if found else None) == max(in_force, default=None)


def test_no_version_in_force_is_told_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"versions: no version of kalshi is in force on 2025-01-01 \(v2 from 2026"
    ):
        version_in_force(feed(), date(2025, 1, 1))


def test_two_versions_cannot_begin_on_one_day() -> None:
    with pytest.raises(ValidationError, match="two versions take effect on 2026-01-01"):
        feed(versions=[feed().versions[0].model_dump()] * 2)


@pytest.mark.parametrize(
    ("described", "env", "words"),
    [
        (feed(name="kraken"), environment(), "environment e is for feed kalshi, not kraken"),
        (feed(status="disabled"), environment(), "feed kalshi is disabled"),
        (feed(version={"protocol": {"transport": "wss", "message": "fix"}}), environment(), "fix over wss not yet"),
        (feed(version={"endpoint": "https://x"}), environment(), "endpoint: is no WebSocket address"),
        (feed(), environment(endpoint="localhost:80"), "endpoint: is no WebSocket address"),
        (
            feed(version={"auth_method": "mtls"}),
            environment(),
            "auth_method mtls not yet supported with venue kalshi",
        ),
        (feed(name="other"), environment(feed="other"), "websocket: missing .say how to subscribe"),
        (
            generic().model_copy(update={"versions": feed(version={"auth_method": "api_key"}).versions}),
            environment(feed="kraken"),
            "auth_method api_key not yet supported with venue generic",
        ),
        (feed(), environment(capture={"sockets": 2}), "2 sockets have no markets to share"),
        (
            generic(subscribe=[{"a": ["{symbol}@b"]}]),
            environment(feed="kraken"),
            "asks for symbols and there are none",
        ),
        (
            generic(),
            environment(feed="kraken", capture={"channels": ["a"]}),
            "kraken has no channels to choose",
        ),
        (generic(), environment(feed="kraken", capture={"symbols": "all"}), "kraken needs its symbols by name"),
    ],
)
def test_what_cannot_be_captured_is_refused(described: Feed, env: Environment, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        require_supported(described, env, TODAY)


def test_an_environment_chooses_what_to_capture() -> None:
    kalshi = websocket_settings(
        feed(), environment(capture={"symbols": ["A.5"], "channels": ["orderbook_delta"]})
    ).kalshi_settings
    other = websocket_settings(generic(symbols=["X"]), environment(feed="kraken", capture={"symbols": ["Y"]}))

    assert (kalshi.markets, kalshi.channels) == (("A.5",), ("orderbook_delta",))
    assert other.symbols == ("Y",)
    assert websocket_settings(generic(symbols=["X"]), environment(feed="kraken")).symbols == ("X",)


def test_the_endpoint_is_the_environments_then_the_demo_then_the_versions() -> None:
    demo = {"KALSHI_USE_DEMO": "true"}
    assert endpoint(feed(), environment(), TODAY, {}) == "wss://exchange"
    assert endpoint(feed(), environment(), TODAY, demo) == "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2"
    assert endpoint(feed(), environment(keys=KEYS), TODAY, demo) == "wss://exchange"
    assert endpoint(feed(), environment(endpoint="ws://here"), TODAY, demo) == "ws://here"
    assert endpoint(generic(), environment(feed="kraken"), TODAY, demo) == "wss://exchange"
    with pytest.raises(ConfigError, match="KALSHI_USE_DEMO: is neither true nor false"):
        endpoint(feed(), environment(), TODAY, {"KALSHI_USE_DEMO": "maybe"})


@pytest.mark.parametrize(
    ("env", "environ", "url"),
    [
        (environment(), {}, "https://external-api.kalshi.com/trade-api/v2"),
        (environment(), {"KALSHI_USE_DEMO": "true"}, "https://external-api.demo.kalshi.co/trade-api/v2"),
        (environment(endpoint="ws://127.0.0.1:8765/trade-api/ws/v2"), {}, "http://127.0.0.1:8765/trade-api/v2"),
        (environment(endpoint="wss://here:99/other"), {}, "https://here:99/trade-api/v2"),
        (environment(endpoint="ws://here", rest_endpoint="http://there/x/"), {}, "http://there/x"),
    ],
)
def test_markets_are_looked_for_beside_the_socket_unless_told_otherwise(
    env: Environment, environ: dict[str, str], url: str
) -> None:
    assert rest_endpoint(feed(), env, environ) == url
    with pytest.raises(ConfigError, match="rest_endpoint: is no web address"):
        rest_endpoint(feed(), environment(rest_endpoint="ftp://x"), {})


def test_an_environment_lists_or_discovers_in_place_of_what_the_feed_says() -> None:
    listed = feed(websocket={"venue": "kalshi", "kalshi": {"markets": ["A"]}})
    discovering = feed(websocket={"venue": "kalshi", "kalshi": {"discover": {"series": "S"}, "sockets": 3}})

    found = websocket_settings(listed, environment(capture={"discover": {"events": ["E"]}})).kalshi_settings
    assert (found.markets, found.discovery and found.discovery.events) == ((), ("E",))
    named = websocket_settings(discovering, environment(capture={"symbols": ["B"], "sockets": 2})).kalshi_settings
    assert (named.markets, named.discovery, named.sockets) == (("B",), None, 2)
    everything = websocket_settings(discovering, environment(capture={"symbols": "all"})).kalshi_settings
    assert (everything.markets, everything.discovery) == ((), None)
    with pytest.raises(ValidationError, match="symbols are listed and discovered"):
        environment(capture={"symbols": ["A"], "discover": {}})


def test_without_keys_the_two_variables_apply() -> None:
    environ = {"KALSHI_API_KEY": "id", "KALSHI_PRIVATE_KEY": "pem"}
    key = kalshi_credentials(feed(), environment(), environ)

    assert key is not None
    assert key.api_key.get_secret_value() == "id"
    assert "pem" not in repr(key)
    with pytest.raises(
        CredentialError, match=r"variable KALSHI_PRIVATE_KEY is not set \(export KALSHI_PRIVATE_KEY"
    ):
        kalshi_credentials(feed(), environment(), {"KALSHI_API_KEY": "id"})


def test_the_environments_key_is_found_by_the_feeds_name_or_alone() -> None:
    environ = {"A": "id", "B": "pem"}
    another = {"other": {"fields": ["x"], "source": "env:X"}}
    alone = environment(keys={"main": KEYS["kalshi"]})

    assert kalshi_credentials(feed(), environment(keys=KEYS | another), environ)
    assert kalshi_credentials(feed(), alone, environ)
    with pytest.raises(ConfigError, match=r"keys: holds main, other; none is named kalshi"):
        kalshi_credentials(feed(), environment(keys={"main": KEYS["kalshi"]} | another), environ)
    with pytest.raises(ConfigError, match=r"keys.other.fields: needs the fields api_key and private_key, has x"):
        kalshi_credentials(feed(), environment(keys=another), environ)


def test_a_key_that_is_not_required_may_be_missing() -> None:
    optional = {"kalshi": KEYS["kalshi"] | {"required": False}}
    assert kalshi_credentials(feed(), environment(keys=optional), {}) is None
    with pytest.raises(CredentialError, match="variable A is not set"):
        kalshi_credentials(feed(), environment(keys=KEYS), {})


def test_unused_and_doubtful_fields_are_told() -> None:
    env = environment(schedule={"timezone": "UTC"}, keys=KEYS | {"b": {"fields": ["x"], "source": "env:X"}})
    assert unused_fields(feed(status="deprecated", calendar={"holiday_calendar": "us_equity"}), env) == [
        "calendar.holiday_calendar: accepted but unused by the connector",
        "schedule: accepted but unused by the connector",
        "status: the feed is deprecated",
        "keys.b: accepted but unused by the connector",
    ]
    assert unused_fields(generic(), environment(feed="kraken")) == []
    limited = {"rate_limit_per_second": 5}
    assert unused_fields(feed(version=limited), environment()) == []
    assert unused_fields(generic().model_copy(update={"versions": feed(version=limited).versions}), env) == [
        "versions.rate_limit_per_second: accepted but unused by the connector",
        "schedule: accepted but unused by the connector",
        "keys.kalshi: accepted but unused by the connector",
        "keys.b: accepted but unused by the connector",
    ]


def test_misspelt_variables_are_found_and_those_of_the_key_sources_are_not() -> None:
    names = ["KALSHI_API_KEYS", "KALSHI_USE_DEMO", "KALSHI_OWN", "SSMD_X", "PATH", "SSMD_MANIFEST_API_SERVICE_HOST"]
    env = environment(keys={"kalshi": {"fields": ["a"], "source": "env:KALSHI_OWN"}})

    assert unknown_variables(names, env, known=["SSMD_X"]) == [
        "KALSHI_API_KEYS: no such variable, did you mean KALSHI_API_KEY?"
    ]
    assert unknown_variables(["SSMD_MANIFEST_API_PORT_8080_TCP_ADDR", "SSMD_UNHEARD_OF_THING"]) == [
        "SSMD_UNHEARD_OF_THING: no such variable"
    ]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "venue: generic needs route"),
        ({"venue": "kalshi", "symbols": ["A"]}, "symbols means nothing with venue: kalshi"),
        ({"route": {"type": ["t"]}, "kalshi": {}}, "kalshi means nothing with venue: generic"),
        ({"venue": "kalshi", "kalshi": {"markets": []}}, "names nothing to subscribe to"),
        (
            {"route": {"type": ["t"]}, "sequences": [{"kind": "range", "value": "s"}]},
            "kind range goes with first and last",
        ),
        ({"route": {"type": ["t"]}, "subscribe": [1]}, "is no frame"),
        ({"route": {"type": ["t"]}, "subscribe": [{1: 2}, {"a": float("nan")}]}, "is no JSON"),
    ],
)
def test_a_websocket_section_that_contradicts_itself_is_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        WebsocketSettings.model_validate(section)


def test_a_path_is_names_indexes_and_any() -> None:
    assert path_segments("data.0.*.symbol") == ("data", 0, "*", "symbol")

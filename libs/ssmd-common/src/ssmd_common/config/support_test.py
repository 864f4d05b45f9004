from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from ssmd_common.config.environment import Environment
from ssmd_common.config.feed import Feed
from ssmd_common.config.paths import path_segments
from ssmd_common.config.support import require_supported, websocket_settings
from ssmd_common.config.testing import environment, feed, generic
from ssmd_common.config.websocket import WebsocketSettings
from ssmd_common.errors import ConfigError

TODAY = date(2026, 11, 1)


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

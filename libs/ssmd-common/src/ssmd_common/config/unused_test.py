from __future__ import annotations

from ssmd_common.config.testing import environment, feed, generic
from ssmd_common.config.unused import unknown_variables, unused_fields

KEYS = {"kalshi": {"fields": ["api_key", "private_key"], "source": "env:A,B"}}


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


def test_symbols_that_no_subscribe_frame_names_are_told_of() -> None:
    unnamed = {"symbols": ["A"], "subscribe": [{"op": "subscribe", "topics": ["trades"]}]}
    told = "accepted but unused, no frame of websocket.subscribe names {symbols} or {symbol}"
    own, kraken = environment(feed="kraken", capture={"symbols": ["B"]}), environment(feed="kraken")

    assert unused_fields(generic(**unnamed), kraken) == [f"websocket.symbols: {told}"]
    assert unused_fields(generic(**unnamed), own) == [f"capture.symbols: {told}"]
    for frame in ({"topics": ["{symbol}@trade"]}, {"symbols": "{symbols}"}):
        assert unused_fields(generic(**{**unnamed, "subscribe": [frame]}), own) == []


def test_misspelt_variables_are_found_and_those_of_the_key_sources_are_not() -> None:
    names = ["KALSHI_API_KEYS", "KALSHI_USE_DEMO", "KALSHI_OWN", "SSMD_X", "PATH", "SSMD_MANIFEST_API_SERVICE_HOST"]
    env = environment(keys={"kalshi": {"fields": ["a"], "source": "env:KALSHI_OWN"}})

    assert unknown_variables(names, env, known=["SSMD_X"]) == [
        "KALSHI_API_KEYS: no such variable, did you mean KALSHI_API_KEY?"
    ]
    assert unknown_variables(["SSMD_MANIFEST_API_PORT_8080_TCP_ADDR", "SSMD_UNHEARD_OF_THING"]) == [
        "SSMD_UNHEARD_OF_THING: no such variable"
    ]

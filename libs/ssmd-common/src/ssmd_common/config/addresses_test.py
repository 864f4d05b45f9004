from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.addresses import endpoint, rest_endpoint, version_in_force
from ssmd_common.config.environment import Environment
from ssmd_common.config.testing import environment, feed, generic
from ssmd_common.errors import ConfigError

TODAY = date(2026, 11, 1)
KEYS = {"kalshi": {"fields": ["api_key", "private_key"], "source": "env:A,B"}}


@settings(deadline=None)
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

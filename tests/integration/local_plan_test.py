"""The local deployment's plans over the feeds and environments of the repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ssmd_common.config.model import parse_interval
from ssmd_common.errors import ConfigError
from ssmd_local.plan import Plan, Request, Source
from ssmd_local.prepare import prepare


@pytest.fixture
def request_for(tmp_path: Path) -> Request:
    return Request(data=tmp_path, feed=None, capture=None, rate=None, rotation=parse_interval("1m"), api_port=0)


def captured(plan: Plan) -> dict[str, list[str]]:
    text = next(text for path, text in plan.files.items() if path.name == "environment.yaml")
    capture: dict[str, list[str]] = yaml.safe_load(text).get("capture", {})
    return capture


def test_the_simulators_markets_are_those_of_the_shipped_environment(request_for: Request) -> None:
    plan = prepare(request_for, {})
    assert plan.source is Source.SIMULATOR
    assert any("." in ticker for ticker in captured(plan)["symbols"])
    assert "orderbook_delta" in captured(plan)["channels"]


def test_a_recording_is_captured_by_its_own_markets(request_for: Request, tmp_path: Path) -> None:
    recording = tmp_path / "r.jsonl"
    recording.write_text('{"type":"trade","sid":1,"msg":{"market_ticker":"KXOWN"}}\n')
    plan = prepare(replace(request_for, capture=recording), {})
    assert plan.source is Source.CAPTURE
    assert captured(plan)["symbols"] == ["KXOWN"]


@pytest.mark.parametrize(
    ("environ", "env"),
    [
        ({"KALSHI_API_KEY": "k"}, "prod"),
        ({"KALSHI_API_KEY": "k", "KALSHI_USE_DEMO": "true"}, "demo"),
    ],
)
def test_play_money_never_mixes_with_real_markets(request_for: Request, environ: dict[str, str], env: str) -> None:
    plan = prepare(replace(request_for, feed="kalshi"), environ)
    assert (plan.source, plan.env) == (Source.LIVE, env)


def test_a_public_feed_is_live(request_for: Request) -> None:
    plan = prepare(replace(request_for, feed="kraken"), {})
    assert (plan.source, plan.env, plan.stream) == (Source.LIVE, "live", "LIVE_KRAKEN")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feed": "karken"}, r"--feed: no feed 'karken' \(one of .*kraken"),
        ({"capture": Path("/nowhere/file.jsonl")}, "--capture: cannot be read"),
        ({"rate": "fast"}, "--rate: 'fast' is no rate"),
        ({"rate": "0"}, "--rate"),
        ({"rate": "nan"}, "--rate"),
        ({"rate": "5", "feed": "kraken"}, "--rate: a live exchange"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    request_for: Request, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(replace(request_for, **change), {})  # type: ignore[arg-type]

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.config.environment import Capture, Environment
from ssmd_common.config.loading import parse_model
from ssmd_common.config.model import parse_interval
from ssmd_local.plan import (
    API,
    ARCHIVER,
    CONNECTOR,
    NATS,
    SIMULATOR,
    STOP_ORDER,
    Plan,
    Ports,
    Request,
    Source,
    make_plan,
    source_of,
)

DATA = Path("/srv/archive")
REQUEST = Request(data=DATA, feed=None, capture=None, rate=None, rotation=parse_interval("30s"), api_port=8080)
PORTS = Ports(nats=1, nats_monitor=2, simulator=3, connector=4, archiver=5, api=6)


def planned(request: Request, source: Source, *, capture: Capture | None = None) -> Plan:
    return make_plan(
        request,
        source=source,
        live_env="prod",
        feed_path=Path("/repo/exchanges/feeds") / f"{request.feed_name}.yaml",
        capture=capture or Capture(),
        ports=PORTS,
    )


def environment(plan: Plan) -> Environment:
    return parse_model(plan.files[DATA / ".run/environment.yaml"], Environment, file="environment.yaml")


def archiver(plan: Plan) -> ArchiverConfig:
    return parse_model(plan.files[DATA / ".run/archiver.yaml"], ArchiverConfig, file="archiver.yaml")


@pytest.mark.parametrize(
    ("feed", "capture", "environ", "expected"),
    [
        (None, None, {}, Source.SIMULATOR),
        (None, None, {"KALSHI_API_KEY": "k"}, Source.SIMULATOR),
        ("kalshi", None, {}, Source.SIMULATOR),
        ("kalshi", None, {"KALSHI_API_KEY": "k"}, Source.LIVE),
        ("kraken", None, {}, Source.LIVE),
        (None, Path("f"), {"KALSHI_API_KEY": "k"}, Source.CAPTURE),
        ("coinbase", Path("f"), {}, Source.CAPTURE),
    ],
)
def test_only_a_named_feed_leaves_the_machine_and_kalshi_only_with_a_key(
    feed: str | None, capture: Path | None, environ: dict[str, str], expected: Source
) -> None:
    assert source_of(replace(REQUEST, feed=feed, capture=capture), environ) == expected


def test_every_process_is_stopped_and_the_data_is_followed_downstream() -> None:
    names = {spec.name for spec in planned(REQUEST, Source.SIMULATOR).processes}
    assert names == set(STOP_ORDER)
    assert STOP_ORDER.index(CONNECTOR) < STOP_ORDER.index(ARCHIVER) < STOP_ORDER.index(NATS)
    assert STOP_ORDER.index(CONNECTOR) < STOP_ORDER.index(SIMULATOR)


@pytest.mark.parametrize("source", list(Source))
def test_processes_wait_only_for_processes_before_them(source: Source) -> None:
    seen: set[str] = set()
    for spec in planned(REQUEST, source).processes:
        assert set(spec.after) <= seen
        seen.add(spec.name)
    assert (SIMULATOR in seen) == (source is not Source.LIVE)
    assert {NATS, CONNECTOR, ARCHIVER, API} <= seen


@pytest.mark.parametrize(
    ("feed", "source", "token"),
    [(None, Source.SIMULATOR, "local"), ("kraken", Source.LIVE, "prod"), ("coinbase", Source.CAPTURE, "local")],
)
def test_connector_and_archiver_agree_on_stream_and_subjects(feed: str | None, source: Source, token: str) -> None:
    plan = planned(replace(REQUEST, feed=feed), source)
    connector, config = environment(plan), archiver(plan)
    assert connector.env == token
    assert config.nats.stream == connector.transport.stream == plan.stream
    assert config.subjects().prefix == connector.subjects().prefix == f"{token}.{plan.feed}"
    assert config.nats.url == connector.transport.url == plan.nats_url
    assert config.storage.path == DATA
    assert config.rotation.seal_on_exit
    assert config.rotation.interval.seconds == 30


def test_the_simulator_is_reached_with_its_own_key_and_the_exchange_with_the_users() -> None:
    simulated = environment(planned(REQUEST, Source.SIMULATOR))
    assert simulated.endpoint == "ws://127.0.0.1:3/trade-api/ws/v2"
    assert simulated.keys is not None
    assert simulated.keys["kalshi"].source == "file:keys/key-id,keys/private-key.pem"
    live = environment(planned(replace(REQUEST, feed="kalshi"), Source.LIVE))
    assert (live.endpoint, live.keys) == (None, None)


def test_another_exchanges_recording_needs_no_key() -> None:
    request = replace(REQUEST, feed="coinbase", capture=Path("/tmp/c.jsonl"))  # noqa: S108 - only a name
    plan = planned(request, Source.CAPTURE)
    simulator = next(spec for spec in plan.processes if spec.name == SIMULATOR)
    assert "--no-auth" in simulator.args
    assert "--generate-keys" not in simulator.args
    assert environment(plan).keys is None
    assert environment(plan).endpoint is not None


def test_rate_and_recording_reach_the_simulator() -> None:
    request = replace(REQUEST, capture=Path("/tmp/c.jsonl"), rate="max")  # noqa: S108 - only a name
    simulator = next(spec for spec in planned(request, Source.CAPTURE).processes if spec.name == SIMULATOR)
    assert simulator.args[simulator.args.index("--rate") + 1] == "max"
    assert simulator.args[simulator.args.index("--capture") + 1] == "/tmp/c.jsonl"  # noqa: S108 - only a name


def test_what_is_to_be_captured_reaches_the_connector() -> None:
    capture = Capture(symbols=("KXA-B55.5",), channels=("trade",))
    assert environment(planned(REQUEST, Source.SIMULATOR, capture=capture)).capture == capture


@settings(deadline=None)
@given(
    folder=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20)
)
def test_any_folder_name_survives_the_configuration_files(folder: str) -> None:
    data = Path("/srv") / folder.strip(".") / "x"
    plan = planned(replace(REQUEST, data=data), Source.SIMULATOR)
    config = parse_model(plan.files[data / ".run/archiver.yaml"], ArchiverConfig, file="archiver.yaml")
    assert config.storage.path == data

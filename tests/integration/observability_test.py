"""Metrics, dashboard and alert rules: what is documented, drawn and alerted on is what the services expose."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.archive_bench import bench_at
from integration.dashboard import dashboard
from integration.metrics_table import exposed_names, families, table
from integration.nats_server import NatsServer
from ssmd_archiver.run import run_archiver
from ssmd_common.nats.streams import api_request
from ssmd_common.nats.testing import free_port
from ssmd_common.service.lifecycle import Stop

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy/grafana"
ALERTS = GRAFANA / "alerts.yaml"
OPERATIONS = ROOT / "docs/operations.md"
_NAME = re.compile(r"\bssmd_[a-z0-9_]+")
# What a complete set of alerts has to tell of, as words in the rules' queries.
WATCHED = {
    "lag": "ssmd_archiver_lag",
    "silence": "ssmd_connector_frames_received_total",
    "gaps": "ssmd_archiver_last_gap_timestamp_seconds",
    "unsealed age": "ssmd_archiver_unsealed_age_seconds",
    "spool": "ssmd_connector_spool_size_bytes",
    "disk": "ssmd_archiver_disk_free_bytes",
    "PubAck latency": "ssmd_connector_puback_latency_seconds_bucket",
}


def exposed() -> set[str]:
    return {name for own in families().values() for family in own for name in exposed_names(family)}


def rules() -> list[dict[str, Any]]:
    told = yaml.safe_load(ALERTS.read_text("utf-8"))
    return [rule for group in told["groups"] for rule in group["rules"]]


def test_every_series_is_there_at_0_from_the_start() -> None:
    for service, own in families().items():
        assert own, service
        for family in own:
            assert family.samples, family.name
            assert all(sample.value == 0 for sample in family.samples), family.name
            assert family.documentation, family.name


def test_every_metric_is_documented_as_it_is() -> None:
    assert (ROOT / "docs/metrics.md").read_text("utf-8") == table(), "make docs/metrics.md anew, as it says itself"


def test_the_dashboard_is_made_of_its_source_and_asks_for_metrics_that_exist() -> None:
    text = (GRAFANA / "dashboard.json").read_text("utf-8")
    assert json.loads(text) == dashboard(), "make dashboard.json anew, as integration/dashboard.py says"
    asked = {
        name
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
        for name in _NAME.findall(target["expr"])
    }
    assert len(asked) > 20
    assert asked <= exposed()


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_alerts_ask_for_metrics_that_exist_and_watch_everything_that_matters() -> None:
    asked = {name for rule in rules() for name in _NAME.findall(rule["expr"])}
    assert asked <= exposed()
    assert {what: name for what, name in WATCHED.items() if name not in asked} == {}


def test_every_alert_has_a_runbook() -> None:
    headings = {line.lstrip("# ").strip() for line in OPERATIONS.read_text("utf-8").splitlines() if line[:1] == "#"}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["alert"] in headings
        assert rule["labels"]["severity"] in ("page", "warn")


@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts_test.yaml"),
        ("check", "config", "prometheus.yaml"),
    ],
)
def test_prometheus_takes_the_rules_and_they_fire_on_what_they_are_for(command: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here (Debian: apt-get install prometheus)")
    done = subprocess.run(  # noqa: S603 - promtool
        [promtool, *command], cwd=GRAFANA, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_asks_where_compose_offers_metrics() -> None:
    told = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text("utf-8"))
    asked = {
        job["job_name"]: target
        for job in told["scrape_configs"]
        for s in job["static_configs"]
        for target in s["targets"]
    }
    services = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text("utf-8"))["services"]
    offered = {
        f"ssmd-{name}": port.rpartition(":")[0]
        for name, service in services.items()
        for port in service.get("ports", ())
    }
    assert asked == offered


def test_every_alert_is_tested() -> None:
    told = (GRAFANA / "alerts_test.yaml").read_text("utf-8")
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in told
        assert f"alertname: {rule['alert']}" in told


async def test_a_consumer_counts_as_made_again_only_after_the_first_time(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"

    def made_again() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
            found = re.search(r"^ssmd_archiver_consumer_restarts_total (.*)$", answer.read().decode(), re.MULTILINE)
        assert found is not None
        return found[1]

    async with bench_at(nats_server.url, tmp_path) as bench:
        await bench.create()
        stop = Stop()
        running = asyncio.create_task(run_archiver(bench.config(), stop, new_archive=False, health_addr=address))
        await bench.publish(20)
        await bench.reach(20)
        assert await asyncio.to_thread(made_again) == "0.0"

        consumer = bench.config().nats.consumer
        await api_request(bench.client, f"CONSUMER.DELETE.{bench.config().nats.stream}.{consumer}")
        await bench.publish(20)
        await bench.reach(40)
        assert await asyncio.to_thread(made_again) == "1.0"
        stop.set("the test is done")
        await asyncio.wait_for(running, 120)

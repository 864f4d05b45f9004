"""Every configuration file this repository ships is one its services accept, without a warning."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ssmd_common.config.addresses import endpoint
from ssmd_common.config.feed import Feed
from ssmd_common.config.loading import load_archiver, load_environment, load_feed
from ssmd_common.config.support import require_supported, websocket_settings
from ssmd_common.config.unused import unused_fields

TODAY = date(2026, 11, 1)


def _root() -> Path:
    """Return the repository, or the folder a build laid the files out in."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).parents):
        if (folder / "exchanges" / "feeds").is_dir():
            return folder
    raise AssertionError("exchanges/ is not beside the tests")


FEEDS = sorted((_root() / "exchanges" / "feeds").glob("*.yaml"))
ENVIRONMENTS = sorted((_root() / "exchanges" / "environments").glob("*.yaml"))


def _feed_of(name: str) -> Feed:
    return load_feed(_root() / "exchanges" / "feeds" / f"{name}.yaml")


def test_the_promised_feeds_and_environments_are_there() -> None:
    assert sorted(path.stem for path in FEEDS) == [
        "binance",
        "coinbase",
        "kalshi",
        "kalshi-demo",
        "kraken",
        "polymarket",
    ]
    assert {load_environment(path).feed for path in ENVIRONMENTS} == {path.stem for path in FEEDS}


@pytest.mark.parametrize("path", FEEDS, ids=lambda path: path.stem)
def test_a_feed_is_named_as_its_file_and_in_force(path: Path) -> None:
    feed = load_feed(path)
    version = feed.version_on(TODAY)

    assert (feed.name, feed.status) == (path.stem, "active")
    assert version is not None
    assert version.endpoint.startswith("wss://")
    assert version.effective_to is None


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_captures_its_feed_without_a_warning(path: Path) -> None:
    env = load_environment(path)
    feed = _feed_of(env.feed)

    require_supported(feed, env, TODAY)
    assert unused_fields(feed, env) == []
    assert env.name == path.stem
    assert env.instance == path.stem
    assert env.transport.stream == f"{env.env.upper()}_{env.feed.removesuffix('-demo').upper()}"
    assert endpoint(feed, env, TODAY, {}).startswith(("wss://", "ws://127.0.0.1:"))
    assert websocket_settings(feed, env).max_frame_bytes < 8 << 20


def test_the_example_of_the_archiver_loads() -> None:
    config = load_archiver(_root() / "services" / "archiver" / "archiver-example.yaml")

    assert config.nats.filter == "prod.kalshi.json.>"
    assert str(config.storage.path) == "/data/ssmd"
    assert config.rotation.interval.text == "15m"

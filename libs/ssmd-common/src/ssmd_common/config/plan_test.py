"""The configuration files of the plan this project carries out, word for word."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ssmd_common.config.addresses import endpoint
from ssmd_common.config.archiver import ArchiverConfig, ArchiveSubjects
from ssmd_common.config.environment import Environment
from ssmd_common.config.feed import Feed
from ssmd_common.config.kalshi_key import kalshi_credentials
from ssmd_common.config.loading import parse_model
from ssmd_common.config.support import require_supported, websocket_settings
from ssmd_common.config.unused import unused_fields
from ssmd_common.errors import ConfigError

TODAY = date(2026, 11, 1)

FEED = """\
name: kalshi
display_name: Kalshi Exchange
type: websocket
status: active
versions:
  - version: v1
    effective_from: "2025-12-22"
    protocol:
      transport: wss
      message: json
    endpoint: wss://api.kalshi.com/trade-api/ws/v2
    auth_method: api_key
    rate_limit_per_second: 10

# Component defaults for operators
defaults:
  connector:
    image: ssmd-connector
    version: "0.4.7"
    transport:
      type: nats
      stream: PROD_KALSHI
      subjectPrefix: prod.kalshi
"""

ENVIRONMENT = """\
name: kalshi-local
feed: kalshi
schema: trade:v1
keys:
    kalshi:
        type: api_key
        description: Kalshi trading API credentials (RSA key pair)
        required: true
        fields:
            - api_key
            - private_key
        source: env:KALSHI_API_KEY,KALSHI_PRIVATE_KEY
        # Optional: KALSHI_USE_DEMO=true for demo API
transport:
    transport_type: nats
    url: nats://localhost:4222
storage:
    type: local
    path: ./data
"""

ARCHIVER = """\
nats:
  url: nats://localhost:4222
  stream: MARKETDATA
  consumer: archiver-kalshi
  filter: "prod.kalshi.json.>"

storage:
  path: /data/ssmd

rotation:
  interval: 15m
"""


def _feed(text: str = FEED) -> Feed:
    return parse_model(text, Feed, file="kalshi.yaml")


def _environment(text: str = ENVIRONMENT) -> Environment:
    return parse_model(text, Environment, file="kalshi-local.yaml")


def test_the_plans_feed_and_environment_make_a_kalshi_connector() -> None:
    feed, env = _feed(), _environment()
    environ = {"KALSHI_API_KEY": "id", "KALSHI_PRIVATE_KEY": "pem", "KALSHI_USE_DEMO": "true"}

    require_supported(feed, env, TODAY)
    assert websocket_settings(feed, env).venue == "kalshi"
    assert endpoint(feed, env, TODAY, environ) == "wss://api.kalshi.com/trade-api/ws/v2"
    assert (env.transport.type, env.transport.url) == ("nats", "nats://localhost:4222")
    assert (env.transport.stream, env.subjects().prefix) == ("MARKETDATA", "dev.kalshi")
    key = kalshi_credentials(feed, env, environ)
    assert key is not None
    assert (key.api_key.get_secret_value(), key.private_key.get_secret_value()) == ("id", "pem")
    assert unused_fields(feed, env) == [
        "defaults: accepted but unused by the connector",
        "schema: accepted but unused by the connector",
        "storage: accepted but unused by the connector",
    ]


def test_the_plans_archiver_file_works() -> None:
    config = parse_model(ARCHIVER, ArchiverConfig, file="archiver.yaml")

    assert (config.nats.stream, config.nats.consumer) == ("MARKETDATA", "archiver-kalshi")
    assert (config.storage.path, config.rotation.interval.seconds) == (Path("/data/ssmd"), 900)
    assert config.subjects() == ArchiveSubjects("prod", "kalshi", "prod.kalshi")
    assert config.rotation.seal_on_exit


@pytest.mark.parametrize(
    ("transport", "words"),
    [
        ("memory", "Memory transport not supported - connector requires NATS"),
        ("mqtt", "MQTT transport not yet supported"),
    ],
)
def test_other_transports_are_refused_in_the_plans_words(transport: str, words: str) -> None:
    env = _environment(ENVIRONMENT.replace("transport_type: nats", f"type: {transport}"))
    with pytest.raises(ConfigError, match=words):
        require_supported(_feed(), env, TODAY)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("rest", "Rest feeds not yet supported"), ("multicast", "Multicast feeds not yet supported")],
)
def test_other_feed_types_are_refused_in_the_plans_words(kind: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        require_supported(_feed(FEED.replace("type: websocket", f"type: {kind}")), _environment(), TODAY)

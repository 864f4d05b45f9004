from __future__ import annotations

from typing import Any

import pytest

from ssmd_common.config.archiver import ArchiverConfig, ArchiveSubjects
from ssmd_common.config.environment import CreateStream, Environment
from ssmd_common.config.loading import parse_model
from ssmd_common.errors import ConfigError

ENVIRONMENT = "name: e\nfeed: kalshi\ntransport: {type: nats%s}\n"
ARCHIVER = "nats: {consumer: a, filter: %s}\nstorage: {path: /d}\n"


def _environment(transport: str = "", rest: str = "") -> Environment:
    return parse_model(ENVIRONMENT % transport + rest, Environment, file="e.yaml")


def _archiver(subject_filter: str, rest: str = "") -> ArchiverConfig:
    return parse_model(ARCHIVER % subject_filter + rest, ArchiverConfig, file="a.yaml")


def test_a_missing_stream_is_created_as_the_file_says() -> None:
    assert _environment().transport.create_stream == CreateStream()
    assert _environment(", create_stream: true").transport.create_stream == CreateStream()
    assert _environment(", create_stream: false").transport.create_stream is None
    asked = _environment(", create_stream: {max_age: 12h, max_bytes: 5GiB, replicas: 3}").transport.create_stream
    assert asked is not None
    assert (asked.max_age.seconds, asked.max_bytes, asked.replicas) == (43200, 5 << 30, 3)


def test_the_prefix_of_the_subjects_may_be_replaced() -> None:
    assert _environment(rest="env: prod\n").subjects().json_trade("X") == "prod.kalshi.json.trade.X"
    assert _environment(", subject_prefix: a.b.c").subjects().json_trade("X") == "a.b.c.json.trade.X"


@pytest.mark.parametrize(
    ("transport", "rest", "line"),
    [
        (", transport_type: nats", "", "transport: type and transport_type are the same field (keep one)"),
        (
            ", subject_prefix: a.*",
            "",
            "transport.subject_prefix: subject prefix 'a.*' has an empty or unsafe token",
        ),
        (
            ", stream: A.B",
            "",
            "transport.stream: 'A.B' cannot name a stream or consumer (use letters, digits, - and _)",
        ),
        (", user: bob", "", "transport: user and password go together (give both or neither)"),
        (", token: a, creds: /c", "", "transport: token and creds exclude one another (keep one)"),
        (", token: 'env:A,B'", "", "transport.token: names 2 places for one secret (name one)"),
        (", tls: {cert: /c}", "", "transport.tls: cert and key go together (give both or neither)"),
        (", create_stream: {max_age: 1m}", "", "transport.create_stream: duplicate_window is longer than max_age"),
        ("", "env: a.b\n", "env: 'a.b' cannot be a name (use up to 63 letters"),
        ("", "limits: {ack_window: 0}\n", "limits.ack_window: 0 is too small (give at least 1)"),
        ("", "keys: {k: {fields: [a, b], source: 'env:A'}}\n", "keys.k: names 1 place in source for a, b"),
        ("", "keys: {k: {fields: [a]}}\n", "keys.k.source: missing (add it)"),
    ],
)
def test_an_environment_that_cannot_be_meant_is_refused(transport: str, rest: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _environment(transport, rest)
    assert str(caught.value).startswith(f"e.yaml: {line}")


@pytest.mark.parametrize(
    ("subject_filter", "rest", "subjects"),
    [
        ("prod.kalshi.json.>", "", ArchiveSubjects("prod", "kalshi", "prod.kalshi")),
        ("prod.kalshi.json.trade.*", "", ArchiveSubjects("prod", "kalshi", "prod.kalshi")),
        ("prod.kalshi.json.>", "feed: other\n", ArchiveSubjects("prod", "other", "prod.kalshi")),
        ("a.b.c.json.>", "feed: f\nenv: e\n", ArchiveSubjects("e", "f", "a.b.c")),
        ("a.json.>", "feed: f\nenv: e\n", ArchiveSubjects("e", "f", "a")),
    ],
)
def test_the_filter_or_the_file_names_the_feed(subject_filter: str, rest: str, subjects: ArchiveSubjects) -> None:
    assert _archiver(f"'{subject_filter}'", rest).subjects() == subjects


@pytest.mark.parametrize(
    ("subject_filter", "rest"),
    [
        ("prod.*.json.>", ""),
        ("'*.kalshi.json.>'", ""),
        ("prod.>", ""),
        ("prod.kalshi.>", ""),
        ("prod.kalshi.json", ""),
        ("a.b.c.json.>", ""),
        ("prod.*.json.>", "feed: f\nenv: e\n"),
        ("a.b.>", "feed: f\nenv: e\n"),
        ("json.>", "feed: f\nenv: e\n"),
        ("a/b.c/d.json.>", ""),
    ],
)
def test_a_filter_that_names_no_single_feed_is_refused(subject_filter: str, rest: str) -> None:
    with pytest.raises(ConfigError, match=r"^a.yaml: nats.filter: "):
        _archiver(subject_filter, rest)


@pytest.mark.parametrize(
    ("rest", "line"),
    [
        ("rotation: {interval: 36h}", "rotation.interval: 36h is longer than a day"),
        ("rotation: {interval: 15}", "rotation.interval: 15 is no length of time"),
        ("flush_interval: 0s", "flush_interval: '0s' is no length of time"),
        ("health_addr: '8080'", "health_addr: '8080' is no address to listen on (write HOST:PORT"),
        ("feed: ../up", "feed: '../up' cannot be a name"),
    ],
)
def test_an_archiver_file_that_cannot_be_meant_is_refused(rest: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _archiver("prod.kalshi.json.>", rest)
    assert str(caught.value).startswith(f"a.yaml: {line}")


def test_everything_configurable_has_its_place() -> None:
    config = _archiver(
        "prod.kalshi.json.>",
        "rotation: {interval: 1h, max_bytes: 1GiB, seal_on_exit: false, grace: 10s}\n"
        "flush_interval: 1s\nhealth_addr: 0.0.0.0:8080\n",
    )
    rotation: Any = config.rotation
    assert (rotation.max_bytes, rotation.seal_on_exit, rotation.grace.seconds) == (1 << 30, False, 10)
    assert (config.flush_interval.seconds, config.health_addr) == (1, "0.0.0.0:8080")

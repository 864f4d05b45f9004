"""Whatever is wrong in a feed or an environment: one line that names the file, the field in it, and the remedy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ssmd_common.config.loading import load_environment, load_feed
from ssmd_common.errors import ConfigError
from ssmd_connector.check import check

if TYPE_CHECKING:
    from pathlib import Path

VERSION: dict[str, Any] = {
    "version": "v1",
    "effective_from": "2025-01-01",
    "protocol": {"transport": "wss", "message": "json"},
    "endpoint": "wss://x.example",
}
WEBSOCKET: dict[str, Any] = {
    "symbols": ["A"],
    "subscribe": [{"op": "s", "symbols": "{symbols}"}],
    "route": {"type": ["type"]},
}
FEED: dict[str, Any] = {"name": "f", "type": "websocket", "versions": [VERSION], "websocket": WEBSOCKET}
KALSHI: dict[str, Any] = {
    "name": "f",
    "type": "websocket",
    "versions": [VERSION | {"auth_method": "api_key"}],
    "websocket": {"venue": "kalshi"},
}
TRANSPORT: dict[str, Any] = {"type": "nats", "stream": "S"}
ENV: dict[str, Any] = {"name": "e", "feed": "f", "transport": TRANSPORT}


def version(**fields: Any) -> dict[str, Any]:
    return {"versions": [VERSION | fields]}


def websocket(**fields: Any) -> dict[str, Any]:
    return {"websocket": WEBSOCKET | fields}


def transport(**fields: Any) -> dict[str, Any]:
    return {"transport": TRANSPORT | fields}


def key(source: str, *fields: str) -> dict[str, Any]:
    return {"keys": {"k": {"fields": list(fields), "source": source}}}


def refusal(folder: Path, feed: dict[str, Any], env: dict[str, Any]) -> ConfigError:
    (folder / "feed.yaml").write_text(json.dumps(feed))
    (folder / "env.yaml").write_text(json.dumps(env))
    with pytest.raises(ConfigError) as caught:
        check(load_feed(folder / "feed.yaml"), load_environment(folder / "env.yaml"), None, as_json=False)
    return caught.value


def named(error: ConfigError, file: Path, field: str) -> None:
    assert (error.file, error.field, error.exit_code) == (str(file), field, 2)
    assert error.remedy
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"type": "rest"}, "type"),
        ({"status": "disabled"}, "status"),
        (version(effective_from="2999-01-01"), "versions"),
        (version(effective_to="2024-01-01"), "versions.0"),
        (version(protocol={"transport": "https", "message": "json"}), "versions.0.protocol"),
        (version(endpoint="http://x"), "versions.0.endpoint"),
        (version(auth_method="api_key"), "versions.0.auth_method"),
        (version(rate_limit_per_second=0), "versions.0.rate_limit_per_second"),
        ({"websocket": None}, "websocket"),
        (websocket(symbols=[]), "websocket.symbols"),
        (websocket(max_frame_bytes="20MiB"), "websocket.max_frame_bytes"),
        (websocket(silence_limit_s=0), "websocket.silence_limit_s"),
        (websocket(silence_limit_s="x"), "websocket.silence_limit_s"),
        (websocket(subscribe_batch_size=1.5), "websocket.subscribe_batch_size"),
        (websocket(sequences=[{"kind": "range", "value": "a"}]), "websocket.sequences.0"),
        (websocket(control={"refused": [{"path": "a", "equals": [1]}]}), "websocket.control.refused.0.equals"),
        (websocket(subject_types={"": "a"}), "websocket.subject_types"),
        (websocket(kalshi={}), "websocket"),
    ],
)
def test_what_is_wrong_in_a_feed_is_told_with_file_field_and_remedy(
    wrong: dict[str, Any], field: str, tmp_path: Path
) -> None:
    named(refusal(tmp_path, FEED | wrong, ENV), tmp_path / "feed.yaml", field)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"feed": "other"}, "feed"),
        ({"endpoint": "http://x"}, "endpoint"),
        (transport(type="memory"), "transport.type"),
        (transport(type="mqtt"), "transport.type"),
        (transport(url="http://h"), "transport.url"),
        (transport(token="env:SSMD_NOT_SET"), "transport.token"),
        (transport(token=""), "transport.token"),
        (transport(nkey_seed="file:/none"), "transport.nkey_seed"),
        (transport(nkey_seed="none"), "transport.nkey_seed"),
        (transport(creds="/none"), "transport.creds"),
        (transport(creds="/etc/passwd"), "transport.creds"),
        (transport(tls={"ca": "/none"}), "transport.tls"),
        (transport(tls={"ca": "/etc/passwd"}), "transport.tls"),
        (transport(tls={"ca": ""}), "transport.tls.ca"),
        (transport(create_stream={"max_age": "1m"}), "transport.create_stream"),
        ({"capture": {"channels": ["a"]}}, "capture.channels"),
        ({"capture": {"symbols": "all"}}, "capture.symbols"),
        ({"limits": {"spool_dir": ""}}, "limits.spool_dir"),
        ({"limits": {"spool_dir": 3}}, "limits.spool_dir"),
    ],
)
def test_what_is_wrong_in_an_environment_is_told_with_file_field_and_remedy(
    wrong: dict[str, Any], field: str, tmp_path: Path
) -> None:
    named(refusal(tmp_path, FEED, ENV | wrong), tmp_path / "env.yaml", field)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"keys": {}}, "keys"),
        (key("env:SSMD_NOT_SET", "a"), "keys.k.fields"),
        (key("env:SSMD_NOT_SET,SSMD_NOT_SET", "api_key", "private_key"), "keys.k.source"),
        (key("file:/none,/none", "api_key", "private_key"), "keys.k.source"),
        (key("env:PATH,PATH", "api_key", "private_key"), "keys"),
        ({"capture": {"sockets": 3}}, "capture.sockets"),
    ],
)
def test_what_is_wrong_with_the_keys_is_told_with_file_field_and_remedy(
    wrong: dict[str, Any], field: str, tmp_path: Path
) -> None:
    named(refusal(tmp_path, KALSHI, ENV | wrong), tmp_path / "env.yaml", field)


def test_what_means_nothing_is_told_in_whole_sentences(tmp_path: Path) -> None:
    one = refusal(tmp_path, FEED | websocket(kalshi={}), ENV)
    several = refusal(tmp_path, FEED | websocket(venue="kalshi"), ENV)
    assert (one.problem, one.remedy[:9]) == ("kalshi means nothing with venue: generic", "remove it")
    assert several.problem == "route, subscribe and symbols mean nothing with venue: kalshi"

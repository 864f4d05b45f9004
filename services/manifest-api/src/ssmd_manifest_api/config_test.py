from __future__ import annotations

from pathlib import Path

import pytest

from ssmd_common.errors import ConfigError
from ssmd_manifest_api.config import ApiConfig, load_calendars, load_config

HASH = "a" * 64
FEED = """
name: quiet
type: websocket
versions: [{version: v1, effective_from: 2026-01-01, protocol: {transport: wss, message: json}, endpoint: "wss://a.test"}]
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_a_file_everything_is_open() -> None:
    assert load_config(None) == ApiConfig(tokens=(), cors_origins=())


def test_a_file_names_tokens_and_sites(tmp_path: Path) -> None:
    text = f"""
        tokens:
          - {{name: ann, sha256: {HASH}, feeds: [kalshi, kraken]}}
          - {{name: ben, sha256: {"b" * 64}, feeds: all}}
        cors_origins: [https://charts.example.org, "http://127.0.0.1:3000"]
    """
    config = load_config(write(tmp_path / "api.yaml", text))
    assert [token.feeds for token in config.tokens] == [("kalshi", "kraken"), "all"]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("token: []", "token"),
        ("tokens: [{name: ann, sha256: secret, feeds: all}]", "tokens.0.sha256"),
        (f"tokens: [{{name: ann, sha256: {HASH}}}]", "tokens.0.feeds"),
        (f"tokens: [{{name: ann, sha256: {HASH}, feeds: []}}]", "tokens.0.feeds"),
        (f"tokens: [{{name: ann, sha256: {HASH}, feeds: ../etc}}]", "tokens.0.feeds"),
        (
            f"tokens: [{{name: ann, sha256: {HASH}, feeds: all}}, {{name: ben, sha256: {HASH}, feeds: all}}]",
            "two tokens",
        ),
        ("cors_origins: ['*']", "cors_origins.0"),
        ("cors_origins: [https://example.org/path]", "cors_origins.0"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_repeated(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path / "api.yaml", text))
    assert field in str(caught.value)
    assert "api.yaml" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("feeds", "problem"),
    [
        ("every", "is neither `all` nor a list"),
        ("{kalshi: true}", "is neither `all` nor a list"),
        ("[]", "is empty"),
        ("[7]", "7 is no feed's name"),
        ("[kalshi, ../etc]", "'../etc' cannot be a name"),
    ],
)
def test_feeds_that_are_wrong_are_told_in_one_line_with_the_remedy(
    tmp_path: Path, feeds: str, problem: str
) -> None:
    text = f"tokens: [{{name: ann, sha256: {HASH}, feeds: {feeds}}}]"
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path / "api.yaml", text))
    assert (caught.value.field, "\n" in str(caught.value)) == ("tokens.0.feeds", False)
    assert problem in str(caught.value)
    assert caught.value.remedy


def test_calendars_come_from_the_feeds_that_have_one(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", FEED)
    write(tmp_path / "b.yaml", FEED.replace("quiet", "hours") + "calendar: {timezone: America/New_York}\n")
    calendars = load_calendars(tmp_path)
    assert {name: calendar.timezone for name, calendar in calendars.items()} == {"hours": "America/New_York"}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--feeds"):
        load_calendars(tmp_path / "none")

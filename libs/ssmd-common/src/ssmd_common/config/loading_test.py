from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.environment import Environment
from ssmd_common.config.feed import Feed
from ssmd_common.config.loading import load_feed, parse_model
from ssmd_common.config.model import ConfigModel
from ssmd_common.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FEED = """\
name: kraken
type: websocket
versions:
  - {version: v2, effective_from: 2024-01-01, protocol: {transport: wss, message: json}, endpoint: wss://h}
websocket:
  route: {type: [channel]}
"""


class Anything(ConfigModel):
    value: Any = None


def _feed_error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_model(text, Feed, file="f.yaml")
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("16:00", "16:00"),
        ("010", 10),
        ("0x1F", "0x1F"),
        ("2025-12-22", "2025-12-22"),
        ("1_000", "1_000"),
        ("true", True),
        ("~", None),
        ("1.50", 1.5),
        ("-3", -3),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}),
    ],
)
def test_yaml_is_read_by_its_core_rules(text: str, value: object) -> None:
    assert parse_model(f"value: {text}", Anything, file="f.yaml").value == value


def test_a_misspelt_key_names_file_field_and_the_nearest_one() -> None:
    text = _feed_error(FEED + "  silence_limits: 5\n")
    assert text.startswith(
        "f.yaml: websocket.silence_limits: unknown key (did you mean 'silence_limit_s'? allowed here: "
    )
    assert "\n" not in text


def test_keys_inside_lists_are_explained_by_their_own_model() -> None:
    text = _feed_error(FEED.replace("endpoint:", "endpont:"))
    first, *rest = text.splitlines()
    assert first == "f.yaml: 2 fields are wrong:"
    assert rest[0] == "  f.yaml: versions.0.endpoint: missing (add it)"
    assert rest[1].startswith(
        "  f.yaml: versions.0.endpont: unknown key (did you mean 'endpoint'? allowed here: auth_m"
    )


def test_a_shorthand_place_is_explained_too() -> None:
    text = _feed_error(FEED.replace("[channel]", "[channel, {path: x, afer: y}]"))
    assert "websocket.route.type.1.afer: unknown key (did you mean 'after'?" in text


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("websocket\n", "ftp\n", "type: 'ftp' is not allowed (use 'websocket', 'rest' or 'multicast')"),
        ("name: kraken", "name: 'a/b'", "name: 'a/b' cannot be a name (use up to 63 letters"),
        ("version: v2", "version: 2", "versions.0.version: must be text (put the value in quotes)"),
        ("2024-01-01", "2024-13-01", "versions.0.effective_from: '2024-13-01' is no date (write it as YYYY-MM-DD)"),
        ("2024-01-01", "20240101", "versions.0.effective_from: 20240101 is no date"),
        ("wss://h", "''", "versions.0.endpoint: is empty (give a value)"),
        ("{type: [channel]}", "{type: []}", "websocket.route.type: is empty (list at least one)"),
        ("{type: [channel]}", "{type: [a..b]}", "websocket.route.type.0.path: 'a..b' is no path (join names"),
        (
            "{type: [channel]}",
            "{type: channel}",
            "websocket.route.type: must be a list (write `- item` lines below it)",
        ),
        (
            "{transport: wss, message: json}",
            "wss",
            "versions.0.protocol: must be a mapping (write `key: value` lines",
        ),
    ],
)
def test_every_mistake_is_one_line_with_its_remedy(old: str, new: str, line: str) -> None:
    text = _feed_error(FEED.replace(old, new, 1))
    assert text.startswith(f"f.yaml: {line}")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "f.yaml: is empty, not a mapping (write it as lines of `key: value`)"),
        ("- a", "f.yaml: holds a list, not a mapping (write it as lines of `key: value`)"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml: line 4, column 3: key 'c' is given twice (correct the YAML)"),
        (
            "a: [",
            "f.yaml: line 1, column 5: expected the node content, but found '<stream end>' (correct the YAML)",
        ),
        ("[" * 5000, "f.yaml: nested too deeply (correct the YAML)"),
        ("!!python/object:os.system {}", "f.yaml: line 1, column 1: could not determine a constructor"),
        ("a: \0", "f.yaml: not YAML: unacceptable character #x0000"),
        ("a: 1\n---\nb: 1", "f.yaml: line 2, column 1: but found another document (correct the YAML)"),
    ],
)
def test_what_is_no_yaml_mapping_is_told_with_its_place(text: str, line: str) -> None:
    assert _feed_error(text).startswith(line)


def test_a_secret_is_never_shown() -> None:
    text = """
name: e
feed: f
keys: {k: {fields: [a], source: hunter2, required: hunter2-flag}}
transport: {type: nats, url: [nats://bob:hunter2@host], user: bob, token: {hunter2: 1}, nkey_seed: "env:hunter 2"}
"""
    with pytest.raises(ConfigError) as caught:
        parse_model(text, Environment, file="e.yaml")
    shown = str(caught.value).replace("hunter2-flag", "")
    assert "hunter" not in shown
    assert "keys.k.source: is no key source (write env:VARIABLE or file:PATH, several separated by commas)" in shown


@pytest.mark.parametrize("word", ["*hunter2", "!hunter2", "!<hunter2>", "!!hunter2", "!hunter2!x"])
def test_a_password_that_reads_as_an_alias_or_a_tag_is_not_shown(word: str) -> None:
    with pytest.raises(ConfigError, match="text that begins with \\* or ! belongs into quotes") as caught:
        parse_model(f"transport:\n  type: nats\n  password: {word}\n", Environment, file="e.yaml")
    assert "hunter" not in str(caught.value)


@settings(deadline=None)
@given(st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"#%@` \n\t0.,?~<").map(lambda text: "name: " + text))
def test_no_text_does_worse_than_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_model(text, Feed, file="f.yaml")


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigError, match=r"none.yaml: no such file \(check the path\)"):
        load_feed(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load_feed(tmp_path)
    with pytest.raises(ConfigError, match=r"latin.yaml: not UTF-8 text \(byte 6\) \(save it as UTF-8\)"):
        load_feed(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot be read: embedded null"):
        load_feed("a\0b")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbf" + FEED.encode())
    assert load_feed(tmp_path / "f.yaml").name == "kraken"

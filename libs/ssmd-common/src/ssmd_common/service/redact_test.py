from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.service.redact import REDACTED, looks_secret, redact_text, redact_value, url_secrets, without


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "KALSHI-ACCESS-SIGNATURE",
        "KALSHI_PRIVATE_KEY",
        "nkey_seed",
        "password",
        "token",
        "secrets",
    ],
)
def test_names_that_hold_a_secret_word_are_secret(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["monkey", "event", "keyboard", "token_file", "key_path", "source", "", "ticker"])
def test_other_names_are_not(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://bob:s3cret@host:4222", f"nats://{REDACTED}@host:4222"),
        ("tls://onlytoken@host", f"tls://{REDACTED}@host"),
        ("wss://h/p?token=abc&x=1", f"wss://h/p?token={REDACTED}&x=1"),
        ("nats://u:p@ss@host/", f"nats://{REDACTED}@host/"),
        ("wss://host/path@v2", "wss://host/path@v2"),
        ("nats://u:p/a?s#s@host:1,nats://h", f"nats://{REDACTED}@host:1,nats://h"),
        ("nats://h:1,nats://u:p/s@host:1", f"nats://h:1,nats://{REDACTED}@host:1"),
        ("Authorization: Bearer abcdefghijk", f"Authorization: Bearer {REDACTED}"),
        ("mail bob@example.com", "mail bob@example.com"),
    ],
)
def test_credentials_are_cut_out_of_text(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_private_keys_and_nkey_seeds_are_cut_out_even_when_truncated() -> None:
    seed = "SU" + "A" * 56
    pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----"

    assert "MIIabc" not in redact_text(f"bad key {pem} here")
    assert "MIIabc" not in redact_text(pem[:45])
    assert redact_text(f"bad key {pem} here").endswith(" here")
    assert seed not in redact_text(f"seed {seed}")


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("wss://bob:p%40ss@host/ws?x=1&api_key=abc&token=d%20e", ["p@ss", "abc", "d e"]),
        ("wss://onlytoken@host", ["onlytoken"]),
        ("wss://host/ws?streams=a", []),
        ("wss://[", []),
    ],
)
def test_the_secrets_of_an_address_are_known(url: str, secrets: list[str]) -> None:
    assert url_secrets(url) == secrets


@settings(deadline=None)
@given(st.text(alphabet="abcXYZ019:@!$%", min_size=1))
def test_no_userinfo_survives(userinfo: str) -> None:
    assert redact_text(f"nats://{userinfo}@host:1") == f"nats://{REDACTED}@host:1"


def test_containers_are_walked_and_numbers_stay() -> None:
    value = {"token": "abc", "headers": [{"x-api-key": b"abc"}], "url": "nats://a:b@h", "tokens": 3, "keys": ["a"]}

    assert redact_value("extra", value) == {
        "token": REDACTED,
        "headers": [{"x-api-key": REDACTED}],
        "url": f"nats://{REDACTED}@h",
        "tokens": 3,
        "keys": REDACTED,
    }


def test_what_a_stranger_repeats_of_what_it_was_told_is_taken_out() -> None:
    assert without("unknown key abc, signature xyz", ["abc", "", "xyz"]) == (
        "unknown key [redacted], signature [redacted]"
    )

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from ssmd_common.config.credentials import KeySource, fetch, fetch_fields, parse_source, rsa_private_key
from ssmd_common.config.nats import NatsSettings
from ssmd_common.errors import ConfigError, CredentialError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey, form: PrivateFormat) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def test_a_source_names_variables_or_files() -> None:
    assert parse_source("env:A,B_2") == KeySource("env", ("A", "B_2"))
    assert parse_source("file:/run/a, data/b.pem") == KeySource("file", ("/run/a", "data/b.pem"))


@pytest.mark.parametrize(
    "text", ["", "A", "env:", "env:A,", "env:A B", "env:1A", "file:", "file:a,", "vault:x", "env:É"]
)
def test_any_other_source_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_source(text)
    assert str(caught.value) == "is no key source (write env:VARIABLE or file:PATH, several separated by commas)"


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_the_source_reader(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_source(text).places


def test_variables_are_fetched_by_field() -> None:
    parts = fetch_fields(["api_key", "private_key"], "env:A,B", {"A": " id\n", "B": "pem"})
    assert {name: value.get_secret_value() for name, value in parts.items()} == {
        "api_key": "id",
        "private_key": "pem",
    }
    assert "pem" not in repr(parts)


@pytest.mark.parametrize(("environ", "state"), [({}, "not set"), ({"A": " "}, "empty")])
def test_a_missing_variable_is_named_with_its_remedy(environ: dict[str, str], state: str) -> None:
    with pytest.raises(CredentialError, match=rf"^variable A is {state} \(export A=…, or change the source"):
        fetch(parse_source("env:A"), environ)


def test_files_hold_one_value_each_and_are_read_afresh(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("first\n")
    source = parse_source(f"file:{path}")
    assert fetch(source, {})[0].get_secret_value() == "first"
    path.write_text("second\n")
    assert fetch(source, {})[0].get_secret_value() == "second"


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read: No such file"), (b"\n", "is empty"), (b"\xff", "not UTF-8")]
)
def test_a_file_without_a_value_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CredentialError, match=f"^{path}: {words}"):
        fetch(parse_source(f"file:{path}"), {})


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_both_pem_forms_are_read_also_with_written_out_line_ends(
    key: rsa.RSAPrivateKey, form: PrivateFormat
) -> None:
    pem = _pem(key, form)
    for text in (pem, pem.strip(), f"\n{pem}\n", pem.replace("\n", "\\n"), pem.replace("\n", "\r\n")):
        read = rsa_private_key(SecretStr(text), where="env:B")
        assert read.private_numbers() == key.private_numbers()


def test_other_keys_are_refused_without_showing_them(key: rsa.RSAPrivateKey) -> None:
    pem = _pem(key, PrivateFormat.PKCS8)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for text, words in [
        ("abc", "is no PEM private key"),
        (pem[:400], "is no PEM private key"),
        (locked, "the private key is encrypted"),
        (curve.decode(), "is no RSA key"),
    ]:
        with pytest.raises(CredentialError, match=f"^env:B: {words}") as caught:
            rsa_private_key(SecretStr(text), where="env:B")
        assert text[40:60] not in str(caught.value) or text == "abc"


def test_secrets_of_nats_come_from_where_they_lie_or_stand_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("SUAB\n")
    password = NatsSettings(user="bob", password=SecretStr("env:PW")).with_secrets({"PW": "right"})
    seed = NatsSettings(nkey_seed=SecretStr(f"file:{tmp_path}/seed")).with_secrets({})
    token = NatsSettings(token=SecretStr("plain")).with_secrets({})

    assert password.password == SecretStr("right")
    assert (password.user, password.url) == ("bob", "nats://localhost:4222")
    assert seed.nkey_seed == SecretStr("SUAB")
    assert token.token == SecretStr("plain")
    with pytest.raises(CredentialError, match="variable PW is not set"):
        NatsSettings(token=SecretStr("env:PW")).with_secrets({})


def test_a_file_with_a_byte_order_mark_holds_what_follows_it(tmp_path: Path) -> None:
    (tmp_path / "key-id").write_bytes(b"\xef\xbb\xbfabc\r\n")
    assert fetch(parse_source(f"file:{tmp_path / 'key-id'}"), {})[0].get_secret_value() == "abc"

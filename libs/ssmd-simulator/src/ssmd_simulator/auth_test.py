from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ssmd_simulator.auth import PATH, Handshake, Refusal, check

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

NOW_MS = 1_786_085_188_416
KEY_ID = "a-key"
PSS_32 = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


def verdict(
    key: RSAPrivateKey,
    *,
    signer: RSAPrivateKey | None = None,
    key_id: str = KEY_ID,
    timestamp: str = str(NOW_MS),
    text: str | None = None,
    target: str = PATH,
    scheme: padding.PSS | padding.PKCS1v15 = PSS_32,
) -> Refusal | None:
    signed = f"{timestamp}GET{PATH}" if text is None else text
    signature = (signer or key).sign(signed.encode(), scheme, hashes.SHA256())
    handshake = Handshake(target, key_id, base64.b64encode(signature).decode(), timestamp)
    return check(handshake, {KEY_ID: key.public_key()}, NOW_MS)


def test_a_handshake_signed_as_documented_is_let_in(private_key: RSAPrivateKey) -> None:
    assert verdict(private_key) is None


def test_a_query_string_that_is_not_signed_does_not_matter(private_key: RSAPrivateKey) -> None:
    assert verdict(private_key, target=f"{PATH}?a=1") is None


def test_a_signed_query_string_is_refused_as_such(private_key: RSAPrivateKey) -> None:
    target = f"{PATH}?a=1"
    refusal = verdict(private_key, target=target, text=f"{NOW_MS}GET{target}")
    assert refusal is Refusal.SIGNATURE_COVERS_QUERY


def test_an_unknown_key_id_is_refused(private_key: RSAPrivateKey) -> None:
    assert verdict(private_key, key_id="a-demo-key") is Refusal.UNKNOWN_KEY


def test_another_keys_signature_is_refused(private_key: RSAPrivateKey) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert verdict(private_key, signer=other) is Refusal.SIGNATURE_WRONG


def test_a_pkcs1v15_signature_is_refused_as_such(private_key: RSAPrivateKey) -> None:
    assert verdict(private_key, scheme=padding.PKCS1v15()) is Refusal.SIGNATURE_PKCS1V15


def test_a_salt_of_another_length_is_refused_as_such(private_key: RSAPrivateKey) -> None:
    scheme = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH)
    assert verdict(private_key, scheme=scheme) is Refusal.SIGNATURE_SALT_LENGTH


@pytest.mark.parametrize("off_ms", [-31_000, 31_000])
def test_a_clock_that_is_off_is_refused_either_way(private_key: RSAPrivateKey, off_ms: int) -> None:
    assert verdict(private_key, timestamp=str(NOW_MS + off_ms)) is Refusal.TIMESTAMP_STALE


@pytest.mark.parametrize("off_ms", [-29_000, 29_000])
def test_a_clock_that_is_a_little_off_is_let_in(private_key: RSAPrivateKey, off_ms: int) -> None:
    assert verdict(private_key, timestamp=str(NOW_MS + off_ms)) is None


def test_seconds_in_place_of_milliseconds_are_refused_as_such(private_key: RSAPrivateKey) -> None:
    assert verdict(private_key, timestamp=str(NOW_MS // 1000)) is Refusal.TIMESTAMP_IN_SECONDS


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1e12", "٣", "9" * 400])
def test_a_timestamp_that_is_no_number_is_refused(private_key: RSAPrivateKey, timestamp: str) -> None:
    assert verdict(private_key, timestamp=timestamp) is Refusal.TIMESTAMP_MALFORMED


@pytest.mark.parametrize("missing", ["key_id", "signature", "timestamp"])
@pytest.mark.parametrize("value", [None, ""])
def test_each_header_is_required(private_key: RSAPrivateKey, missing: str, value: str | None) -> None:
    good = Handshake(PATH, KEY_ID, "c2ln", str(NOW_MS))
    without: dict[str, Any] = {missing: value}
    handshake = dataclasses.replace(good, **without)
    assert check(handshake, {KEY_ID: private_key.public_key()}, NOW_MS) is Refusal.HEADERS_MISSING


def test_a_signature_in_url_safe_base64_is_refused(private_key: RSAPrivateKey) -> None:
    handshake = Handshake(PATH, KEY_ID, "_-_-", str(NOW_MS))
    refusal = check(handshake, {KEY_ID: private_key.public_key()}, NOW_MS)
    assert refusal is Refusal.SIGNATURE_NOT_BASE64


def test_a_signature_of_a_later_moment_does_not_serve_again(private_key: RSAPrivateKey) -> None:
    assert verdict(private_key, text=f"{NOW_MS - 1}GET{PATH}") is Refusal.SIGNATURE_WRONG


@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal_says_what_to_look_at(refusal: Refusal) -> None:
    assert len(refusal.text) > 20

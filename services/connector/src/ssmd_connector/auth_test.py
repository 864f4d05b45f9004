from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr

from ssmd_common.config.kalshi_key import KalshiCredentials
from ssmd_common.errors import CredentialError
from ssmd_connector.auth import explain_refusal, signed_headers

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
URL = "wss://demo.example/trade-api/ws/v2?feed=1"


@pytest.mark.parametrize(
    "form",
    [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL],
    ids=["pkcs8", "pkcs1"],
)
def test_the_path_alone_is_signed_with_pss(form: serialization.PrivateFormat) -> None:
    pem = KEY.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    headers = signed_headers(KalshiCredentials(SecretStr("id"), SecretStr(pem), "env:X"), URL, now_ms=1700000000123)
    assert headers["KALSHI-ACCESS-KEY"] == "id"
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == "1700000000123"
    KEY.public_key().verify(
        base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"]),
        b"1700000000123GET/trade-api/ws/v2",
        padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32),
        hashes.SHA256(),
    )


def test_a_key_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(CredentialError) as caught:
        signed_headers(KalshiCredentials(SecretStr("id"), SecretStr("sesame"), "env:X"), URL, now_ms=1)
    assert "sesame" not in str(caught.value)
    assert "env:X" in str(caught.value)


def explained(status: int = 401, body: str = "", url: str = URL, where: str = "env:X", **headers: str) -> str:
    return str(explain_refusal(status, body, headers, url=url, where=where, now_s=1776679230))


def test_a_clock_that_is_off_is_the_first_suspect() -> None:
    ahead = explained(body="INCORRECT_API_KEY_SIGNATURE", Date="Mon, 20 Apr 2026 10:00:00 GMT")
    assert "30 s ahead" in ahead
    assert "45 s behind" in explained(date="Mon, 20 Apr 2026 10:01:15 GMT")
    for harmless in ("Mon, 20 Apr 2026 10:00:28 GMT", "yesterday", ""):
        assert "clock" not in explained(Date=harmless)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("the timestamp looks like seconds", "milliseconds of a correct clock, not seconds"),
        ("header expired", "milliseconds of a correct clock, not seconds"),
        ("must end with the path, without the query string", "the path alone, without the query string"),
        ("the signature is PKCS #1 v1.5", "RSA-PSS with SHA-256 and a salt of 32 bytes, not PKCS1v15"),
        ("the signature's salt must be 32 bytes", "RSA-PSS with SHA-256 and a salt of 32 bytes, not PKCS1v15"),
        ("INCORRECT_API_KEY_SIGNATURE", "the private key does not belong to this API key"),
        ("NOT_FOUND", "not one of the demo environment: demo and production keys do not mix"),
        ("", "not one of the demo environment: demo and production keys do not mix"),
    ],
)
def test_the_exchanges_words_lead_to_the_cause_that_fits(body: str, words: str) -> None:
    assert words in explained(body=body)


def test_the_place_of_the_key_is_named_and_never_the_key() -> None:
    text = explained(403, url="wss://api.example/trade-api/ws/v2?token=sesame")
    assert "env:X" in text
    assert "sesame" not in text
    assert "not one of the production environment" in text
    assert "allow list" in text


def test_a_feed_that_sent_no_key_is_told_so() -> None:
    assert "no credentials were sent" in explained(403, where="")

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr

from ssmd_common.config.support import KalshiCredentials
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


def test_a_clock_that_is_off_is_the_first_suspect() -> None:
    error = explain_refusal(
        401, "denied", {"Date": "Mon, 20 Apr 2026 10:00:00 GMT"}, url=URL, where="env:X", now_s=1776679230
    )
    assert "30 s ahead" in str(error)


def test_a_public_feed_is_not_told_about_keys() -> None:
    error = explain_refusal(403, "", {}, url=URL, where="", now_s=0)
    assert "address or region" in str(error)

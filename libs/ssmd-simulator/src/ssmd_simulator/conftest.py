"""A key pair, and a client that signs its handshake as the exchange asks."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ssmd_simulator.auth import KEY_HEADER, PATH, SIGNATURE_HEADER, TIMESTAMP_HEADER

KEY_ID = "key-of-a-test"


@pytest.fixture(scope="session")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def signed_headers(private_key: rsa.RSAPrivateKey) -> dict[str, str]:
    timestamp = str(time.time_ns() // 1_000_000)
    signature = private_key.sign(
        f"{timestamp}GET{PATH}".encode(),
        padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32),
        hashes.SHA256(),
    )
    return {
        KEY_HEADER: KEY_ID,
        SIGNATURE_HEADER: base64.b64encode(signature).decode(),
        TIMESTAMP_HEADER: timestamp,
    }

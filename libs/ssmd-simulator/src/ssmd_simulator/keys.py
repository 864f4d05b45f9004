"""Key files: whose handshakes the exchange accepts.

Reads what an operator gives, or makes a key pair for a machine that has none. `auth` checks with what this
loads. Files only; nothing here prints or logs what is in them.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ssmd_common.errors import ConfigError, CredentialError

__all__ = ["KEY_ID_FILE", "PRIVATE_KEY_FILE", "load_public_key", "own_key"]

KEY_ID_FILE = "key-id"
PRIVATE_KEY_FILE = "private-key.pem"


def load_public_key(path: Path) -> rsa.RSAPublicKey:
    """Return the public key in a PEM file, which may also hold the private key it belongs to.

    Raises:
        CredentialError: The file cannot be read or holds no RSA key.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise CredentialError(f"cannot be read: {error.strerror}", file=str(path)) from error
    key: object
    try:
        if b"PRIVATE KEY" in pem:
            private = serialization.load_pem_private_key(pem, password=None)
            key = private.public_key()
        else:
            key = serialization.load_pem_public_key(pem)
    # The library's own text could quote the file, which may be a private key.
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError("is not an unencrypted PEM key", file=str(path)) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise CredentialError("is not an RSA key", file=str(path))
    return key


def own_key(folder: Path) -> tuple[str, rsa.RSAPublicKey]:
    """Return the key id and public key of a folder's pair, made fresh where there is none yet.

    A pair that stands is kept: a client that has read it can still connect after the exchange restarts.
    Both files are readable by their owner alone.

    Raises:
        ConfigError: The folder cannot be written, or holds one of the two files.
    """
    key_id_file, private_file = folder / KEY_ID_FILE, folder / PRIVATE_KEY_FILE
    stands = (key_id_file.exists(), private_file.exists())
    if stands == (False, False):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(private_file, _new_private_key())
            _write(key_id_file, str(uuid.uuid4()).encode())
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", file=str(folder)) from error
    elif stands != (True, True):
        raise ConfigError(
            f"holds one of {KEY_ID_FILE} and {PRIVATE_KEY_FILE}, not both",
            file=str(folder),
            remedy="delete it, and a fresh pair is made",
        )
    public_key = load_public_key(private_file)
    try:
        return key_id_file.read_text(encoding="ascii").strip(), public_key
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot be read as a key id", file=str(key_id_file)) from error


def _new_private_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ssmd_common.errors import ConfigError, CredentialError
from ssmd_simulator.keys import KEY_ID_FILE, PRIVATE_KEY_FILE, load_public_key, own_key

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

PEM = serialization.Encoding.PEM
OPEN = serialization.NoEncryption()


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_the_public_key_can_come_from_a_private_key_file(
    tmp_path: Path, private_key: RSAPrivateKey, form: serialization.PrivateFormat
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(private_key.private_bytes(PEM, form, OPEN))
    assert load_public_key(file).public_numbers() == private_key.public_key().public_numbers()


def test_a_public_key_file_is_read(tmp_path: Path, private_key: RSAPrivateKey) -> None:
    file = tmp_path / "key.pem"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(private_key.public_key().public_bytes(PEM, form))
    assert load_public_key(file).public_numbers() == private_key.public_key().public_numbers()


def test_a_fresh_pair_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    key_id, key = own_key(folder)
    assert (folder / KEY_ID_FILE).read_text() == key_id
    assert load_public_key(folder / PRIVATE_KEY_FILE).public_numbers() == key.public_numbers()
    for name in (KEY_ID_FILE, PRIVATE_KEY_FILE):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_a_pair_that_stands_is_kept(tmp_path: Path) -> None:
    first_id, first = own_key(tmp_path)
    second_id, second = own_key(tmp_path)
    assert (first_id, first.public_numbers()) == (second_id, second.public_numbers())


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    own_key(tmp_path)
    (tmp_path / KEY_ID_FILE).unlink()
    with pytest.raises(ConfigError, match="holds one of"):
        own_key(tmp_path)


def test_a_broken_key_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----\n")
    with pytest.raises(CredentialError) as caught:
        load_public_key(file)
    assert str(file) in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, OPEN))
    with pytest.raises(CredentialError, match="not an RSA key"):
        load_public_key(file)


def test_a_missing_key_file_is_a_credential_error(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="No such file"):
        load_public_key(tmp_path / "none.pem")

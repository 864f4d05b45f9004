"""Every way to authenticate, against a server that asks for it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nkeys  # type: ignore[import-untyped]
import pytest
from pydantic import SecretStr

from ssmd_common.config.nats import NatsSettings, NatsTlsSettings
from ssmd_common.errors import CredentialError
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.testing import Identity, NatsServer, issued

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(folder: Path, config: str) -> Iterator[NatsServer]:
    server = NatsServer(folder, config=config, jetstream=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def speaks(settings: NatsSettings) -> bool:
    """Connect and hear a message of one's own."""
    heard: list[bytes] = []
    nc = await connect(settings, name="test")
    try:
        await nc.subscribe_raw("a.b", lambda messages: heard.extend(data for _, _, _, data in messages))
        await nc.write_block(b"PUB a.b 2\r\nhi\r\n")
        await nc.flush()
    finally:
        await close(nc)
    return heard == [b"hi"]


@dataclass
class Guarded:
    """A server with a certificate, and the authority that signed it."""

    server: NatsServer
    folder: Path
    authority: Identity

    @property
    def url(self) -> str:
        return self.server.url.replace("nats://", "tls://")


@pytest.fixture(params=["one certificate", "both certificates"])
def guarded(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    authority = issued(tmp_path, "authority")
    own = issued(tmp_path, "server", authority)
    both = request.param == "both certificates"
    verify = f', ca_file: "{authority.cert_file}", verify: true' if both else ""
    config = f'tls {{ cert_file: "{own.cert_file}", key_file: "{own.key_file}"{verify} }}'
    with serving(tmp_path / "nats", config) as server:
        yield Guarded(server, tmp_path, authority)


async def test_tls_with_an_authority_of_ones_own_and_a_certificate_of_the_client(guarded: Guarded) -> None:
    client = issued(guarded.folder, "client", guarded.authority)
    tls = NatsTlsSettings(ca=guarded.authority.cert_file, cert=client.cert_file, key=client.key_file)
    assert await speaks(NatsSettings(url=guarded.url, tls=tls))
    # The server says that it wants TLS, so the plain scheme does as well.
    assert await speaks(NatsSettings(url=guarded.server.url, tls=tls))
    named = tls.model_copy(update={"hostname": "server"})
    assert await speaks(NatsSettings(url=guarded.url, tls=named))


async def test_a_certificate_that_does_not_verify_is_refused_by_name(guarded: Guarded) -> None:
    stranger = issued(guarded.folder, "stranger")
    for tls in (
        NatsTlsSettings(ca=stranger.cert_file),
        NatsTlsSettings(ca=guarded.authority.cert_file, hostname="elsewhere"),
    ):
        with pytest.raises(CredentialError, match="the certificate of NATS does not verify"):
            await connect(NatsSettings(url=guarded.url, tls=tls), name="test")


@pytest.mark.parametrize("guarded", ["both certificates"], indirect=True)
async def test_a_server_that_wants_our_certificate_says_so(guarded: Guarded) -> None:
    tls = NatsTlsSettings(ca=guarded.authority.cert_file)
    with pytest.raises(CredentialError, match="NATS refused our certificate"):
        await connect(NatsSettings(url=guarded.url, tls=tls), name="test")


async def test_user_and_password_and_token(tmp_path: Path) -> None:
    with serving(tmp_path / "user", 'authorization { user: "u", password: "p w" }') as server:
        assert await speaks(NatsSettings(url=server.url, user="u", password=SecretStr("p w")))
    with serving(tmp_path / "token", 'authorization { token: "t0ken" }') as server:
        assert await speaks(NatsSettings(url=server.url, token=SecretStr("t0ken")))


def keypair(prefix: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


def text(key: Any) -> str:
    return str(key.public_key.decode())


async def test_an_nkey_seed_signs_in(tmp_path: Path) -> None:
    user, other = keypair(nkeys.PREFIX_BYTE_USER), keypair(nkeys.PREFIX_BYTE_USER)
    with serving(tmp_path, f"authorization {{ users: [ {{ nkey: {text(user)} }} ] }}") as server:
        assert await speaks(NatsSettings(url=server.url, nkey_seed=SecretStr(user.seed.decode())))
        with pytest.raises(CredentialError, match="refused the credentials"):
            await connect(NatsSettings(url=server.url, nkey_seed=SecretStr(other.seed.decode())), name="test")


def token(issuer: Any, subject: Any, name: str, body: dict[str, Any]) -> str:
    """Return a JWT as NATS's own tool writes it."""
    claims = {"iat": 1_700_000_000, "iss": text(issuer), "name": name, "sub": text(subject)}
    claims |= {"nats": {**body, "version": 2}}
    digest = hashlib.sha256(json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    parts = [_coded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)]
    return ".".join([*parts, _coded(issuer.sign(".".join(parts).encode()))])


def _coded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def test_a_creds_file_signs_in(tmp_path: Path) -> None:
    operator, account = keypair(nkeys.PREFIX_BYTE_OPERATOR), keypair(nkeys.PREFIX_BYTE_ACCOUNT)
    user = keypair(nkeys.PREFIX_BYTE_USER)
    unlimited = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1}
    limits = {**unlimited, "wildcards": True}
    operator_token = token(operator, operator, "o", {"type": "operator"})
    account_token = token(operator, account, "a", {"type": "account", "limits": limits})
    user_token = token(account, user, "u", {"type": "user", "subs": -1, "data": -1, "payload": -1})
    creds = tmp_path / "user.creds"
    creds.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    config = (
        f"operator: {operator_token}\nresolver: MEMORY\nresolver_preload: {{ {text(account)}: {account_token} }}"
    )
    with serving(tmp_path / "nats", config) as server:
        assert await speaks(NatsSettings(url=server.url, creds=creds))
        with pytest.raises(CredentialError, match="refused the credentials"):
            await connect(NatsSettings(url=server.url), name="test")

"""Credentials change while a client runs; TLS is never left out where it is asked for. On real servers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import nats.errors
import nkeys  # type: ignore[import-untyped]
import pytest
from pydantic import SecretStr

from ssmd_common.config.nats import NatsSettings, NatsTlsSettings
from ssmd_common.errors import ConfigError, CredentialError
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.testing import NatsServer, issued

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ssmd_common.nats.connection import NatsClient


@contextmanager
def serving(folder: Path, config: str) -> Iterator[NatsServer]:
    server = NatsServer(folder, config=config, jetstream=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def reconfigure(server: NatsServer, before: str, after: str) -> None:
    file = server.folder / "nats.conf"
    file.write_text(file.read_text("utf-8").replace(before, after), "utf-8")


async def connected(client: NatsClient, *, within_s: float = 120.0) -> None:
    """Wait until a client speaks with the server again."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await client.flush(1)
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.05)
            else:
                return


def nkey() -> tuple[str, str]:
    """Return a user's seed and public key."""
    pair = nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)))
    return pair.seed.decode(), pair.public_key.decode()


def _password(name: str) -> tuple[str, str]:
    return name * 4, f'{{ user: "u", password: "{name * 4}" }}'


def _token(name: str) -> tuple[str, str]:
    return name * 4, f'{{ token: "{name * 4}" }}'


def _nkey(_name: str) -> tuple[str, str]:
    seed, public = nkey()
    return seed, f"{{ users: [ {{ nkey: {public} }} ] }}"


@pytest.mark.parametrize(
    ("make", "settings"),
    [(_password, {"user": "u", "password": ""}), (_token, {"token": ""}), (_nkey, {"nkey_seed": ""})],
    ids=["password", "token", "nkey"],
)
async def test_a_secret_replaced_in_its_file_is_what_the_next_connection_shows(
    tmp_path: Path, make: Any, settings: dict[str, str]
) -> None:
    (first, first_server), (second, second_server) = make("one"), make("two")
    file = tmp_path / "secret"
    file.write_text(first)
    place = {name: value or f"file:{file}" for name, value in settings.items()}
    with serving(tmp_path / "nats", f"authorization {first_server}") as server:
        client = await connect(NatsSettings.model_validate({"url": server.url, **place}), name="test")
        try:
            file.write_text(second)
            reconfigure(server, first_server, second_server)
            server.kill()
            server.start()
            await connected(client)
        finally:
            await close(client)


async def test_a_server_that_stops_taking_our_credentials_is_shown_those_of_now(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first-password")
    lost = asyncio.Event()

    async def on_disconnected() -> None:
        lost.set()

    with serving(tmp_path / "nats", 'authorization { user: "u", password: "first-password" }') as server:
        client = await connect(
            NatsSettings(url=server.url, user="u", password=SecretStr(f"file:{file}")),
            name="test",
            on_disconnected=on_disconnected,
        )
        try:
            file.write_text("second-password")
            reconfigure(server, "first-password", "second-password")
            os.kill(server.pid, signal.SIGHUP)
            await asyncio.wait_for(lost.wait(), 120)
            await connected(client)
        finally:
            await close(client)


async def test_a_certificate_replaced_in_its_file_is_what_the_next_connection_shows(tmp_path: Path) -> None:
    authorities = [issued(tmp_path, name) for name in ("old", "new")]
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "client.pem", "client.key"))

    def lay_out(number: int) -> str:
        authority = authorities[number]
        client = issued(tmp_path, f"client-{number}", authority)
        server = issued(tmp_path, f"server-{number}", authority)
        for target, source in ((ca, authority.cert_file), (certificate, client.cert_file), (key, client.key_file)):
            target.write_bytes(source.read_bytes())
        return (
            f'tls {{ cert_file: "{server.cert_file}", key_file: "{server.key_file}", '
            f'ca_file: "{authority.cert_file}", verify: true }}'
        )

    before = lay_out(0)
    with serving(tmp_path / "nats", before) as server:
        tls = NatsTlsSettings(ca=ca, cert=certificate, key=key)
        client = await connect(NatsSettings(url=server.url.replace("nats", "tls", 1), tls=tls), name="test")
        try:
            reconfigure(server, before, lay_out(1))
            server.kill()
            server.start()
            await connected(client)
        finally:
            await close(client)


@pytest.mark.parametrize("asked_by", ["the URL", "the tls section"])
async def test_nothing_is_sent_to_a_server_without_tls_where_tls_is_asked_for(
    tmp_path: Path, asked_by: str
) -> None:
    authority = issued(tmp_path, "authority")
    tls = NatsTlsSettings(ca=authority.cert_file) if asked_by == "the tls section" else None
    said: list[bytes] = []
    with listening(said) as port:
        url = f"{'tls' if tls is None else 'nats'}://127.0.0.1:{port}"
        settings = NatsSettings(url=url, user="u", password=SecretStr("never-in-clear"), tls=tls)
        with pytest.raises(ConfigError, match="offers no TLS"):
            await asyncio.wait_for(connect(settings, name="test"), 120)
    assert said == [b""]


@contextmanager
def listening(said: list[bytes]) -> Iterator[int]:
    """Pretend to be a server that took the offer of TLS away, and keep what a client says to it."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(120)

        def serve() -> None:
            peer, _ = door.accept()
            with peer:
                peer.settimeout(120)
                peer.sendall(
                    b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576,"auth_required":true}\r\n'
                )
                said.append(peer.recv(4096))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield door.getsockname()[1]
        thread.join(120)


async def test_a_server_that_asks_for_tls_is_verified_though_nobody_configured_it(tmp_path: Path) -> None:
    own = issued(tmp_path, "server", issued(tmp_path, "authority"))
    config = f'tls {{ cert_file: "{own.cert_file}", key_file: "{own.key_file}" }}'
    with serving(tmp_path / "nats", config) as server:
        for url in (server.url, server.url.replace("nats", "tls", 1)):
            with pytest.raises(CredentialError, match="does not verify"):
                await connect(NatsSettings(url=url), name="test")


def test_verification_cannot_be_turned_off() -> None:
    names = set(NatsTlsSettings.model_fields)
    assert names == {"ca", "cert", "key", "hostname"}
    with pytest.raises(ValueError, match="verify"):
        NatsTlsSettings.model_validate({"verify": False})


async def test_an_encrypted_key_is_refused_instead_of_asking_the_terminal(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s  # noqa: PLC0415 - this test alone

    own = issued(tmp_path, "client")
    own.key_file.write_bytes(
        own.key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"pass phrase"))
    )
    settings = NatsSettings(tls=NatsTlsSettings(cert=own.cert_file, key=own.key_file))
    with pytest.raises(CredentialError, match="tls: unusable certificate or key: the key is encrypted"):
        await connect(settings, name="test")

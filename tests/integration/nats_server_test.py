"""The fixture itself: the server is real, keeps what it acknowledged, and is the one the report names."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import nats
import pytest

from integration.nats_server import RELEASE, nats_in_use

if TYPE_CHECKING:
    from integration.nats_server import NatsServer


async def test_jetstream_acknowledges_with_the_streams_sequence(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="SMOKE", subjects=["dev.smoke.>"])
    first = await jetstream.publish("dev.smoke.json.trade.A", b'{"n":1}')
    second = await jetstream.publish("dev.smoke.json.trade.B", b'{"n":2}')
    assert (first.stream, first.seq, second.seq) == ("SMOKE", 1, 2)
    assert client.connected_server_version.major == int(RELEASE.split(".")[0])
    await client.close()


@pytest.mark.parametrize("death", ["stop", "kill"])
async def test_a_restarted_server_has_its_port_and_what_it_acknowledged(
    nats_server: NatsServer, death: str
) -> None:
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(name="SMOKE", subjects=["dev.smoke.>"])
    await client.jetstream().publish("dev.smoke.json.trade.A", b'{"n":1}')
    await client.close()
    await asyncio.to_thread(getattr(nats_server, death))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", nats_server.port)) != 0
    await asyncio.to_thread(nats_server.start)
    client = await nats.connect(nats_server.url)
    message = await client.jetstream().get_msg("SMOKE", 1)
    assert message.data == b'{"n":1}'
    await client.close()


async def test_a_frame_of_the_shipped_size_limit_fits(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    assert client.max_payload == 8 * 1024 * 1024
    await client.close()


def test_a_container_is_reached_on_loopback_only(nats_server: NatsServer) -> None:
    if not nats_in_use().startswith("container"):
        pytest.skip("the server is a process of ours, which listens where we say")
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1", "127.0.1.1"}:
        with socket.socket() as probe:
            probe.settimeout(1)
            assert probe.connect_ex((str(address), nats_server.port)) != 0

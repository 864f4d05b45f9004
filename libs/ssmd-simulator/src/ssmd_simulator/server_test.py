from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from ssmd_common.errors import ConfigError
from ssmd_simulator import captures, roads
from ssmd_simulator.auth import KEY_HEADER, PATH
from ssmd_simulator.captures import Capture
from ssmd_simulator.clock import Clock
from ssmd_simulator.directory import Directory
from ssmd_simulator.peer import Peer
from ssmd_simulator.records import SentLog
from ssmd_simulator.roads import GeneratedRoad, ReplayedRoad
from ssmd_simulator.server import Simulator

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from websockets.protocol import Event

A = "KXHIGHCHI-26APR20-B55.5"
SUBSCRIBE_BOOK = json.dumps(
    {"id": 1, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"], "market_tickers": [A]}}
)
STREAM = "kalshi_prod_orderbook_stream_20260807"

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
async def bounded() -> Any:
    """Ends a test that hangs."""
    async with asyncio.timeout(180):
        yield


def generated(rate: float | None = 2000.0) -> GeneratedRoad:
    return GeneratedRoad(seed=1, markets=8, rate=rate)


async def take(client: ClientConnection, count: int) -> list[bytes]:
    return [await client.recv(decode=False) for _ in range(count)]


async def silence(client: ClientConnection, seconds: float = 0.6) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await client.recv()


async def test_a_signed_handshake_gets_in_and_frames_with_contiguous_seqs(
    private_key: RSAPrivateKey, signed_headers: dict[str, str]
) -> None:
    async with (
        Simulator(generated(), keys={signed_headers[KEY_HEADER]: private_key.public_key()}) as simulator,
        connect(simulator.url, additional_headers=signed_headers) as client,
    ):
        await client.send(SUBSCRIBE_BOOK)
        frames = [json.loads(frame) for frame in await take(client, 200)]
    assert [frame["type"] for frame in frames[:3]] == ["subscribed", "orderbook_snapshot", "orderbook_delta"]
    assert [frame["seq"] for frame in frames[1:]] == list(range(1, 200))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({KEY_HEADER: "another"}, "unknown_key"), ({KEY_HEADER: ""}, "headers_missing")],
)
async def test_a_refused_handshake_is_a_401_whose_json_names_the_reason(
    private_key: RSAPrivateKey, signed_headers: dict[str, str], changed: dict[str, str], reason: str
) -> None:
    async with Simulator(generated(), keys={signed_headers[KEY_HEADER]: private_key.public_key()}) as simulator:
        with pytest.raises(InvalidStatus) as caught:
            await connect(simulator.url, additional_headers=signed_headers | changed)
        response = caught.value.response
        assert (response.status_code, response.headers["Content-Type"]) == (401, "application/json")
        assert json.loads(response.body)["error"]["code"] == reason
        assert simulator.connections == 0


async def test_another_path_is_not_found(private_key: RSAPrivateKey, signed_headers: dict[str, str]) -> None:
    async with Simulator(generated(), keys={signed_headers[KEY_HEADER]: private_key.public_key()}) as simulator:
        with pytest.raises(InvalidStatus) as caught:
            await connect(simulator.url.replace(PATH, "/other"), additional_headers=signed_headers)
        assert caught.value.response.status_code == 404


async def test_two_clients_have_their_own_sids_and_seqs() -> None:
    async with (
        Simulator(generated(), keys=None) as simulator,
        # The first stops reading: its own closing handshake would wait behind what it did not read.
        connect(simulator.url, close_timeout=0.2) as one,
        connect(simulator.url, close_timeout=0.2) as other,
    ):
        await one.send('{"id":1,"cmd":"subscribe","params":{"channels":["trade","ticker"]}}')
        await take(one, 50)
        await other.send(SUBSCRIBE_BOOK)
        frames = [json.loads(frame) for frame in await take(other, 50)]
    assert {frame["sid"] for frame in frames[1:]} == {1}
    assert [frame["seq"] for frame in frames[1:]] == list(range(1, 50))


async def test_the_sent_log_holds_every_frame_a_client_got(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    with contextlib.closing(SentLog(path)) as sent_log:
        async with Simulator(generated(), keys=None, sent_log=sent_log) as simulator:
            async with connect(simulator.url) as client:
                await client.send(SUBSCRIBE_BOOK)
                frames = await take(client, 100)
            async with connect(simulator.url) as client:
                await client.send('{"cmd":"list_subscriptions"}')
                second = await take(client, 1)
        total = simulator.frames
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    ends = [line for line in lines if "ended" in line]
    lines = [line for line in lines if "ended" not in line]
    assert len(lines) == total
    assert [(end["connection"], end["ended"]["by"], end["ended"]["code"]) for end in ends] == [
        (1, "client", 1000),
        (2, "client", 1000),
    ]
    first_logged = [line["frame"].encode() for line in lines if line["connection"] == 1]
    assert first_logged[:100] == frames
    assert [line["n"] for line in lines if line["connection"] == 1] == list(range(1, len(first_logged) + 1))
    assert [line["frame"].encode() for line in lines if line["connection"] == 2] == second


def test_a_sent_log_is_of_one_run(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    SentLog(path).close()
    with pytest.raises(ConfigError, match="exists already"):
        SentLog(path)


async def test_a_reader_that_stops_reading_stops_the_market() -> None:
    async with Simulator(generated(rate=None), keys=None) as simulator:
        # A plain socket that reads nothing after the handshake.
        host, port = simulator.url.removeprefix("ws://").partition("/")[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        writer.write(
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        command = SUBSCRIBE_BOOK.encode()
        mask = bytes(4)
        writer.write(bytes([0x81, 0x80 | 126]) + len(command).to_bytes(2, "big") + mask + command)
        sent = -1
        while simulator.frames != sent or not sent:
            sent = simulator.frames
            await asyncio.sleep(0.5)
        # More than the buffers, far less than what it would have made in the time.
        before = sent
        while simulator.frames == before:
            await reader.read(65536)
        assert simulator.frames > before
        writer.close()


class PingKeeper(ClientConnection):
    """A client that keeps the bodies of the pings it gets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pings: asyncio.Queue[bytes] = asyncio.Queue()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pings.put_nowait(bytes(event.data))
        super().process_event(event)


async def test_pings_carry_the_heartbeat_and_go_on_without_data() -> None:
    async with (
        Simulator(generated(), keys=None, ping_interval_s=0.02) as simulator,
        connect(simulator.url, create_connection=PingKeeper) as client,
    ):
        assert isinstance(client, PingKeeper)
        assert [await client.pings.get() for _ in range(3)] == [b"heartbeat"] * 3


async def test_a_stopping_exchange_says_it_goes_away() -> None:
    async with Simulator(generated(), keys=None) as simulator:
        client = await connect(simulator.url)
        await client.send(SUBSCRIBE_BOOK)
        await take(client, 10)
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.recv()
    assert client.close_code == 1001
    assert simulator.frames >= 10


async def test_a_taken_port_is_a_config_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with Simulator(generated(), keys=None, port=port):
                pass


class BrokenRoad:
    """A road with a fault of its own."""

    directory = Directory(0)

    async def live(self, _clock: Clock, /) -> None:
        pass

    async def serve(self, peer: Peer) -> None:
        await peer.receive()
        raise ZeroDivisionError


async def test_a_fault_of_our_own_is_raised_and_not_kept_in_a_log() -> None:
    async with Simulator(BrokenRoad(), keys=None) as simulator, connect(simulator.url) as client:
        await client.send("hello")
        with pytest.raises(ExceptionGroup) as caught:
            await simulator.failure()
    assert caught.value.subgroup(ZeroDivisionError)


class BrokenCalendar(BrokenRoad):
    """A road that breaks without any client."""

    async def live(self, _clock: Clock, /) -> None:
        raise ZeroDivisionError


async def test_a_fault_of_our_own_in_what_happens_without_a_client_is_raised_too() -> None:
    async with Simulator(BrokenCalendar(), keys=None) as simulator:
        with pytest.raises(ZeroDivisionError):
            await simulator.failure()


async def test_rest_lists_markets_on_the_same_port_without_a_key(
    private_key: RSAPrivateKey, signed_headers: dict[str, str]
) -> None:
    keys = {signed_headers[KEY_HEADER]: private_key.public_key()}
    async with Simulator(generated(), keys=keys) as simulator, httpx.AsyncClient(trust_env=False) as client:
        page = await client.get(f"{simulator.rest_url}/markets", params={"limit": 5})
        assert (page.status_code, page.headers["Content-Type"]) == (200, "application/json")
        assert page.json()["markets"][0]["ticker"] == A
        assert page.json()["cursor"]
        one = await client.get(f"{simulator.rest_url}/markets/{A}")
        assert one.json()["market"] == page.json()["markets"][0]
        assert (await client.get(f"{simulator.rest_url}/markets", params={"limit": 2000})).status_code == 400
        assert (await client.get(f"{simulator.rest_url}/markets/NONE")).status_code == 404


async def test_markets_open_and_settle_while_it_runs_in_frames_and_in_rest() -> None:
    road = GeneratedRoad(seed=1, markets=3, rate=50.0, open_every_s=0.2, settle_every_s=0.3)
    async with Simulator(road, keys=None) as simulator, connect(simulator.url) as client:
        await client.send('{"id":1,"cmd":"subscribe","params":{"channels":["market_lifecycle_v2"]}}')
        told: dict[str, list[str]] = {}
        while not {"created", "settled"} <= told.keys():
            frame = json.loads(await client.recv())
            told.setdefault(frame["msg"].get("event_type", ""), []).append(frame["msg"].get("market_ticker", ""))
        async with httpx.AsyncClient(trust_env=False) as reader:
            query = {"tickers": f"{told['created'][0]},{told['settled'][0]}"}
            page = (await reader.get(f"{simulator.rest_url}/markets", params=query)).json()
    assert {market["ticker"]: market["status"] for market in page["markets"]} == {
        told["created"][0]: "active",
        told["settled"][0]: "finalized",
    }


async def test_news_reach_a_client_whose_markets_are_all_settled() -> None:
    road = GeneratedRoad(seed=1, markets=1, rate=50.0)
    async with Simulator(road, keys=None) as simulator, connect(simulator.url) as client:
        await client.send('{"id":1,"cmd":"subscribe","params":{"channels":["market_lifecycle_v2"]}}')
        await take(client, 5)
        road.directory.settle(A, 0)
        while json.loads(await client.recv())["msg"].get("event_type") != "settled":
            pass
        await silence(client)
        new = road.directory.open_next(0)
        created = json.loads(await client.recv())["msg"]
    assert (created["event_type"], created["market_ticker"]) == ("created", new.listing.ticker)


def replayed(*frames: bytes, rate: float | None = None) -> ReplayedRoad:
    return ReplayedRoad(Capture(frames, None), speed=1.0, rate=rate)


@pytest.mark.parametrize("name", [f"{STREAM}.jsonl", f"{STREAM}.recv.jsonl", "coinbase_exchange_2021.jsonl"])
async def test_a_capture_arrives_byte_for_byte_once_then_pings_only(name: str) -> None:
    folder = os.environ.get("SSMD_CAPTURES")
    if not folder:
        pytest.skip("SSMD_CAPTURES names no folder of recorded frames")
    capture = captures.read(Path(folder) / name)
    road = ReplayedRoad(capture, speed=1000, rate=100.0)
    async with (
        Simulator(road, keys=None, ping_interval_s=0.05) as simulator,
        connect(simulator.url, create_connection=PingKeeper, max_size=None) as client,
    ):
        assert isinstance(client, PingKeeper)
        await client.send(SUBSCRIBE_BOOK)
        sid = capture.sids().get("orderbook_delta", 1)
        confirmed = {"type": "subscribed", "id": 1, "msg": {"channel": "orderbook_delta", "sid": sid}}
        assert json.loads(await client.recv()) == confirmed
        assert await take(client, len(capture.frames)) == list(capture.frames)
        while not client.pings.empty():
            client.pings.get_nowait()
        await silence(client)
        assert not client.pings.empty()


async def test_commands_sent_in_any_number_are_all_confirmed_before_the_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roads, "_SETTLED_S", 2.0)  # far more than between two of them, on a busy machine too
    async with Simulator(replayed(b"1", b"2"), keys=None) as simulator, connect(simulator.url) as client:
        for number in range(1, 6):
            command = {"id": number, "cmd": "subscribe", "params": {"channels": ["trade"], "market_tickers": [A]}}
            await client.send(json.dumps(command))
            await asyncio.sleep(0.05)
        frames = await take(client, 7)
        assert [json.loads(frame)["id"] for frame in frames[:5]] == [1, 2, 3, 4, 5]
        assert frames[5:] == [b"1", b"2"]


async def test_commands_are_answered_while_the_recording_plays() -> None:
    frames = [b"%d" % number for number in range(200)]
    async with Simulator(replayed(*frames, rate=400.0), keys=None) as simulator, connect(simulator.url) as client:
        await client.send("start")
        got = await take(client, 20)
        await client.send('{"id":9,"cmd":"list_subscriptions"}')
        got += await take(client, 181)
        assert [frame for frame in got if not frame.startswith(b"{")] == frames
        assert [json.loads(frame)["id"] for frame in got if frame.startswith(b"{")] == [9]


async def test_a_client_that_comes_after_the_recording_gets_pings_only() -> None:
    async with Simulator(replayed(b"1"), keys=None) as simulator:
        async with connect(simulator.url) as first:
            await first.send("start")
            assert await take(first, 1) == [b"1"]
        async with connect(simulator.url) as second:
            await second.send("start")
            await silence(second, 0.8)


async def test_the_next_client_goes_on_where_the_first_was_cut_off(tmp_path: Path) -> None:
    frames = [b"%d" % number for number in range(60)]
    road, path = replayed(*frames, rate=50.0), tmp_path / "sent.jsonl"
    with contextlib.closing(SentLog(path)) as sent_log:
        async with Simulator(road, keys=None, sent_log=sent_log) as simulator:
            async with connect(simulator.url) as first:
                await first.send("start")
                before = await take(first, 10)
            async with connect(simulator.url) as second:
                await second.send("start")
                after = [await second.recv(decode=False)]
                while after[-1] != frames[-1]:
                    after.append(await second.recv(decode=False))
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    to_the_first = [line["frame"].encode() for line in logged if line["connection"] == 1 and "n" in line]
    assert before == frames[:10]
    # What was on its way when the first client left went with it.
    assert to_the_first + after == frames
    assert len(to_the_first) >= len(before)


async def test_a_frame_that_is_not_utf8_goes_out_binary_and_the_log_has_its_base64(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    with contextlib.closing(SentLog(path)) as sent_log:
        road = replayed(b"\xff\x00", "é".encode())
        async with Simulator(road, keys=None, sent_log=sent_log) as simulator, connect(simulator.url) as client:
            await client.send("start")
            assert [await client.recv(), await client.recv()] == [b"\xff\x00", "é"]
    lines = [json.loads(line) for line in path.read_text().splitlines()][:2]
    assert [line.pop("at_ns") > 0 for line in lines] == [True, True]
    assert lines == [{"connection": 1, "n": 1, "frame_base64": "/wA="}, {"connection": 1, "n": 2, "frame": "é"}]

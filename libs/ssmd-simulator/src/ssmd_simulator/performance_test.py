"""The faults on real sockets: what a client of the exchange sees, and what the records say of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ssmd_simulator import faults
from ssmd_simulator.faults import RandomFaults
from ssmd_simulator.harm import MALFORMED
from ssmd_simulator.performance import Performance
from ssmd_simulator.records import FaultLog, SentLog
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

A = "KXHIGHCHI-26APR20-B55.5"
TICKERS = '{"id":1,"cmd":"subscribe","params":{"channels":["ticker"]}}'
BOOK = json.dumps({"id": 2, "cmd": "subscribe", "params": {"channels": ["orderbook_delta"], "market_tickers": [A]}})
#: What the last of a client's first frames carries.
THIRD_SEQ = 2

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
async def bounded() -> Any:
    """Ends a test that hangs."""
    async with asyncio.timeout(180):
        yield


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Simulator]:
    """An exchange that keeps records."""
    with (
        contextlib.closing(SentLog(tmp_path / "sent.jsonl")) as sent,
        contextlib.closing(FaultLog(tmp_path / "faults.jsonl")) as log,
    ):
        road = GeneratedRoad(seed=1, markets=8, rate=300.0)
        async with Simulator(
            road, keys=None, sent_log=sent, ping_interval_s=0.1, faults=Performance(log=log)
        ) as simulator:
            yield simulator


@contextlib.asynccontextmanager
async def client(exchange: Simulator, command: str = BOOK, **options: Any) -> AsyncIterator[ClientConnection]:
    """A client that has got its first frames."""
    options.setdefault("compression", None)
    async with connect(exchange.url, close_timeout=1, max_size=None, **options) as connection:
        await connection.send(command)
        for _ in range(3):
            await connection.recv()
        yield connection


async def to_the_end(connection: ClientConnection) -> list[bytes]:
    """Return the frames that still come before the connection ends."""
    frames = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            frames.append(await connection.recv(decode=False))
    return frames


def lines(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]


async def ended(exchange: Simulator, tmp_path: Path) -> dict[str, Any]:
    """Return the end of the first connection, once it is on record."""
    while exchange.faults.peers:  # noqa: ASYNC110 - the server sets no event
        await asyncio.sleep(0.01)
    return next(line["ended"] for line in lines(tmp_path, "sent.jsonl") if "ended" in line)


@pytest.mark.parametrize("code", [1000, 1012, 4000])
async def test_close_comes_after_every_frame_and_the_record_says_whole(
    exchange: Simulator, tmp_path: Path, code: int
) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("close", code)
        frames = await to_the_end(connection)
        assert connection.close_code == code
    end = await ended(exchange, tmp_path)
    assert end == {"frames": 3 + len(frames), "code": code, "by": "exchange", "whole": True}
    (performed,) = lines(tmp_path, "faults.jsonl")
    assert (performed["fault"], performed["connection"]) == (f"close={code}", 1)


@pytest.mark.parametrize("name", ["reset", "eof"])
async def test_an_end_without_a_closing_handshake_is_on_record_as_nobodys(
    exchange: Simulator, tmp_path: Path, name: str
) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject(name)
        frames = await to_the_end(connection)
        assert connection.close_code == 1006
    end = await ended(exchange, tmp_path)
    assert (end["code"], end["by"], end["whole"]) == (None, "nobody", False)
    assert end["frames"] >= 3 + len(frames)


async def test_nothing_leaves_a_half_open_socket_and_what_would_have_is_on_record_as_withheld(
    exchange: Simulator, tmp_path: Path
) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("half-open")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await connection.recv()
        before = exchange.frames
        pong = await connection.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pong, 0.5)
        assert exchange.frames == before
    end = await ended(exchange, tmp_path)
    assert (end["frames"], end["by"], end["whole"]) == (before, "nobody", False)
    withheld = [line for line in lines(tmp_path, "sent.jsonl") if line.get("withheld") == "half-open"]
    assert len(withheld) > 10
    assert not any("n" in line for line in withheld)


async def test_a_half_open_socket_is_reset_in_its_time(exchange: Simulator) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("half-open", 0.2)
        await to_the_end(connection)
        assert connection.close_code == 1006


async def test_silence_is_of_frames_and_answers_but_not_of_pings_and_loses_nothing(exchange: Simulator) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("silence", 0.7)
        seq = THIRD_SEQ
        with contextlib.suppress(TimeoutError):
            while True:
                seq = json.loads(await asyncio.wait_for(connection.recv(), 0.3))["seq"]
        await connection.send('{"id":9,"cmd":"list_subscriptions"}')
        assert await (await connection.ping()) >= 0
        while (frame := json.loads(await connection.recv())).get("id") != 9:
            seq += 1
            assert frame["seq"] == seq


async def test_slow_reads_delay_answers_and_lose_none(exchange: Simulator) -> None:
    async with client(exchange) as connection:
        begun = asyncio.get_running_loop().time()
        await exchange.faults.inject("slow-reads", 0.5)
        for number in range(100, 110):
            await connection.send(json.dumps({"id": number, "cmd": "list_subscriptions"}))
        ids: list[int] = []
        while len(ids) < 10:
            answer = json.loads(await connection.recv())
            ids += [answer["id"]] if "id" in answer else []
        assert ids == list(range(100, 110))
        assert asyncio.get_running_loop().time() - begun >= 0.4


async def test_slow_writes_bring_every_frame_whole(exchange: Simulator) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("slow-writes", 0.5)
        seqs = [json.loads(await connection.recv())["seq"] for _ in range(200)]
        assert seqs == list(range(seqs[0], seqs[0] + 200))


async def test_a_bad_frame_makes_the_client_close_with_1002(exchange: Simulator, tmp_path: Path) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("bad-frame")
        await to_the_end(connection)
        sent = connection.protocol.close_sent
        assert sent is not None
        assert sent.code == 1002
    end = await ended(exchange, tmp_path)
    assert (end["by"], end["code"], end["whole"]) == ("client", 1002, False)


@pytest.mark.parametrize("code", [10, 25])
async def test_a_subscription_ended_by_an_error_sends_nothing_more_and_can_be_had_again(
    exchange: Simulator, code: int
) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject(f"error-{code}")
        frames: list[dict[str, Any]] = []
        while not frames or frames[-1]["type"] != "error":
            frames.append(json.loads(await connection.recv()))
        seqs = [frame["seq"] for frame in frames]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert (frames[-1]["sid"], frames[-1]["msg"]["code"]) == (1, code)
        await connection.send(BOOK)
        subscribed, snapshot = json.loads(await connection.recv()), json.loads(await connection.recv())
        assert (subscribed["msg"]["sid"], snapshot["sid"], snapshot["seq"]) == (2, 2, 1)


async def test_a_withheld_frame_is_on_record_where_it_would_have_been(exchange: Simulator, tmp_path: Path) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("missing-seq", 2)
        seqs = [THIRD_SEQ, *[json.loads(await connection.recv())["seq"] for _ in range(50)]]
    (gap,) = [(one, other) for one, other in itertools.pairwise(seqs) if other != one + 1]
    assert gap[1] - gap[0] == 3
    recorded = lines(tmp_path, "sent.jsonl")
    at = [number for number, line in enumerate(recorded) if line.get("withheld") == "missing-seq"]
    assert [json.loads(recorded[number]["frame"])["seq"] for number in at] == [gap[0] + 1, gap[0] + 2]
    assert json.loads(recorded[at[0] - 1]["frame"])["seq"] == gap[0]
    assert [line["fault"] for line in lines(tmp_path, "faults.jsonl")] == ["missing-seq=2"] * 2


async def test_malformed_and_huge_frames_are_sent_as_they_are_recorded(exchange: Simulator, tmp_path: Path) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("malformed-json", 2)
        await exchange.faults.inject("huge-frame")
        frames = [await connection.recv(decode=False) for _ in range(20)]
    assert [frame for frame in frames if frame in MALFORMED] == [MALFORMED[1], MALFORMED[2]]
    assert [len(frame) for frame in frames if len(frame) > 100_000] == [4 << 20]
    sent = [line["frame"].encode() for line in lines(tmp_path, "sent.jsonl") if "n" in line]
    assert sent[3 : 3 + len(frames)] == frames


async def test_late_acks_come_last_first_with_data_in_between_and_before(exchange: Simulator) -> None:
    async with client(exchange) as connection:
        await exchange.faults.inject("late-acks", 0.3)
        for number, channel in ((11, "ticker"), (12, "trade")):
            command = {"id": number, "cmd": "subscribe", "params": {"channels": [channel]}}
            await connection.send(json.dumps(command))
        frames: list[dict[str, Any]] = []
        while not {11, 12} <= {frame.get("id") for frame in frames}:
            frames.append(json.loads(await connection.recv()))
    acks = [number for number, frame in enumerate(frames) if "id" in frame]
    assert [frames[at]["id"] for at in acks] == [12, 11]
    assert acks[0] > 10
    assert acks[1] - acks[0] > 1


def answers(tmp_path: Path) -> list[dict[str, Any]]:
    """Return what the record says of the answer to command 7."""
    return [line for line in lines(tmp_path, "sent.jsonl") if '"id":7' in line.get("frame", "")]


async def test_an_answer_that_is_late_on_a_half_open_socket_never_left(exchange: Simulator, tmp_path: Path) -> None:
    async with client(exchange) as connection:
        # So late that the socket is half-open by then.
        await exchange.faults.inject("late-acks", 2)
        await connection.send('{"id":7,"cmd":"subscribe","params":{"channels":["trade"]}}')
        while not exchange.faults.performed["late-acks"]:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.01)
        await exchange.faults.inject("half-open")
        while not (late := answers(tmp_path)):  # noqa: ASYNC110 - a file tells it
            await asyncio.sleep(0.05)
    end = await ended(exchange, tmp_path)
    assert [line["withheld"] for line in late] == ["half-open"]
    assert end["frames"] == len([line for line in lines(tmp_path, "sent.jsonl") if "n" in line])


@pytest.mark.parametrize("code", [18, 26, 27])
async def test_commands_are_refused_so_many_times_and_then_done(exchange: Simulator, code: int) -> None:
    await exchange.faults.inject(f"error-{code}", 2)
    async with connect(exchange.url) as connection:
        answers = []
        for _ in range(3):
            await connection.send(BOOK)
            answers.append(json.loads(await connection.recv()))
    assert [answer["type"] for answer in answers] == ["error", "error", "subscribed"]
    assert [answer["msg"].get("code") for answer in answers] == [code, code, None]
    assert answers[0]["id"] == 2


@pytest.mark.parametrize(
    ("name", "value", "status", "wait"),
    [
        ("handshake-429", 7, 429, "7"),
        ("handshake-429", 0, 429, None),
        ("handshake-500", 1, 500, None),
        ("handshake-503", 1, 503, None),
        ("handshake-401", None, 401, None),
        ("handshake-403", None, 403, None),
    ],
)
async def test_a_handshake_is_refused_after_all_connections_were_closed(
    exchange: Simulator, name: str, value: float | None, status: int, wait: str | None
) -> None:
    async with client(exchange) as connection:
        await asyncio.gather(exchange.faults.inject(name, value), to_the_end(connection))
        assert connection.close_code == 1012
    with pytest.raises(InvalidStatus) as caught:
        await connect(exchange.url)
    assert (caught.value.response.status_code, caught.value.response.headers.get("Retry-After")) == (status, wait)
    async with client(exchange):
        assert exchange.connections == 2


async def test_a_connection_is_compressed_where_the_client_offers_it(exchange: Simulator, tmp_path: Path) -> None:
    await exchange.faults.inject("compressed")
    async with client(exchange, compression="deflate") as connection:
        assert [extension.name for extension in connection.protocol.extensions] == ["permessage-deflate"]
        frames = [await connection.recv(decode=False) for _ in range(50)]
    async with client(exchange, compression="deflate") as connection:
        assert connection.protocol.extensions == []
    sent = [line["frame"].encode() for line in lines(tmp_path, "sent.jsonl") if "n" in line]
    assert sent[3:53] == frames


async def test_rest_is_refused_and_then_answers(exchange: Simulator) -> None:
    await exchange.faults.inject("rest-429", 3)
    await exchange.faults.inject("rest-500")
    async with httpx.AsyncClient(trust_env=False) as reader:
        answers = [await reader.get(f"{exchange.rest_url}/markets") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 500, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["3", None, None]


async def test_a_skewed_clock_shows_in_frames_and_answers(exchange: Simulator) -> None:
    await exchange.faults.inject("clock-skew", -3600)
    async with httpx.AsyncClient(trust_env=False) as reader:
        date = (await reader.get(f"{exchange.rest_url}/markets")).headers["Date"]
    async with client(exchange, TICKERS) as connection:
        behind = json.loads(await connection.recv())["msg"]["ts"]
    assert abs(parsedate_to_datetime(date).timestamp() - behind) < 60
    await exchange.faults.inject("clock-skew", 0)
    async with client(exchange, TICKERS) as connection:
        assert json.loads(await connection.recv())["msg"]["ts"] - behind >= 3600


async def test_a_fault_of_a_connection_needs_one(exchange: Simulator) -> None:
    with pytest.raises(RuntimeError, match="reset happens to an open connection, and there is none"):
        await exchange.faults.inject("reset")


async def test_what_is_scheduled_waits_for_a_connection_and_is_performed_in_its_order(tmp_path: Path) -> None:
    planned = [faults.parse("duplicate-seq@100ms"), faults.parse("close=1012@3s")]
    with contextlib.closing(FaultLog(tmp_path / "faults.jsonl")) as log:
        performance = Performance(faults.schedule(planned), log=log)
        road = GeneratedRoad(seed=1, markets=8, rate=300.0)
        async with Simulator(road, keys=None, faults=performance) as exchange:
            await asyncio.sleep(0.4)
            async with client(exchange) as connection:
                await to_the_end(connection)
                assert connection.close_code == 1012
    assert [line["fault"] for line in lines(tmp_path, "faults.jsonl")] == ["duplicate-seq=1", "close=1012"]


async def test_under_every_fault_by_chance_the_exchange_itself_goes_on(tmp_path: Path) -> None:
    due = faults.schedule([], RandomFaults(0.05, seed=3))
    with contextlib.closing(SentLog(tmp_path / "sent.jsonl")) as sent:
        road = GeneratedRoad(seed=1, markets=8, rate=500.0, open_every_s=0.1, settle_every_s=0.1)
        async with Simulator(road, keys=None, sent_log=sent, faults=Performance(due, seed=3)) as exchange:
            async with asyncio.timeout(120):
                while len(exchange.faults.performed) < 12:
                    with contextlib.suppress(ConnectionClosed, InvalidStatus, TimeoutError, OSError):
                        async with asyncio.timeout(1), client(exchange) as connection:
                            await to_the_end(connection)
            assert not exchange.faults.performed.keys() - faults.CATALOGUE.keys()
    recorded = lines(tmp_path, "sent.jsonl")
    for number in range(1, exchange.connections + 1):
        numbers = [line["n"] for line in recorded if line["connection"] == number and "n" in line]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len([line for line in recorded if "ended" in line]) == exchange.connections

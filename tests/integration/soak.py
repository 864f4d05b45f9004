"""Everything at once for a while: an exchange that fails by chance, NATS restarted, the connector killed.

``python -m integration.soak --minutes 30 --rate 2000 --fault-every 10 --nats-restarts 3 --kills 2 --seed 1`` starts
NATS, simulator, connector and archiver as processes, lets go wrong what the seed says, stops all in order, and
holds the archive against the simulator's own record: every frame sent is archived once with its bytes, or lies in a
recorded gap whose bounds hold it. The memory of connector and archiver is sampled, and must stay flat.

The connector waits two seconds at the utmost between connections: with its own backoff, which forgets only after a
healthy minute, a soak with a fault every ten seconds would mostly be waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nats
import yaml

from integration.accounting import Accounting, account
from integration.connector_bench import FEED, STREAM, Bench
from integration.nats_server import NatsServer, running_nats
from ssmd_archiver.verify import verify_feed
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.reader import day_segments

__all__ = ["Plan", "Result", "Soak"]

_MARKETS = 20
_CHANGE_S = 5
_SILENCE_LIMIT_S = 5
_SAMPLE_S = 1.0
#: Memory may grow by so much, and so many bytes, from the second quarter of a life to its last.
_GROWTH, _GROWTH_BYTES = 0.10, 16 << 20
_SHORTEST_LIFE_SAMPLES = 40
_QUICK_BACKOFF = """\
from ssmd_connector import feedloop
from ssmd_connector.backoff import Backoff
feedloop.Backoff = lambda: Backoff(base_s=0.2, cap_s=2.0)
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of one soak.

    Attributes:
        minutes: How long frames flow.
        rate: Data frames a second.
        fault_every_s: Seconds between faults of the exchange on average.
        nats_restarts: How often NATS is stopped or killed, and started again.
        kills: How often the connector is killed.
        seed: Decides everything random.
    """

    minutes: float
    rate: float
    fault_every_s: float
    nats_restarts: int
    kills: int
    seed: int

    @property
    def seconds(self) -> float:
        """How long frames flow."""
        return self.minutes * 60

    def interruptions(self) -> list[tuple[float, str]]:
        """Return when NATS is restarted and the connector killed, in seconds after the start, earliest first.

        Never in the first or last tenth: what begins has to begin, and what ends has to end.
        """
        chance = random.Random(f"{self.seed}/soak")
        names = ["nats"] * self.nats_restarts + ["kill"] * self.kills
        return sorted((self.seconds * chance.uniform(0.1, 0.9), name) for name in names)


@dataclass
class Memory:
    """The resident memory of one process, from its start to its end, in bytes, a sample a second."""

    process: str
    samples: list[int] = field(default_factory=list)

    @property
    def growth(self) -> int | None:
        """How much more it is in the last quarter than in the second; None for a life too short to say."""
        count = len(self.samples)
        if count < _SHORTEST_LIFE_SAMPLES:
            return None
        return round(
            statistics.median(self.samples[-count // 4 :])
            - statistics.median(self.samples[count // 4 : count // 2])
        )

    @property
    def is_flat(self) -> bool:
        """Whether it stays what it is."""
        count = len(self.samples)
        if self.growth is None:
            return True
        before = statistics.median(self.samples[count // 4 : count // 2])
        return self.growth <= before * _GROWTH + _GROWTH_BYTES

    def _tenths(self) -> list[list[int]]:
        """Return the samples in ten parts, fewer for a very short life."""
        size = max(1, -(-len(self.samples) // 10))
        return [self.samples[start : start + size] for start in range(0, len(self.samples), size)]

    def summary(self) -> dict[str, Any]:
        """Return what a report tells of it."""
        return {
            "process": self.process,
            "seconds": round(len(self.samples) * _SAMPLE_S),
            "peak_bytes": max(self.samples, default=0),
            "growth_bytes": self.growth,
            "tenths_bytes": [round(statistics.median(part)) for part in self._tenths()],
            "flat": self.is_flat,
        }


@dataclass
class Result:
    """What a soak found.

    Attributes:
        accounting: Where every frame is.
        faults: How often each fault of the exchange was performed.
        interruptions: How often NATS was restarted and the connector killed.
        memory: Each process's life.
        findings: What ``ssmd-archiver verify`` found.
        unexpected: Processes that ended although nobody had asked them to.
    """

    accounting: Accounting
    faults: Counter[str]
    interruptions: Counter[str]
    memory: list[Memory]
    findings: list[str]
    unexpected: list[str]

    @property
    def clean(self) -> bool:
        """Whether everything is as it must be."""
        flat = all(memory.is_flat for memory in self.memory)
        return flat and not (self.accounting.wrong or self.findings or self.unexpected)

    def report(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "clean": self.clean,
            "frames": asdict(self.accounting),
            "faults": dict(sorted(self.faults.items())),
            "interruptions": dict(self.interruptions),
            "memory": [memory.summary() for memory in self.memory],
            "findings": self.findings,
            "unexpected": self.unexpected,
        }


class Soak:
    """One soak over one server.

    Args:
        server: The server; it is restarted.
        folder: Where everything lies.
        plan: The size.
    """

    def __init__(self, server: NatsServer, folder: Path, plan: Plan) -> None:
        self._server = server
        self._folder = folder
        self._plan = plan
        self._random = random.Random(f"{plan.seed}/how")
        self._bench = Bench(server, folder, keys=folder / "exchange")
        self._archive = folder / "archive"
        self._memory: list[Memory] = []
        self._interruptions: Counter[str] = Counter()
        self._unexpected: list[str] = []
        self._connector: subprocess.Popen[bytes] | None = None

    async def run(self) -> Result:
        """Run it, stop everything in order, and look.

        Raises:
            TimeoutError: Something did not start, or did not come to its end.
        """
        with contextlib.ExitStack() as processes:
            exchange = processes.enter_context(self._process("simulator", self._simulator()))
            urls = await self._ready(exchange)
            self._write_configurations(urls)
            self._connector = self._start("connector", self._connector_command())
            processes.callback(self._end_connector)
            await self._stream_exists()
            archiver = processes.enter_context(self._process("archiver", self._archiver()))
            async with asyncio.TaskGroup() as tasks:
                sampling = tasks.create_task(self._sample(archiver))
                await self._interrupt()
                await self._stop_connector()
                await self._archived()
                sampling.cancel()
            await self._stopped("archiver", archiver)
            await self._stopped("simulator", exchange)
        accounting = await asyncio.to_thread(account, self._archive, "kalshi", self._folder / "sent.jsonl")
        report = await asyncio.to_thread(verify_feed, self._archive, "kalshi")
        return Result(
            accounting=accounting,
            faults=self._performed(),
            interruptions=self._interruptions,
            memory=self._memory,
            findings=[str(finding) for finding in report.findings],
            unexpected=self._unexpected,
        )

    def _simulator(self) -> list[str]:
        plan, folder = self._plan, self._folder
        options = {
            "--generate-keys": folder / "exchange",
            "--port": 0,
            "--ready-file": folder / "exchange.ready",
            "--rate": plan.rate,
            "--seed": plan.seed,
            "--markets": _MARKETS,
            "--open-every": _CHANGE_S,
            "--settle-every": _CHANGE_S,
            "--sent-log": folder / "sent.jsonl",
            "--fault-log": folder / "faults.jsonl",
            "--faults-every": f"{plan.fault_every_s}s",
        }
        return _program("ssmd_simulator", *(str(part) for option in options.items() for part in option))

    def _connector_command(self) -> list[str]:
        feed, environment = self._folder / "feed.yaml", self._folder / "environment.yaml"
        return _program("ssmd_connector", "--feed", str(feed), "--env", str(environment), prelude=_QUICK_BACKOFF)

    def _archiver(self) -> list[str]:
        return _program("ssmd_archiver", "--config", str(self._folder / "archiver.yaml"))

    def _write_configurations(self, url: str) -> None:
        document = yaml.safe_load(FEED.read_text("utf-8"))
        document["websocket"]["silence_limit_s"] = _SILENCE_LIMIT_S
        document["websocket"]["kalshi"] |= {
            "channels": ["ticker", "trade", "orderbook_delta", "market_lifecycle_v2"],
            "discover": {"every": "30s"},
        }
        # Whatever day it is: the calendar would excuse silence.
        document.pop("calendar", None)
        (self._folder / "feed.yaml").write_text(yaml.safe_dump(document), "utf-8")
        self._bench.write(url, capture={})
        (self._folder / "archiver.yaml").write_text(
            f'nats: {{url: "{self._server.url}", stream: {STREAM}, consumer: soak, filter: "dev.kalshi.json.>"}}\n'
            f"storage: {{path: {self._archive}}}\n"
            "rotation: {interval: 30s}\n"
            "flush_interval: 1s\n"
        )

    async def _ready(self, exchange: subprocess.Popen[bytes]) -> str:
        ready = self._folder / "exchange.ready"
        async with asyncio.timeout(60):
            while not ready.exists():
                if exchange.poll() is not None:
                    raise RuntimeError(f"the simulator ended with {exchange.returncode}")
                await asyncio.sleep(0.1)
        return str(json.loads(ready.read_text())["url"])

    async def _stream_exists(self) -> None:
        """Wait for the stream the connector makes."""
        async with asyncio.timeout(60):
            while await self._last_seq() == 0:  # noqa: ASYNC110 - the server tells it
                await asyncio.sleep(0.2)

    async def _interrupt(self) -> None:
        """Restart NATS and kill the connector when the plan says so, then wait for the end."""
        begun_s = time.monotonic()
        for at_s, what in [*self._plan.interruptions(), (self._plan.seconds, "")]:
            while (left_s := begun_s + at_s - time.monotonic()) > 0:
                await asyncio.sleep(min(left_s, _SAMPLE_S))
                self._revive_connector()
            if what == "kill" and self._connector is not None:
                self._connector.kill()
                await asyncio.to_thread(self._connector.wait)
                self._connector = self._start("connector", self._connector_command())
            elif what == "nats":
                away = self._random.choice((self._server.kill, self._server.stop))
                await asyncio.to_thread(away)
                await asyncio.sleep(self._random.uniform(0.5, 5))
                await asyncio.to_thread(self._server.start)
            if what:
                self._interruptions[what] += 1

    def _revive_connector(self) -> None:
        """Start a connector that ended by itself again, as its supervisor would, and take note of it."""
        if self._connector is not None and self._connector.poll() is not None:
            self._unexpected.append(f"connector ended with {self._connector.returncode}: {self._last_words()}")
            self._connector = self._start("connector", self._connector_command())

    async def _stop_connector(self) -> None:
        """Stop it in order, once it owes nothing."""
        async with asyncio.timeout(120):
            while self._bench.spooled_bytes:  # noqa: ASYNC110 - files tell it
                await asyncio.sleep(0.2)
        assert self._connector is not None
        await self._stopped("connector", self._connector)

    async def _archived(self) -> None:
        """Wait until the archive holds the whole stream."""
        last_seq = await self._last_seq()
        async with asyncio.timeout(300):
            while await asyncio.to_thread(self._position) < last_seq:  # noqa: ASYNC110 - files tell it
                await asyncio.sleep(0.5)

    def _position(self) -> int:
        days = list_days(self._archive, "kalshi")
        # Of two days: the folder of a new one is there before its first block.
        segments = [segment for day in days[-2:] for segment in day_segments(day)]
        return max((segment.index.last_seq or 0 for segment in segments), default=0)

    async def _last_seq(self) -> int:
        client = await nats.connect(self._server.url)
        try:
            return (await client.jetstream().stream_info(STREAM)).state.last_seq
        except nats.js.errors.NotFoundError:
            return 0
        finally:
            await client.close()

    async def _stopped(self, name: str, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        code = await asyncio.to_thread(process.wait, 120)
        if code:
            self._unexpected.append(f"{name} ended with {code}: {self._last_words(name)}")

    async def _sample(self, archiver: subprocess.Popen[bytes]) -> None:
        """Look at the memory of connector and archiver, for ever."""
        lives: dict[int, Memory] = {}
        while True:
            for name, process in (("connector", self._connector), ("archiver", archiver)):
                resident = _resident_bytes(process.pid) if process is not None else 0
                if process is None or not resident:
                    continue
                if process.pid not in lives:
                    lives[process.pid] = Memory(name)
                    self._memory.append(lives[process.pid])
                lives[process.pid].samples.append(resident)
            await asyncio.sleep(_SAMPLE_S)

    def _performed(self) -> Counter[str]:
        lines = (self._folder / "faults.jsonl").read_text().splitlines()
        return Counter(json.loads(line)["fault"].partition("=")[0] for line in lines)

    def _last_words(self, name: str = "connector") -> str:
        lines = (self._folder / f"{name}.log").read_text("utf-8", "replace").splitlines()
        return " | ".join(lines[-3:])[-600:]

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KALSHI_")}
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, env=kept | {"PYTHONPATH": path}, stdout=log, stderr=log)  # noqa: S603 - our own programs

    @contextlib.contextmanager
    def _process(self, name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        process = self._start(name, command)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)

    def _end_connector(self) -> None:
        if self._connector is not None:
            self._connector.kill()
            self._connector.wait(10)


def _program(package: str, *arguments: str, prelude: str = "") -> list[str]:
    return [sys.executable, "-c", f"{prelude}from {package}.cli import main; main()", *arguments]


def _resident_bytes(pid: int) -> int:
    """Return a process's resident memory, 0 once it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run a soak from the command line."""
    parser = argparse.ArgumentParser(description="Everything at once for a while, and then the accounts.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--fault-every", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--nats-restarts", type=int, default=3)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here too")
    parser.add_argument("--folder", type=Path, help="an empty folder to work in, which is kept")
    options = parser.parse_args()
    plan = Plan(
        options.minutes, options.rate, options.fault_every, options.nats_restarts, options.kills, options.seed
    )
    print(f"{plan}", flush=True)  # noqa: T201 - a command
    with contextlib.ExitStack() as cleanup:
        folder = options.folder or Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        server = cleanup.enter_context(running_nats(folder / "nats"))
        result = asyncio.run(Soak(server, folder, plan).run())
    report = json.dumps({"plan": asdict(plan), **result.report()}, indent=2)
    print(report)  # noqa: T201 - a command
    if options.json is not None:
        options.json.write_text(f"{report}\n", "utf-8")
    sys.exit(0 if result.clean else 1)


if __name__ == "__main__":
    main()

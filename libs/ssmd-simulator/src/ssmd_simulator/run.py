"""Wires one run of the simulator: keys and road from the arguments, the server, the announcement, the stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from ssmd_common.errors import ConfigError
from ssmd_simulator import captures, keys
from ssmd_simulator.faults import Planned, RandomFaults, schedule
from ssmd_simulator.performance import Performance
from ssmd_simulator.records import FaultLog, SentLog
from ssmd_simulator.roads import GeneratedRoad, ReplayedRoad, Road
from ssmd_simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from ssmd_common.service.lifecycle import Stop

__all__ = ["Door", "Generated", "Replayed", "Settings", "Trouble", "run"]

log = structlog.get_logger()

#: A recording's subscriptions cannot be ended: its frames go on.
_NEEDS_A_MARKET = frozenset({"error-10", "error-25"})


@dataclass(frozen=True, slots=True)
class Door:
    """Who may connect: the holder of a given key, the holder of a pair kept in a folder, or everybody.

    Exactly one of the three is meant; `public_key` goes with `key_id`.
    """

    public_key: Path | None = None
    key_id: str | None = None
    keys_folder: Path | None = None
    open_to_all: bool = False

    def keys(self) -> Mapping[str, RSAPublicKey] | None:
        """Return the keys that may connect, by key id; None for everybody.

        Raises:
            ConfigError: None or several of the three ways are given, or the files do not do.
        """
        if (self.public_key is None) != (self.key_id is None):
            raise ConfigError("go together", field="--public-key and --key-id")
        if (self.public_key is not None) + (self.keys_folder is not None) + self.open_to_all != 1:
            raise ConfigError(
                "say who may connect in one way",
                remedy="give --public-key with --key-id, or --generate-keys, or --no-auth",
            )
        if self.public_key is not None and self.key_id is not None:
            return {self.key_id: keys.load_public_key(self.public_key)}
        if self.keys_folder is not None:
            return dict([keys.own_key(self.keys_folder)])
        return None


@dataclass(frozen=True, slots=True)
class Generated:
    """A market from a seed; the fields are those of :class:`~.roads.GeneratedRoad`."""

    seed: int
    markets: int
    rate: float | None
    open_every_s: float | None = None
    settle_every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """A recording; ``rate`` is frames a second at speed 1 where it has no times of its own."""

    capture: Path
    speed: float
    rate: float | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """The faults of a run, and the file they are put on record in."""

    planned: tuple[Planned, ...] = ()
    by_chance: RandomFaults | None = None
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """One run, as asked for on the command line."""

    door: Door
    play: Generated | Replayed
    host: str
    port: int
    ready_file: Path | None = None
    sent_log: Path | None = None
    trouble: Trouble = field(default_factory=Trouble)


async def run(settings: Settings, stop: Stop) -> None:
    """Run the exchange until it is told to stop.

    Announces its address, once it listens, as a JSON line ``{"url": …}`` on stdout and in the ready file.

    Raises:
        ConfigError: The settings cannot be run.
    """
    accepted = settings.door.keys()
    road = _road(settings.play)
    with contextlib.ExitStack() as cleanup:
        sent_log = None
        if settings.sent_log is not None:
            sent_log = cleanup.enter_context(contextlib.closing(SentLog(settings.sent_log)))
        faults = _faults(settings, cleanup)
        async with Simulator(
            road, keys=accepted, host=settings.host, port=settings.port, sent_log=sent_log, faults=faults
        ) as simulator:
            log.info("simulator_started", url=simulator.url, authenticated=accepted is not None)
            _announce(simulator.url, settings.ready_file)
            await _until_stopped(simulator, stop)
        log.info("simulator_stopped", connections=simulator.connections, total_frames=simulator.frames)


def _road(play: Generated | Replayed) -> Road:
    match play:
        case Generated():
            return GeneratedRoad(
                seed=play.seed,
                markets=play.markets,
                rate=play.rate,
                open_every_s=play.open_every_s,
                settle_every_s=play.settle_every_s,
            )
        case Replayed(capture, speed, rate):
            return ReplayedRoad(captures.read(capture), speed=speed, rate=rate)


def _faults(settings: Settings, cleanup: contextlib.ExitStack) -> Performance:
    trouble = settings.trouble
    replays = isinstance(settings.play, Replayed)
    for planned in trouble.planned:
        if replays and planned.fault.kind.name in _NEEDS_A_MARKET:
            raise ConfigError(
                f"{planned.fault.kind.name} is for a made-up market", field="--fault", remedy="leave out --capture"
            )
    due = schedule(trouble.planned, trouble.by_chance, but=_NEEDS_A_MARKET if replays else frozenset())
    fault_log = None
    if trouble.log is not None:
        fault_log = cleanup.enter_context(contextlib.closing(FaultLog(trouble.log)))
    return Performance(due, seed=trouble.by_chance.seed if trouble.by_chance else 0, log=fault_log)


def _announce(url: str, ready_file: Path | None) -> None:
    line = msgspec.json.encode({"url": url}).decode()
    print(line, flush=True)  # noqa: T201 - whoever started this process waits for the line
    if ready_file is None:
        return
    # Renamed into place: a reader that sees the file sees all of it.
    draft = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
    try:
        draft.write_text(f"{line}\n", encoding="utf-8")
        draft.replace(ready_file)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(ready_file)) from error


async def _until_stopped(simulator: Simulator, stop: Stop) -> None:
    broken = asyncio.create_task(simulator.failure())
    stopped = asyncio.create_task(stop.wait())
    done, waiting = await asyncio.wait({broken, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for task in done:
        task.result()

"""The archiver holds every message of the stream exactly once, whatever dies and whenever."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from integration.archive_harness import FAULTS, Harness, Plan
from integration.killed_archiver import POINTS
from integration.nats_server import NatsServer


async def test_killed_at_every_boundary_by_name_it_loses_and_doubles_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    plan = Plan(messages=30_000, kills=len(POINTS), seed=1, points=tuple(POINTS))
    result = await Harness(nats_server, tmp_path, plan).run()
    assert result.clean, str(result)
    assert result.archived == result.expected == plan.messages
    assert set(result.kills) == set(POINTS), "every point was passed"


async def test_killed_at_random_under_faults_it_loses_and_doubles_nothing(
    nats_server: NatsServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = secrets.randbelow(2**32)
    record_property("seed", seed)
    plan = Plan(messages=20_000, kills=12, seed=seed, faults=tuple(FAULTS))
    result = await Harness(nats_server, tmp_path, plan).run()
    assert result.clean, f"seed {seed}: {result}"
    assert result.archived == result.expected == plan.messages

"""The connector as a NATS user that may do what it needs and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from integration.connector_bench import STREAM, Bench, until
from integration.nats_server import running_nats
from ssmd_common import events
from ssmd_common.config.nats import NatsSettings
from ssmd_common.nats.connection import close, connect
from ssmd_common.nats.streams import ensure_stream
from ssmd_simulator.roads import GeneratedRoad
from ssmd_simulator.server import Simulator

ADMINISTRATOR = {"user": "administrator", "password": "a"}
CONNECTOR = {"user": "connector", "password": "c"}
SUBJECTS = ("dev.kalshi.json.>", "dev.kalshi.capture.>")
ASKS = (f"$JS.API.STREAM.INFO.{STREAM}", f"$JS.API.DIRECT.GET.{STREAM}")

pytestmark = pytest.mark.usefixtures("nats_kind")


@contextmanager
def permitting(folder: Path, *may_publish: str) -> Iterator[Bench]:
    """A server whose connector may publish these subjects, and hear its own inbox alone."""
    subjects = ", ".join(f'"{subject}"' for subject in may_publish)
    users = (
        "authorization { users: [ { user: administrator, password: a }, { user: connector, password: c,"
        f' permissions: {{ publish: [{subjects}], subscribe: ["_INBOX_conn.>"] }} }} ] }}'
    )
    with running_nats(folder / "nats", config=users) as server:
        yield Bench(server, folder, administrator=ADMINISTRATOR)


def as_connector(bench: Bench) -> dict[str, Any]:
    return {"type": "nats", "url": bench.server.url, "stream": STREAM, "create_stream": False, **CONNECTOR}


async def create_stream(bench: Bench) -> None:
    """Create the stream, as its administrator does."""
    client = await connect(NatsSettings.model_validate({"url": bench.server.url, **ADMINISTRATOR}), name="admin")
    await ensure_stream(client, STREAM, SUBJECTS, create=True)
    await close(client)


async def test_the_least_privilege_is_enough(tmp_path: Path) -> None:
    with permitting(tmp_path, *SUBJECTS, *ASKS) as bench:
        await create_stream(bench)
        async with Simulator(GeneratedRoad(seed=1, markets=8, rate=500), keys=None) as simulator:
            async with bench.capturing(simulator.url, transport=as_connector(bench)):
                await until(lambda: simulator.frames >= 300)
            recorded = await bench.recorded()
    (frames,) = recorded.connections().values()
    (closed,) = recorded.events(events.ConnectionClosed)
    assert len(frames) >= 300
    assert closed.acked_through == len(frames)


async def test_a_subject_that_may_not_be_published_is_named_and_its_frames_are_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""

    def named() -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return any("publish_unanswered" in line and "ermissions" in line for line in said.splitlines())

    with permitting(tmp_path, SUBJECTS[1], *ASKS) as bench:
        await create_stream(bench)
        async with (
            Simulator(GeneratedRoad(seed=1, markets=8, rate=20), keys=None) as simulator,
            bench.capturing(simulator.url, transport=as_connector(bench), drain_s=0.5),
        ):
            await until(lambda: bench.spooled_bytes > 0)
            await until(named)
        recorded = await bench.recorded()
    assert "dev.kalshi.json." in said
    assert recorded.data == []
    assert bench.spooled_bytes > 0

"""``create-stream`` before NATS is there: it waits, says for what, and can be stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from ssmd_common.errors import TransportError
from ssmd_common.service.lifecycle import Stop
from ssmd_connector.create_stream import create_stream

if TYPE_CHECKING:
    from pathlib import Path

    from ssmd_common.nats.testing import NatsServer


@pytest.fixture
def env_file(nats_server: NatsServer, tmp_path: Path) -> Path:
    """An environment whose NATS does not run."""
    nats_server.kill()
    path = tmp_path / "env.yaml"
    path.write_text(
        f"name: e\nfeed: f\ntransport: {{type: nats, url: '{nats_server.url}', stream: DEV, create_stream: true}}\n"
    )
    return path


async def test_it_waits_for_nats_and_says_so_once(
    nats_server: NatsServer, env_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logs:
        task = asyncio.create_task(create_stream(env_file, None, Stop(), environ={}))
        # Two attempts in vain.
        await asyncio.sleep(1.5)
        assert not task.done()
        await asyncio.to_thread(nats_server.start)
        async with asyncio.timeout(20):
            assert await task == 0
    (waits,) = (line for line in logs if line["event"] == "stream_not_created_yet")
    assert waits["stream"] == "DEV"
    assert nats_server.url in waits["reason"]
    assert "Ctrl-C" in waits["remedy"]
    assert "stream DEV is as it should be" in capsys.readouterr().out


async def test_a_stop_ends_the_waiting_and_says_that_nothing_was_created(env_file: Path) -> None:
    stop = Stop()
    task = asyncio.create_task(create_stream(env_file, None, stop, environ={}))
    await asyncio.sleep(0.5)
    stop.set("SIGINT")
    async with asyncio.timeout(20):
        with pytest.raises(TransportError, match="stream DEV is not created: stopped while waiting") as caught:
            await task
    assert caught.value.exit_code == 1

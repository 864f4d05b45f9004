"""Backup and restore as docs/operations.md has them, by its very commands."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from integration.archive_bench import Bench, bench_at
from integration.nats_server import NatsServer
from ssmd_archiver.run import run_archiver
from ssmd_archiver.verify import verify_feed
from ssmd_common.archive.layout import list_days
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.service.lifecycle import Stop

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"


class Small(Bench):
    """Seals every ten messages or so, and leaves the last segment open on exit."""

    def config(self) -> ArchiverConfig:
        told = super().config()
        rotation = told.rotation.model_copy(update={"seal_on_exit": False, "max_bytes": 100})
        return told.model_copy(update={"rotation": rotation})


def by_the_runbook(step: str, folder: Path, **variables: Path) -> subprocess.CompletedProcess[str]:
    """Run the commands of one step of the runbook."""
    blocks = re.findall(r"```sh\n# (\w[\w ]*)\n(.*?)```", OPERATIONS.read_text("utf-8"), re.DOTALL)
    [script] = [text for name, text in blocks if name == step]
    program = folder / "ssmd-archiver"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = {sys.path!r}\nfrom ssmd_archiver.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(  # noqa: S603 - the document's own commands
        ["/bin/sh", "-euc", script],
        env=os.environ | {"PATH": path} | {name: str(place) for name, place in variables.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


async def test_a_backup_of_a_running_archive_restores_to_one_that_verifies_and_resumes_without_a_gap(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    backup, restored = tmp_path / "backup.tar", tmp_path / "elsewhere" / "archive"
    async with bench_at(nats_server.url, tmp_path) as made:
        bench = Small(made.url, made.client, made.data)
        await bench.create()
        async with bench.archiving():
            await bench.publish(200)
            await bench.reach(150)
            await asyncio.to_thread(by_the_runbook, "back up", tmp_path, ARCHIVE=bench.data, BACKUP=backup)
            await bench.publish(100)
            await bench.reach(300)
        # The machine is gone, with everything on it.
        await asyncio.to_thread(shutil.rmtree, bench.data)

        await asyncio.to_thread(by_the_runbook, "restore", tmp_path, ARCHIVE=restored, BACKUP=backup)
        bench.data = restored
        assert verify_feed(restored, "kalshi").findings == []
        held = bench.position()
        assert 0 < held < 300
        assert not any(path.name == "_open" for path in restored.rglob("*"))

        stop = Stop()
        # No option is needed: the folder is not empty, so it is no archive that was lost.
        resuming = asyncio.create_task(run_archiver(bench.config(), stop, new_archive=False, health_addr=None))
        await bench.publish(20)
        await bench.reach(320)
        stop.set("the test is done")
        await asyncio.wait_for(resuming, 60)

        assert bench.numbers() == list(range(1, 321))
        assert bench.gaps() == []
        assert verify_feed(restored, "kalshi").findings == []
        assert len(list_days(restored, "kalshi")) in (1, 2)


@pytest.mark.parametrize("step", ["back up", "restore"])
def test_the_runbook_says_what_it_needs(step: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        by_the_runbook(step, tmp_path, ARCHIVE=tmp_path / "nowhere", BACKUP=tmp_path / "missing" / "backup.tar")

"""Verification beside an archiver that goes on, and of what clocks do."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from ssmd_archiver import workers
from ssmd_archiver.testing import DATE, T0, archive, trades, verified
from ssmd_archiver.verify import verify_feed
from ssmd_common.archive.layout import list_days
from ssmd_common.archive.times import DAY_NS, SECOND_NS


def test_an_archiver_that_seals_meanwhile_gives_no_finding(tmp_path: Path) -> None:
    """Segments of ten messages, each sealed by three renames, and a manifest up to ten seconds behind."""
    (tmp_path / "kalshi").mkdir()
    running = threading.Thread(target=lambda: asyncio.run(archive(tmp_path, trades(2_500), commit_every=3)))
    running.start()
    checks = 0
    while running.is_alive():
        assert verify_feed(tmp_path, "kalshi", clock_ns=lambda: 2).findings == []  # its clock says 1: just now
        checks += 1
    running.join()
    assert checks > 1
    assert verified(tmp_path).records == 2_500


async def test_a_manifest_that_is_behind_gets_its_time_and_a_wrong_one_is_found(tmp_path: Path) -> None:
    await archive(tmp_path, trades(15))
    manifest = tmp_path / "kalshi" / DATE / "manifest.json"
    before = manifest.read_bytes()
    await archive(tmp_path, trades(35))
    after = manifest.read_bytes()
    assert before != after
    manifest.write_bytes(before)
    (finding,) = verify_feed(tmp_path, "kalshi").findings
    assert "differs from what its 5 files say" in finding.problem
    newer = tmp_path / "newer.json"
    newer.write_bytes(after)
    writer = threading.Timer(0.5, newer.replace, [manifest])  # at once, as the archiver does
    writer.start()
    assert verify_feed(tmp_path, "kalshi", clock_ns=lambda: 2).findings == []
    writer.join()


async def test_a_gap_that_no_manifest_lists_yet_is_told(tmp_path: Path) -> None:
    stream = trades(5)
    stream.close("silent")
    await archive(tmp_path, stream, seal=False)
    report = verified(tmp_path)
    assert (report.files, report.open_segments) == (0, 1)
    assert report.gaps == {"connection": 1}


async def test_a_clock_that_steps_back_over_midnight_breaks_no_chain(tmp_path: Path) -> None:
    midnight = T0 - T0 % DAY_NS + DAY_NS
    stream = trades(0)
    for at_s in (-30, 30, 31, -29, -28, 32):
        stream.trade(at_ns=midnight + at_s * SECOND_NS)
    stream.messages[0] = (*stream.messages[0][:4], midnight - 31 * SECOND_NS)
    await archive(tmp_path, stream)
    assert len(list_days(tmp_path, "kalshi")) == 2
    assert verified(tmp_path).records == 6


async def test_several_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await archive(tmp_path, trades(60))
    first, *_, last = sorted((tmp_path / "kalshi" / DATE).glob("*.jsonl.gz"))
    assert first != last
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    last.unlink()
    monkeypatch.setattr(workers, "_WORTHWHILE_BYTES", 0)
    read: list[int] = []
    with workers.worker_processes(2, 1) as pool:
        assert pool is not None
        report = verify_feed(tmp_path, "kalshi", workers=pool, progress=read.append)
    assert {Path(finding.where).name for finding in report.findings} >= {first.name, f"{last.name[:6]}.index.jsonl"}
    assert report == verify_feed(tmp_path, "kalshi")
    assert sum(read) > 0


def test_little_data_is_read_by_one_process() -> None:
    with workers.worker_processes(8, 1 << 20) as pool:
        assert pool is None
    with workers.worker_processes(1, 1 << 40) as pool:
        assert pool is None

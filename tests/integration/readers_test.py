"""What people read archives with reads every sealed file whole: zcat, Python's gzip, DuckDB, Polars."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest

from ssmd_archiver.compression import compressor
from ssmd_archiver.testing import DATE, SESSION, SUBJECTS, T0, Stream, archive, manifest_of, verified
from ssmd_common import events
from ssmd_common.archive.layout import day_paths
from ssmd_common.archive.reader import day_segments
from ssmd_common.archive.times import from_rfc3339
from ssmd_common.config.archiver import Compression

PAYLOADS = [
    b'{"n":1,"text":"plain"}',
    '{"n":2,"text":"Zürich 東京 \U0001f600"}'.encode(),
    b'{\n  "n": 3,\n  "text": "many\\nlines"\n}\n',
    b'{"n":4,\r\n"text":"\\u00e9\\r"}',
    b'\t{"n":5,"text":"' + b"x" * 200_000 + b'"} ',
    '{"n":6,"text":"\u2028\u0085 are no ends of lines"}'.encode(),
]


def _numbers(lines: list[str]) -> list[int]:
    return [json.loads(line)["n"] for line in lines]


def zcat(path: Path) -> list[int]:
    program = shutil.which("zcat")
    assert program, "gzip belongs to every system this runs on"
    done = subprocess.run([program, str(path)], capture_output=True, check=True, timeout=60)  # noqa: S603 - our file
    return _numbers(done.stdout.decode().split("\n")[:-1])


def python_gzip(path: Path) -> list[int]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        return _numbers(list(lines))


def duckdb_objects(path: Path) -> list[int]:
    query = "SELECT (json->>'n')::BIGINT FROM read_ndjson_objects(?)"
    return [number for (number,) in duckdb.execute(query, [str(path)]).fetchall()]


def duckdb_columns(path: Path) -> list[int]:
    query = "SELECT n FROM read_json(?, columns = {n: 'BIGINT', text: 'VARCHAR'})"
    return [number for (number,) in duckdb.execute(query, [str(path)]).fetchall()]


def polars_lines(path: Path) -> list[int]:
    return _numbers(pl.scan_lines(path, name="frame").collect()["frame"].to_list())


def polars_columns(path: Path) -> list[int]:
    # An empty file tells no columns, so the schema is given.
    schema = {"n": pl.Int64, "text": pl.String}
    return pl.scan_ndjson(path, schema=schema).collect()["n"].to_list()


READERS = [zcat, python_gzip, duckdb_objects, duckdb_columns, polars_lines, polars_columns]


@pytest.fixture
async def base(tmp_path: Path) -> Path:
    """Three segments: one of many blocks by two codecs, one of a heartbeat alone, one of a single block."""
    stream = Stream()
    for number in range(60):
        stream.trade(PAYLOADS[number % len(PAYLOADS)], at_ns=T0 + number * 10**8)
    stream.trade(b"not json", at_ns=T0 + 9 * 10**9)
    heartbeat = events.Heartbeat(session=SESSION, connection=0, at_ns=T0, connections=[])
    stream.event(heartbeat, at_ns=from_rfc3339("2026-11-23T12:00:15Z"))
    stream.trade(PAYLOADS[0], at_ns=from_rfc3339("2026-11-23T12:00:25Z"))
    zlib = compressor(Compression(codec="zlib"))
    await archive(tmp_path, stream, batch=7, commit_every=1, stop_after=28, compress=zlib)
    await archive(tmp_path, stream, batch=7, commit_every=1)
    verified(tmp_path)
    return tmp_path


@pytest.mark.parametrize("read", READERS)
def test_every_sealed_file_is_read_whole(base: Path, read: Callable[[Path], list[int]]) -> None:
    day = day_paths(base, SUBJECTS.feed, dt.date.fromisoformat(DATE))
    files = manifest_of(base).files
    assert [entry.records for entry in files] == [60, 0, 1]
    assert [len(segment.index.blocks) for segment in day_segments(day)] == [9, 1, 1]
    found = [read(day.folder / entry.name) for entry in files]
    assert [len(numbers) for numbers in found] == [entry.records for entry in files]
    assert found == [[1, 2, 3, 4, 5, 6] * 10, [], [1]]

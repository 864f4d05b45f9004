"""The programs of ``benchmarks/`` run, on very little, and write the figures they print; no speed is judged."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssmd_local.commands.bench import Benchmark

_TIMEOUT_S = 240


def run(name: str, *arguments: str) -> str:
    """Run a benchmark's program and return what it prints."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        pytest.fail(f"no program benchmarks/{name}.py in {sys.path}")
    done = subprocess.run(  # noqa: S603 - our own programs
        [sys.executable, found.origin, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", [*Benchmark, "growth", "idle", "reading"])
def test_every_benchmark_tells_what_it_takes_and_writes_its_figures_where_asked(name: str) -> None:
    assert "--json FILE" in run(name, "--help")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("archiver", ["--messages", "10000", "--rounds", "1"], "archiver : fetch 1000 = "),
        (
            "api",
            ["archive", "--feeds", "1", "--days", "2", "--segments", "4", "--requests", "3"],
            "| `/manifests` |",
        ),
        ("reading", ["--messages", "20000", "--rounds", "1"], "| verify |"),
        ("growth", ["--parts", "days", "--most", "10"], "| days, at a start | 10 |"),
    ],
)
def test_a_benchmark_measures_what_it_says(tmp_path: Path, name: str, arguments: list[str], said: str) -> None:
    figures = tmp_path / "figures.json"
    assert said in run(name, *arguments, "--json", str(figures))
    assert json.loads(figures.read_text("utf-8"))

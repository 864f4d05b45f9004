"""``ssmd bench`` runs the programs named, in order, and keeps what they measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssmd_common.errors import ConfigError
from ssmd_local.commands.bench import Benchmark, bench

PROGRAM = """
import json, pathlib, sys
name = pathlib.Path(sys.argv[0]).stem
sys.stdout.write("table of " + name + "\\n")
pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({"of": name}))
sys.exit({code})
"""


def programs(folder: Path, **codes: int) -> Path:
    folder.mkdir()
    for name in Benchmark:
        (folder / f"{name}.py").write_text(PROGRAM.replace("{code}", str(codes.get(name.name.lower(), 0))))
    return folder


def test_what_is_named_runs_in_order_and_its_figures_are_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, kept = programs(tmp_path / "benchmarks"), tmp_path / "figures.json"
    assert bench([Benchmark.PIPELINE, Benchmark.API], kept, folder=folder) == 0
    assert json.loads(kept.read_text()) == {"pipeline": {"of": "pipeline"}, "api": {"of": "api"}}
    assert capfd.readouterr().out == "# pipeline\ntable of pipeline\n# api\ntable of api\n"


def test_nothing_named_is_everything(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    assert bench([], kept, folder=programs(tmp_path / "benchmarks")) == 0
    assert list(json.loads(kept.read_text())) == ["connector", "archiver", "api", "pipeline"]


def test_a_program_that_fails_ends_it_with_its_code_and_writes_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    assert bench([], kept, folder=programs(tmp_path / "benchmarks", archiver=3)) == 3
    assert not kept.exists()


def test_where_there_is_no_checkout_or_no_folder_for_the_figures_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no part of an installed ssmd"):
        bench([], None, folder=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="there is no folder"):
        bench([], tmp_path / "no" / "figures.json", folder=programs(tmp_path / "benchmarks"))

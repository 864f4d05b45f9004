"""``ssmd bench``: runs the programs of ``benchmarks/`` one after the other, and keeps their figures in one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from ssmd_common.errors import ConfigError
from ssmd_local import programs

__all__ = ["Benchmark", "bench"]

_CHECKOUT = Path(__file__).parents[5]


class Benchmark(StrEnum):
    """What can be measured; each is a program of that name, which prints its table and takes ``--json FILE``."""

    CONNECTOR = "connector"
    ARCHIVER = "archiver"
    API = "api"
    PIPELINE = "pipeline"


def bench(names: Sequence[Benchmark], json_file: Path | None, *, folder: Path = _CHECKOUT / "benchmarks") -> int:
    """Run benchmarks; their tables go to the standard output as they come.

    Args:
        names: Which; all of them if none is named.
        json_file: Where to write ``{name: figures}``; nothing is written there unless all of them ran.
        folder: Where the programs are.

    Returns:
        0, or the exit code of the first that failed.

    Raises:
        ConfigError: There are no such programs here, or the file cannot be written.
    """
    if not folder.is_dir():
        raise ConfigError("benchmarks are no part of an installed ssmd", remedy="run ./ssmd bench in a checkout")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {json_file.absolute().parent}", field="--json", remedy="create it")
    environment = programs.child_environment(os.environ)
    paths = [str(folder), str(folder.parent / "tests"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as temporary:
        for name in names or list(Benchmark):
            report = Path(temporary, f"{name}.json")
            sys.stdout.write(f"# {name}\n")
            sys.stdout.flush()
            command = [sys.executable, str(folder / f"{name}.py"), "--json", str(report)]
            done = subprocess.run(command, env=environment, check=False)  # noqa: S603 - our own program
            if done.returncode:
                return done.returncode
            figures[name] = json.loads(report.read_text("utf-8"))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0

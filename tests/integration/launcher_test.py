"""The root launcher `./ssmd`: which Python it takes, what it says when none fits, and that `.venv` is made once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = ("sh", "cat", "cksum", "dirname", "readlink")


def _launcher() -> Path:
    for folder in (Path.cwd(), *Path(__file__).parents):
        if (folder / "ssmd").is_file():
            return folder / "ssmd"
    raise AssertionError("ssmd is not beside the tests")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the launcher, and a bootstrap that tells how it was called instead of making anything."""
    root = tmp_path / "checkout"
    bootstrap = root / "deploy/local/src/ssmd_local/bootstrap.py"
    bootstrap.parent.mkdir(parents=True)
    bootstrap.write_text("")
    lock = root / "3rdparty/python/requirements.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    shutil.copy(_launcher(), root / "ssmd")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return root


def _python(checkout: Path, name: str, version: str) -> Path:
    """Put an interpreter on PATH that says it has this version, and then tells what it is asked to run."""
    path = checkout.parent / "bin" / name
    path.write_text(
        f'#!/bin/sh\ncase $1 in -c) echo {version} ;; *) cat >"$0.stamp"; echo "$0 $*"; exit 5 ;; esac\n'
    )
    path.chmod(0o755)
    return path


def _run(checkout: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the launcher under test
        [checkout / "ssmd", "up"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(checkout.parent / "bin"), "HOME": str(checkout.parent), **environ},
        cwd=checkout.parent,
    )


def test_without_a_python_one_line_says_what_is_needed(checkout: Path) -> None:
    done = _run(checkout)
    assert done.returncode == 2
    assert done.stderr == (
        "error: ssmd needs Python 3.11 or newer; found: none; install one or name it in SSMD_PYTHON\n"
    )


def test_a_python_that_is_too_old_or_does_not_run_is_named(checkout: Path) -> None:
    old = _python(checkout, "python3", "3.9")
    shim = checkout.parent / "bin" / "python3.11"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    done = _run(checkout)
    assert done.returncode == 2
    assert f"found: {shim} (does not run) {old} (3.9);" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_named_python_is_used_or_refused(checkout: Path) -> None:
    _python(checkout, "python3.11", "3.11")
    old = _python(checkout, "other", "3.10")
    refused = _run(checkout, SSMD_PYTHON=str(old))
    assert (refused.returncode, f"found: SSMD_PYTHON={old} (3.10);" in refused.stderr) == (2, True)
    new = _python(checkout, "newer", "3.14")
    taken = _run(checkout, SSMD_PYTHON="newer")
    assert taken.returncode == 5
    assert taken.stdout.split() == [
        str(new),
        "-I",
        str(checkout / "deploy/local/src/ssmd_local/bootstrap.py"),
        str(checkout),
        str(new),
    ]


def test_a_link_from_elsewhere_finds_its_checkout(checkout: Path) -> None:
    _python(checkout, "python3", "3.12")
    link = checkout.parent / "link"
    link.symlink_to(os.path.relpath(checkout / "ssmd", checkout.parent))
    done = subprocess.run(  # noqa: S603 - the launcher under test
        [link, "up"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(checkout.parent / "bin"), "HOME": "/"},
        cwd="/",
    )
    assert (done.returncode, str(checkout) in done.stdout) == (5, True)


def test_a_standing_environment_is_used_at_once(checkout: Path) -> None:
    python = _python(checkout, "python3", "3.12")
    commands = checkout / ".venv/bin"
    commands.mkdir(parents=True)
    (commands / "python").symlink_to(checkout.parent / "bin/python3")
    command = commands / "ssmd"
    command.write_text('#!/bin/sh\necho "ran $*"\n')
    command.chmod(0o755)
    assert _run(checkout).returncode == 5
    shutil.copy(f"{python}.stamp", checkout / ".venv/ssmd.stamp")
    assert (_run(checkout).stdout, _run(checkout).returncode) == ("ran up\n", 0)
    (checkout / "3rdparty/python/requirements.lock").write_text("changed")
    assert _run(checkout).returncode == 5

"""Makes ``.venv``: the first step of `./ssmd`, on a bare Python, before any package of ours or others' is there.

The launcher runs this file by its path and gives the stamp of what the environment is made of on standard input.
The stamp is written into the environment last: without it, or with another one, the next run makes the environment
anew, so an interruption at any moment costs a repetition and nothing else. Two at once take turns.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Failure", "console_script", "main", "requirement_with_hashes", "uv_environment"]

SOURCE_ROOTS = (
    "libs/ssmd-common/src",
    "libs/ssmd-simulator/src",
    "services/connector/src",
    "services/archiver/src",
    "services/manifest-api/src",
    "deploy/local/src",
)
COMMANDS = {
    "ssmd": "ssmd_local",
    "ssmd-connector": "ssmd_connector",
    "ssmd-archiver": "ssmd_archiver",
    "ssmd-manifest-api": "ssmd_manifest_api",
    "ssmd-simulator": "ssmd_simulator",
}


class Failure(Exception):  # noqa: N818 - what it says is printed after "error:"
    """The environment cannot be made; the text is one line with the remedy."""


def requirement_with_hashes(lock: str, package: str) -> str:
    """Return the lines of one package of a hashed lock, as a requirements file of its own.

    Raises:
        Failure: The lock does not name the package.
    """
    lines = lock.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(f"{package}==")]
    if not starts:
        raise Failure(f"requirements.lock does not pin {package}")
    hashes = []
    for line in lines[starts[0] + 1 :]:
        if not line.lstrip().startswith("--hash="):
            break
        hashes.append(line.strip().removesuffix("\\").strip())
    return " \\\n  ".join([lines[starts[0]].removesuffix("\\").strip(), *hashes]) + "\n"


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables uv runs with: pip's settings of mirror and certificates hold for it too.

    Like pip it trusts the machine's own authorities, such as a company's.
    """
    ours = {"UV_SYSTEM_CERTS": "true", **environ}
    for theirs, named in (
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
        ("PIP_CERT", "SSL_CERT_FILE"),
    ):
        if environ.get(theirs):
            ours.setdefault(named, environ[theirs])
    return ours


def console_script(python: Path, package: str) -> str:
    """Return a program that runs ``<package>.cli:main``; its head allows a path of any length, with spaces."""
    return f"""#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import signal
import sys

# Until the program takes signals itself, a Ctrl-C ends it without a word.
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

from {package}.cli import main

sys.exit(main())
"""


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the checkout's folder against another run of this file; the kernel lets go of it when a process dies."""
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another run is making .venv: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _say(text: str) -> None:
    sys.stderr.write(f"ssmd: {text}\n")


def _run(*command: str | Path, environ: Mapping[str, str] | None = None) -> bool:
    """Run a step quietly; what it said is shown if it fails."""
    done = subprocess.run(  # noqa: S603 - programs of this environment
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=None if environ is None else dict(environ),
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        sys.stderr.write("".join(f"  {line}\n" for line in done.stdout.splitlines()[-8:]))
    return done.returncode == 0


def _install(venv: Path, lock: Path) -> None:
    """Make the environment and install the lock: by uv, pinned there too, else by pip, ten times slower."""
    base = os.path.realpath(sys.executable)
    with_pip = importlib.util.find_spec("ensurepip") is not None
    uv_on_path = shutil.which("uv")
    if not with_pip and uv_on_path is None:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise Failure(
            f"{base} has no ensurepip to make .venv with; install it (Debian: apt-get install {package}) or uv"
        )
    if not _run(base, "-I", "-m", "venv", *([] if with_pip else ["--without-pip"]), venv):
        raise Failure(f"{base} -m venv failed; name another Python in SSMD_PYTHON")
    python = venv / "bin/python"
    uv = uv_on_path or str(venv / "bin/uv")
    if with_pip:
        wanted = venv / "uv.txt"
        wanted.write_text(requirement_with_hashes(lock.read_text("utf-8"), "uv"), "utf-8")
        if not _run(python, "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "-r", wanted):
            raise Failure("pip cannot reach the package index; see the lines above")
        uv = str(venv / "bin/uv")
    environ = uv_environment(os.environ)
    if _run(uv, "pip", "install", "--python", python, "--require-hashes", "-r", lock, environ=environ):
        return
    if not with_pip:
        raise Failure("uv cannot install requirements.lock; see the lines above")
    _say("uv failed: trying pip, which takes a minute")
    if not _run(python, "-m", "pip", "install", "--quiet", "--no-input", "--require-hashes", "-r", lock):
        raise Failure("requirements.lock cannot be installed; see the lines above")


def _link(venv: Path, root: Path) -> None:
    """Put the source roots on the environment's path and the five commands into its bin."""
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(venv), "platbase": str(venv)}))
    (packages / "ssmd.pth").write_text("".join(f"{root / source}\n" for source in SOURCE_ROOTS), "utf-8")
    for command, package in COMMANDS.items():
        script = venv / "bin" / command
        script.write_text(console_script(venv / "bin/python", package), "utf-8")
        script.chmod(0o755)


def main(root: Path, asked_python: str, stamp: str) -> int:
    """Make ``.venv`` in the checkout unless it stands.

    Args:
        root: The checkout.
        asked_python: The interpreter as the launcher named it.
        stamp: What the environment is made of.

    Returns:
        The exit code: 0, or 2 with one line on standard error.
    """
    venv = root / ".venv"
    try:
        with _alone(root):
            stamp_file, python_file = venv / "ssmd.stamp", venv / "ssmd.python"
            standing = stamp_file.exists() and stamp_file.read_text("utf-8") == stamp
            if standing and python_file.read_text("utf-8").strip() == asked_python:
                return 0
            _say("making .venv (once)")
            stamp_file.unlink(missing_ok=True)
            if venv.exists():
                shutil.rmtree(venv)
            _install(venv, root / "3rdparty/python/requirements.lock")
            _link(venv, root)
            python_file.write_text(asked_python + "\n", "utf-8")
            stamp_file.write_text(stamp, "utf-8")
    except (Failure, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.stdin.read()))

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ssmd_local import bootstrap

LOCK = """\
anyio==4.0 \\
    --hash=sha256:aa
    # via httpx
uv==0.9 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via -r requirements.txt
uvicorn==1.0 ; sys_platform != 'win32' \\
    --hash=sha256:dd
"""


def test_a_package_is_taken_out_of_the_lock_with_its_hashes_alone() -> None:
    assert (
        bootstrap.requirement_with_hashes(LOCK, "uv") == "uv==0.9 \\\n  --hash=sha256:bb \\\n  --hash=sha256:cc\n"
    )


def test_a_package_that_the_lock_does_not_pin_is_named() -> None:
    with pytest.raises(bootstrap.Failure, match="does not pin pip"):
        bootstrap.requirement_with_hashes(LOCK, "pip")


def test_pips_mirror_and_certificates_hold_for_uv_unless_uv_has_its_own() -> None:
    environ = {
        "PIP_INDEX_URL": "https://mirror/simple",
        "PIP_CERT": "/ca.pem",
        "SSL_CERT_FILE": "/own.pem",
        "HOME": "/h",
    }
    assert bootstrap.uv_environment(environ) == {
        **environ,
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_SYSTEM_CERTS": "true",
    }


def test_the_machines_own_authorities_are_trusted_unless_uv_is_told_otherwise() -> None:
    assert bootstrap.uv_environment({})["UV_SYSTEM_CERTS"] == "true"
    assert bootstrap.uv_environment({"UV_SYSTEM_CERTS": "0"})["UV_SYSTEM_CERTS"] == "0"


def test_a_console_script_runs_from_a_folder_with_a_space_and_passes_arguments_and_exit_code(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(sys.executable)
    package = folder / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text("import sys\ndef main():\n    print(sys.argv[1:])\n    return 7\n")
    script = folder / "command"
    script.write_text(bootstrap.console_script(python, "pack"))
    script.chmod(0o755)
    done = subprocess.run([script, "x y", "z"], capture_output=True, text=True, check=False, cwd=folder)  # noqa: S603 - ours
    assert (done.stdout, done.returncode) == ("['x y', 'z']\n", 7)


def test_a_python_without_ensurepip_is_answered_with_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.main(tmp_path, sys.executable, "stamp") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert f"apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in said
    assert not (tmp_path / ".venv" / "ssmd.stamp").exists()


def test_a_standing_environment_is_left_alone(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    venv.mkdir()
    (venv / "ssmd.stamp").write_text("stamp")
    (venv / "ssmd.python").write_text("/usr/bin/python3\n")
    assert bootstrap.main(tmp_path, "/usr/bin/python3", "stamp") == 0
    assert sorted(path.name for path in venv.iterdir()) == ["ssmd.python", "ssmd.stamp"]

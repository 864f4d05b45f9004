from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ssmd_common.errors import ConfigError
from ssmd_local.places import RunPaths
from ssmd_local.ports import choose_ports
from ssmd_local.state import ProcessId, RunState, process_id, read_state, signal_process, write_state


def test_a_process_is_known_by_its_start_time_too() -> None:
    own = process_id(os.getpid())
    assert own.is_alive()
    stranger = ProcessId(own.pid, "another time")
    assert not stranger.is_alive()
    assert not signal_process(stranger, signal.SIGKILL)


def test_a_process_that_ended_is_gone_even_before_it_is_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = process_id(child.pid)
        assert identity.is_alive()
        assert signal_process(identity, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.is_alive()
    assert not process_id(child.pid).is_alive()


def test_state_is_read_as_written_and_anything_else_is_none(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.folder.mkdir()
    assert read_state(paths) is None
    state = RunState(
        supervisor=process_id(os.getpid()),
        source="simulator",
        feed="kalshi",
        api_url="http://127.0.0.1:1",
        nats_url="nats://127.0.0.1:2",
        started_at="2026-11-23T06:16:18+00:00",
        processes={"nats-server": ProcessId(1, "2")},
    )
    write_state(paths, state)
    assert read_state(paths) == state
    paths.state.write_text("{]")
    assert read_state(paths) is None


def test_ports_differ_and_a_taken_one_is_refused_by_its_option() -> None:
    ports = choose_ports(0)
    numbers = [ports.nats, ports.nats_monitor, ports.simulator, ports.connector, ports.archiver, ports.api]
    assert len(set(numbers)) == len(numbers)
    for number in numbers:
        with socket.create_server(("127.0.0.1", number)):
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"--api-port.*taken"):
            choose_ports(taken.getsockname()[1])

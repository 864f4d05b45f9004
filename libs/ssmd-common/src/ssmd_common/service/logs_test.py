from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from ssmd_common.errors import ConfigError
from ssmd_common.service.logs import configure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_a_line_is_json_with_the_fixed_keys_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ssmd-test")
    structlog.get_logger().info("segment_sealed", name="0915.jsonl.gz", records=12)

    (line,) = _lines(capsys)
    assert list(line) == ["ts", "level", "service", "event", "name", "records"]
    assert (line["level"], line["service"], line["event"]) == ("info", "ssmd-test", "segment_sealed")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["ts"])).total_seconds()) < 60


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ssmd-test", level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")

    assert [line["event"] for line in _lines(capsys)] == ["loud"]


def test_an_unknown_level_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no log level 'chatty'"):
        configure("ssmd-test", level="chatty")


def test_libraries_speak_through_the_same_lines_from_warning_up(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ssmd-test", level="debug")
    logging.getLogger("nats.aio").info("chatter")
    logging.getLogger("nats.aio").warning("lost %s", "nats://bob:pw@host")

    (line,) = _lines(capsys)
    assert (line["event"], line["logger"], line["level"]) == ("library_log", "nats.aio", "warning")
    assert line["message"] == "lost nats://[redacted]@host"
    assert line["service"] == "ssmd-test"


def test_configuring_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ssmd-test")
    configure("ssmd-test")
    logging.getLogger("x").error("once")
    structlog.get_logger().error("once")

    assert len(_lines(capsys)) == 2


def test_secrets_never_reach_a_line_nor_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ssmd-test")
    error = RuntimeError("cannot reach nats://bob:hunter2@host")
    structlog.get_logger().error("connect_failed", token="hunter2", nested={"password": "hunter2"}, exc_info=error)

    text = capsys.readouterr().err
    assert "hunter2" not in text
    assert "RuntimeError" in json.loads(text)["exception"]


def test_a_reader_of_the_log_that_went_away_does_not_end_the_process() -> None:
    code = (
        "import os, structlog; from ssmd_common.service.logs import configure\n"
        "configure('t'); os.close(2); structlog.get_logger().info('lost'); print('alive')"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=False, timeout=60, env=env
    )

    assert done.stdout == b"alive\n"

"""The names the connector answers to and speaks: the same in the code and in the documents."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from ssmd_common.config import unused
from ssmd_common.service.telemetry import Metrics
from ssmd_connector.causes import Cause
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.plan import INSTANCE_VARIABLE

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "deploy", "docs", "libs", "services", "tests")
_IN_CODE = re.compile(r"""["'`{$(](SSMD_[A-Z0-9_]*[A-Z0-9])\b""")


def _sources() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    found += [path for name in ("ssmd", "pants", ".ci/run", "README.md") if (path := ROOT / name).is_file()]
    # Tests invent names; the list under test proves nothing about itself.
    return [path for path in found if not path.name.endswith("_test.py") and path != Path(unused.__file__)]


def test_every_variable_the_repository_reads_is_known_to_the_connector() -> None:
    names = {name for path in _sources() for name in _IN_CODE.findall(path.read_text("utf-8"))}

    assert {"SSMD_DATA", "SSMD_TEST_NATS", INSTANCE_VARIABLE} <= names
    assert unused.unknown_variables(names, known=(INSTANCE_VARIABLE,)) == []


def test_every_cause_of_an_end_is_counted_from_the_start_and_explained() -> None:
    metrics = Metrics("test")
    ConnectorMetrics(metrics)

    series = {
        sample.labels["cause"]: sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name == "ssmd_connector_disconnects_total"
    }

    assert series == {cause.value: 0 for cause in Cause if cause is not Cause.STOPPED}
    formats = (ROOT / "docs/formats.md").read_text("utf-8")
    (told,) = re.findall(r"Causes of `connection_closed`:(.*?)\n\n", formats, re.DOTALL)
    assert [cause for cause in Cause if f"`{cause.value}`" not in told] == []

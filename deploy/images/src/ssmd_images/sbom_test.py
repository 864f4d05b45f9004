"""The bills of materials; that an image answers is tested where images are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ssmd_images.sbom import UNKNOWN, Part, bill, licences, main

if TYPE_CHECKING:
    import pytest

NATS = Part("pypi", "nats-py", "2.16.0", "Apache-2.0")
OLD = Part("pypi", "old", "1", UNKNOWN)
BASH = Part("deb", "bash", "5.2", "GPL-3+, BSD-4-clause-UC")


def test_a_bill_names_every_part_with_its_address_and_licence() -> None:
    told = json.loads(bill("ssmd-connector", [NATS, OLD, BASH], at=datetime(2026, 11, 23, tzinfo=UTC)))
    assert told["bomFormat"] == "CycloneDX"
    assert told["metadata"]["component"]["name"] == "ssmd-connector"
    found = {part["purl"]: part.get("licenses") for part in told["components"]}
    assert found == {
        "pkg:pypi/nats-py@2.16.0": [{"license": {"id": "Apache-2.0"}}],
        "pkg:pypi/old@1": None,
        "pkg:deb/debian/bash@5.2": [{"license": {"name": "GPL-3+, BSD-4-clause-UC"}}],
    }
    [whole] = [entry for entry in told["dependencies"] if entry["ref"] == "ssmd-connector"]
    assert sorted(whole["dependsOn"]) == sorted(found)


def test_the_table_says_which_images_hold_a_distribution() -> None:
    table = licences({"ssmd-connector": [NATS, BASH], "ssmd-archiver": [NATS, OLD]})
    assert table.splitlines()[2:] == [
        "| nats-py | 2.16.0 | Apache-2.0 | archiver, connector |",
        "| old | 1 | unknown | archiver |",
    ]


def test_without_a_folder_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err

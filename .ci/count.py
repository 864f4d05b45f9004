"""Counts the tests of .ci/run from its JUnit reports, and proves which NATS they ran on.

``count.py FOLDER STATUS``: FOLDER has a folder of reports for each step; the steps ``container`` and ``process``
are named after the NATS they must have used. STATUS is the run's exit code so far. Exits 1 if a test failed, none
passed, or a step used another NATS. The last line is ``N passed, N failed, N skipped``.
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def nats_of(step: Path) -> set[str]:
    """Return what the reports of one step say in the property ``nats``."""
    found = (ET.parse(file).iterfind(".//property[@name='nats']") for file in step.glob("*.xml"))
    return {prop.get("value", "") for props in found for prop in props}


def count(folder: Path) -> Counter[str]:
    """Return the number of test cases by outcome; a broken fixture is a failure."""
    outcomes: Counter[str] = Counter()
    for file in folder.rglob("*.xml"):
        for case in ET.parse(file).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                outcomes["failed"] += 1
            elif case.find("skipped") is not None:
                outcomes["skipped"] += 1
            else:
                outcomes["passed"] += 1
    return outcomes


def main(folder: Path, status: int) -> int:
    """Print the proof and the count."""
    wrong = []
    for kind in ("container", "process"):
        used = nats_of(folder / kind)
        print(f"nats in step {kind}: {', '.join(sorted(used)) or 'none'}")
        if not used or not all(value.startswith(kind) for value in used):
            wrong.append(kind)
    if wrong and status == 0:
        print(f"error: not proven that these steps used the NATS they name: {', '.join(wrong)}")
    outcomes = count(folder)
    bad = status != 0 or bool(wrong) or outcomes["failed"] > 0 or outcomes["passed"] == 0
    # A step that broke without a failing test (lint, types, an image) is a failure too.
    failed = outcomes["failed"] or int(bad)
    print(f"{outcomes['passed']} passed, {failed} failed, {outcomes['skipped']} skipped")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))

from __future__ import annotations

import pytest

from ssmd_common.archive.gaps import GapLayer, GapStatus
from ssmd_common.archive.manifest import GapEntry
from ssmd_manifest_api.explanations import CAUSES, LAYERS, STATUSES, explain
from ssmd_manifest_api.view_gaps import gap_view


def entry(**changes: object) -> GapEntry:
    fields: dict[str, object] = {
        "gap_id": "1:100",
        "layer": "stream",
        "cause": "retention",
        "status": "permanent",
        "epoch": 1,
        "key": "",
        "start_seq": 100,
        "end_seq": 103,
        "start": "2026-11-23T12:00:01Z",
        "end": "2026-11-23T12:00:05Z",
        "after_seq": 99,
        "missing_count": 3,
        "detected_at": "2026-11-23T12:00:05Z",
    }
    return GapEntry.model_validate({**fields, **changes})


def test_every_layer_and_status_is_explained_and_no_other() -> None:
    assert set(LAYERS) == {layer.value for layer in GapLayer}
    assert set(STATUSES) == {status.value for status in GapStatus}
    assert {layer for layer, _ in CAUSES} <= set(LAYERS)


@pytest.mark.parametrize(("layer", "cause"), CAUSES)
def test_every_cause_says_what_happened_and_what_to_do(layer: str, cause: str) -> None:
    explanation = explain(layer, cause)
    assert len(explanation.title) < 60
    assert explanation.happened.endswith(".")
    assert explanation.remedy.endswith(".")


@pytest.mark.parametrize("layer", LAYERS)
def test_a_cause_of_a_later_version_is_explained_by_its_layer(layer: str) -> None:
    explanation = explain(layer, "solar_flare")
    assert "solar flare" in explanation.title
    assert explanation.happened
    assert explanation.remedy


@pytest.mark.parametrize(
    ("changes", "missing", "where"),
    [
        ({}, "3 messages", "stream sequence 100 to 102"),
        ({"missing_count": 1, "end_seq": 101}, "1 message", "stream sequence 100"),
        (
            {"missing_count": None, "end_seq": None, "end": None},
            "an unknown number of messages",
            "stream sequence 100 and on",
        ),
        ({"key": "a-1.1"}, "3 frames", "frame 100 to 102"),
        ({"layer": "exchange", "key": "a-1.1/sid:3"}, "3 updates", "update 100 to 102"),
        (
            {"layer": "connection", "start_seq": None, "end_seq": None, "missing_count": None},
            "an unknown number of frames",
            "",
        ),
        ({"missing_count": 0}, "nothing", "stream sequence 100 to 102"),
    ],
)
def test_what_is_missing_is_told_in_the_unit_of_its_layer(
    changes: dict[str, object], missing: str, where: str
) -> None:
    view = gap_view(entry(**changes), 1, [], page=1)
    assert (view.missing, view.where) == (missing, where)


def test_a_gap_says_how_long_it_lasted_and_where_it_is_explained() -> None:
    view = gap_view(entry(), 60, [], page=2)
    assert (view.lasted, view.anchor, view.url) == ("4 s", "gap-60", "?gaps=2#gap-60")
    assert gap_view(entry(end=None), 1, [], page=1).label == (
        "stream gap from 12:00:01 and still open: NATS dropped messages before they were archived"
    )

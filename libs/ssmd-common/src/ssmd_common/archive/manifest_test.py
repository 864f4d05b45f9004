from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.manifest import parse_manifest
from ssmd_common.config.model import parse_rotation_interval
from ssmd_common.errors import ArchiveError, ConfigError

_EMPTY = {
    "schema_version": 1,
    "feed": "kalshi",
    "env": "local",
    "stream": "LOCAL_KALSHI",
    "date": "2026-11-24",
    "format": "jsonl",
    "rotation_interval": "15m",
    "complete_through": None,
    "has_gaps": False,
} | {name: [] for name in ("files", "gaps", "tickers", "message_types", "epochs", "sessions", "anomalies")}


@given(st.from_regex(r"0{0,8}[0-9]{1,9}[smhd]", fullmatch=True))
@settings(deadline=None)
def test_a_manifest_takes_just_the_intervals_a_configuration_takes(text: str) -> None:
    data = json.dumps(_EMPTY | {"rotation_interval": text}).encode()
    try:
        parse_rotation_interval(text)
    except ConfigError:
        with pytest.raises(ArchiveError, match="rotation_interval"):
            parse_manifest(data, where="manifest.json")
    else:
        assert parse_manifest(data, where="manifest.json").rotation_interval == text


@pytest.mark.parametrize("time", ["2026-02-30T00:00:00Z", "tomorrow", ""])
def test_a_time_that_is_none_is_damage_named_by_its_field(time: str) -> None:
    data = json.dumps(_EMPTY | {"complete_through": time}).encode()
    with pytest.raises(ArchiveError, match="manifest damaged at complete_through"):
        parse_manifest(data, where="manifest.json")

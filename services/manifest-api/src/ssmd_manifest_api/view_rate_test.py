from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.index import Block
from ssmd_common.archive.times import DAY_NS, SECOND_NS
from ssmd_manifest_api.view_rate import Slice, bars, bucket_ns, index_slices, outline

SPANS = st.tuples(st.integers(0, DAY_NS - 1), st.integers(1, 3600 * SECOND_NS), st.integers(1, 10_000))


def block(first_ns: int, last_ns: int, records: int) -> Block:
    fields: dict[str, Any] = dict.fromkeys(Block.__struct_fields__, 0)
    return msgspec.structs.replace(
        Block(**fields),
        first_ns=first_ns,
        last_ns=last_ns,
        records=records,
        records_by_type={"trade": records},
    )


@settings(deadline=None)
@given(st.lists(SPANS, max_size=30))
def test_bars_hold_every_record_of_their_span_once(parts: list[tuple[int, int, int]]) -> None:
    slices = [Slice(start, start + length, {"trade": records}) for start, length, records in parts]
    end_ns = DAY_NS + 3600 * SECOND_NS
    shown = bars(slices, 0, end_ns, bucket_ns(end_ns))
    assert sum(bar.records for bar in shown) == pytest.approx(sum(part.records for part in slices))
    assert all(bar.records >= 0 for bar in shown)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 899), st.integers(0, 300), st.integers(1, 100)), max_size=200))
def test_an_index_of_any_length_is_a_few_slices_with_all_its_records(parts: list[tuple[int, int, int]]) -> None:
    blocks = [block(at * SECOND_NS, (at + lasted) * SECOND_NS, records) for at, lasted, records in parts]
    slices = index_slices(blocks, window_ns=900 * SECOND_NS)
    assert sum(part.records for part in slices) == sum(one.records for one in blocks)
    short = [one for one in blocks if one.last_ns is not None and one.first_ns is not None]
    long = [one for one in short if (one.last_ns or 0) - (one.first_ns or 0) > 60 * SECOND_NS]
    assert len(slices) <= 15 + len(long)


@pytest.mark.parametrize(("span_s", "width_s"), [(86_400, 300), (3_600, 15), (300, 5), (60, 5)])
def test_a_bar_is_as_wide_as_a_person_would_choose(span_s: int, width_s: int) -> None:
    assert bucket_ns(span_s * SECOND_NS) == width_s * SECOND_NS


def test_the_outline_stays_in_its_box_and_is_short() -> None:
    many = bars([Slice(0, DAY_NS, {"trade": 10**6})], 0, DAY_NS, 300 * SECOND_NS)
    path = outline(many)
    assert path.startswith("M0 20V0H")
    assert path.endswith("H100V20Z")
    assert len(path) < 2_000
    assert outline([]) == "M0 20V20Z"

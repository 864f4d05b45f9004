"""A short soak: the long ones, by hand, are the same with other numbers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from integration.accounting import account
from integration.nats_server import NatsServer
from integration.soak import Memory, Plan, Soak

_MIB = 1 << 20


async def test_every_frame_is_archived_once_or_in_a_gap_that_holds_it_whatever_fails(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    plan = Plan(minutes=3, rate=800, fault_every_s=5, nats_restarts=1, kills=1, seed=20)
    result = await Soak(nats_server, tmp_path, plan).run()
    found = result.accounting
    assert (found.wrong, result.findings, result.unexpected) == ([], [], [])
    assert found.sent == found.archived + found.in_gaps + found.after_stop
    assert result.interruptions == {"nats": 1, "kill": 1}
    # Frames flowed for a good part of the time, and much went wrong.
    assert found.archived > 10_000
    assert sum(result.faults.values()) >= 10
    assert found.connections >= 3
    assert result.clean
    # The accounts themselves are held to account: a frame more than was captured does not add up.
    lines = (tmp_path / "sent.jsonl").read_bytes().splitlines(keepends=True)
    for change in (_changed, _one_more):
        (tmp_path / "other.jsonl").write_bytes(b"".join(change(lines)))
        assert account(tmp_path / "archive", "kalshi", tmp_path / "other.jsonl").wrong


def _amid(lines: list[bytes]) -> tuple[int, dict[str, Any]]:
    """Return where a frame of a book stands in the middle of the longest connection, and its line."""
    frames = [
        (place, json.loads(line)) for place, line in enumerate(lines) if b'\\"type\\":\\"orderbook_delta' in line
    ]
    longest, _ = Counter(line["connection"] for _, line in frames).most_common(1)[0]
    of_longest = [(place, line) for place, line in frames if line["connection"] == longest and "n" in line]
    return of_longest[len(of_longest) // 2]


def _changed(lines: list[bytes]) -> list[bytes]:
    """Say that one frame was another one."""
    place, line = _amid(lines)
    return [*lines[:place], json.dumps(line | {"frame": "{}"}).encode() + b"\n", *lines[place + 1 :]]


def _one_more(lines: list[bytes]) -> list[bytes]:
    """Say that a frame was kept back that never was."""
    place, line = _amid(lines)
    sid = json.loads(line.pop("frame"))["sid"]
    del line["n"]
    line |= {"withheld": "missing-seq", "frame": json.dumps({"sid": sid, "seq": 10**6})}
    return [*lines[:place], json.dumps(line).encode() + b"\n", *lines[place:]]


def test_the_interruptions_follow_from_the_seed_and_leave_beginning_and_end_alone() -> None:
    plan = Plan(minutes=10, rate=1, fault_every_s=1, nats_restarts=3, kills=2, seed=1)
    moments = plan.interruptions()
    assert moments == plan.interruptions() == sorted(moments)
    assert sorted(what for _, what in moments) == ["kill", "kill", "nats", "nats", "nats"]
    assert all(60 <= at_s <= 540 for at_s, _ in moments)


@pytest.mark.parametrize(
    ("samples", "flat"),
    [
        ([100 * _MIB] * 100, True),
        ([10 * _MIB] * 20 + [100 * _MIB] * 80, True),
        ([100 * _MIB + second * _MIB // 10 for second in range(100)], True),
        ([100 * _MIB + second * _MIB for second in range(100)], False),
        ([second * 100 * _MIB for second in range(10)], True),
    ],
)
def test_memory_is_flat_where_it_does_not_grow_after_the_first_quarter(samples: list[int], flat: bool) -> None:  # noqa: FBT001 - a parameter
    assert Memory("connector", samples).is_flat is flat

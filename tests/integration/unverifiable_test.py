"""What the exchange does not number is called unverifiable: told by the connector, kept by the archive, judged."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from ssmd_archiver.testing import DATE, SESSION, SUBJECTS, T0, Stream, archive, manifest_of, verified
from ssmd_common import events
from ssmd_common.archive.times import DAY_NS, SECOND_NS, day_start_ns
from ssmd_manifest_api.condition import Condition, Expectation, facts_of, judge

if TYPE_CHECKING:
    from pathlib import Path

    from ssmd_common.archive.manifest import Manifest

END = day_start_ns(dt.date.fromisoformat(DATE)) + DAY_NS


def frame(stream: Stream, kind: str) -> None:
    stream.frames += 1
    payload = b'{"type":"%s"}' % kind.encode()
    stream.add(SUBJECTS.json(kind, "A"), payload, f"{SESSION}.1.{stream.frames}")


def beat(stream: Stream, unverifiable: list[str]) -> None:
    state = events.ConnectionState(
        connection=1, frames=stream.frames, acked_through=stream.frames, unverifiable=unverifiable
    )
    stream.event(events.Heartbeat(session=SESSION, at_ns=T0, connections=[state]))


async def captured(base: Path, kinds: list[str], unverifiable: list[str]) -> Manifest:
    stream = Stream()
    stream.event(events.ConnectionOpened(session=SESSION, connection=1, at_ns=T0, url="ws://x"))
    for kind in kinds:
        frame(stream, kind)
    beat(stream, unverifiable)
    # The day's last message, so that nothing but the numbers is in doubt.
    stream.event(
        events.ConnectionClosed(
            session=SESSION,
            connection=1,
            at_ns=T0,
            cause="stopped",
            frames=stream.frames,
            acked_through=stream.frames,
            unverifiable=unverifiable,
        ),
        END - SECOND_NS,
    )
    stream.event(events.Heartbeat(session=SESSION, at_ns=T0, connections=[]), END + SECOND_NS)
    await archive(base, stream, interval_s=86_400)
    verified(base)
    return manifest_of(base)


@pytest.mark.parametrize(
    ("kinds", "unverifiable", "condition", "limits"),
    [
        (["book", "trade"], ["book", "trade"], Condition.UNVERIFIABLE, "book, trade"),
        (["ticker"], ["ticker"], Condition.UNVERIFIABLE, "ticker"),
        # What is numbered proves the connection; what is not is named beside it.
        (["orderbook", "ticker"], ["ticker"], Condition.AVAILABLE, "ticker"),
        (["orderbook", "trade"], [], Condition.AVAILABLE, None),
    ],
)
async def test_what_the_exchange_does_not_number_is_called_so(
    tmp_path: Path, kinds: list[str], unverifiable: list[str], condition: Condition, limits: str | None
) -> None:
    manifest = await captured(tmp_path, kinds, unverifiable)
    assert [session.unverifiable for session in manifest.sessions] == [unverifiable]
    verdict = judge(facts_of(manifest), now_ns=END, expected=Expectation())
    assert verdict.condition == condition
    assert [(reason.code, reason.text) for reason in verdict.reasons] == (
        []
        if limits is None
        else [("unnumbered", f"the exchange does not number {limits}: a loss there cannot be seen")]
    )

"""An archive for the pages: three feeds, a gap of every layer, a day without a folder, an open one."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Iterator
from pathlib import Path

from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.archive.times import DAY_NS, SECOND_NS, date_of, day_start_ns
from ssmd_manifest_api.testing import SESSION, Message, SampleDay, SampleSegment

__all__ = ["GAPPY", "MISSING", "write_archive"]

GAPPY = 2
"""How many days ago the day lies that has a gap of every layer."""
MISSING = 9
"""How many days ago the day lies that has no folder."""

_DAY_S = 86_400
_TYPES = ("orderbook_delta", "orderbook_delta", "orderbook_delta", "ticker", "trade", "orderbook_snapshot")
_TICKERS = [
    f"KXHIGH{city}-26NOV{day}-B{low}.5"
    for city in ("CHI", "NY", "AUS")
    for day in (23, 24)
    for low in range(48, 60)
]


def write_archive(base: Path, now_ns: int, *, days: int, minutes: int, records: int) -> None:
    """Write it.

    Args:
        base: An empty folder.
        now_ns: The time its newest day is written at.
        days: How many days the longest feed has; at least 12.
        minutes: Length of a segment.
        records: How many records a segment has at most.
    """
    today = date_of(now_ns)
    chance = random.Random(7)
    for ago in range(days, -1, -1):
        if ago != MISSING:
            _write_day(base, "kalshi", today - dt.timedelta(days=ago), now_ns, minutes, records, chance, ago=ago)
        if ago <= days // 3:
            _write_day(base, "kraken", today - dt.timedelta(days=ago), now_ns, minutes, records // 4, chance)
    for ago in range(11, 3, -1):
        _write_day(base, "coinbase", today - dt.timedelta(days=ago), now_ns, minutes, records // 2, chance)


def _write_day(
    base: Path,
    feed: str,
    date: dt.date,
    now_ns: int,
    minutes: int,
    records: int,
    chance: random.Random,
    *,
    ago: int | None = None,
) -> None:
    day = SampleDay(base, feed, date, numbered=feed != "kraken")
    day_ns = day_start_ns(date)
    gaps = [] if ago is None else list(_gaps(date, ago))
    seq = 1  # of frames too: a session a day, so that what it received adds up
    now_s = (now_ns - day_ns) // SECOND_NS
    sealed = 0
    for start_s in range(0, _DAY_S, 60 * minutes):
        end_s = start_s + 60 * minutes
        if start_s >= now_s:
            break
        times = _times(start_s, min(end_s, now_s), records, chance)
        # What was lost is not there.
        times = [at for at in times if not any(_within(gap, day_ns + at * SECOND_NS) for gap in gaps)]
        if not times:
            continue
        messages = [
            Message(seq + place, at, chance.choice(_TYPES), chance.choice(_TICKERS))
            for place, at in enumerate(times)
        ]
        seq += len(messages)
        stem = f"{start_s // 3600:02d}{start_s // 60 % 60:02d}"
        mine = [gap for gap in gaps if start_s <= (gap.detected_ns - day_ns) // SECOND_NS < end_s]
        segment = SampleSegment(stem, start_s, messages, mine, minutes, opens=False)
        if end_s > now_s:
            day.open(segment)
        else:
            day.seal(segment)
            sealed += 1
    if sealed:
        day.write_manifest()


def _times(start_s: int, end_s: int, records: int, chance: random.Random) -> list[int]:
    """Return when the records of a segment come: more by day than by night, now and then a burst."""
    middle = (start_s + end_s) / 2
    level = 0.35 + 0.65 * max(0.0, math.sin(math.pi * (middle / _DAY_S - 0.2) / 0.75))
    burst = 1.0 if chance.random() < 0.93 else 1.6
    count = max(4, int(records * level * burst * chance.uniform(0.7, 1.0) / 1.6))
    last = end_s - 1
    return sorted([start_s, last, *(chance.randint(start_s, last) for _ in range(count - 2))])


def _within(gap: Gap, ns: int) -> bool:
    silent = gap.layer in (GapLayer.CONNECTION, GapLayer.STREAM)
    return silent and gap.start_ns < ns < (DAY_NS * 10**6 if gap.end_ns is None else gap.end_ns)


def _gaps(date: dt.date, ago: int) -> Iterator[Gap]:
    """Return the gaps of a day so many days ago."""
    day_ns = day_start_ns(date)

    def gap(
        layer: GapLayer,
        cause: str,
        at_s: float,
        lasted_s: float,
        missing: int | None,
        *,
        key: str = "",
        start_seq: int | None = None,
        status: GapStatus = GapStatus.PERMANENT,
    ) -> Gap:
        start_ns = day_ns + int(at_s * SECOND_NS)
        end_ns = start_ns + int(lasted_s * SECOND_NS)
        return Gap(
            gap_id=f"{key or 1}:{start_seq or int(at_s)}",
            layer=layer,
            cause=cause,
            status=status,
            epoch=1,
            key=key,
            start_seq=start_seq,
            end_seq=None if missing is None or start_seq is None else start_seq + missing,
            start_ns=start_ns,
            end_ns=end_ns,
            missing_count=missing,
            detected_ns=end_ns,
        )

    connection = f"{SESSION}.1"
    if ago == GAPPY:
        yield gap(
            GapLayer.EXCHANGE,
            "sequence_skipped",
            9_000.25,
            1.5,
            14,
            key=f"{connection}/sid:3",
            start_seq=88_120,
            status=GapStatus.RESYNCED,
        )
        yield gap(GapLayer.CONNECTION, "connection_lost", 30_000.5, 2_400, None, key=connection, start_seq=20_411)
        yield gap(GapLayer.STREAM, "retention", 48_000, 3_900, 5_812, start_seq=4_411_200)
        yield gap(GapLayer.STREAM, "lost", 62_000, 4.25, 3, start_seq=4_431_007)
        yield gap(GapLayer.ARCHIVE, "unreadable", 70_000, 12, 1, start_seq=4_502_117)
    elif ago in (5, 17, 33):
        yield gap(GapLayer.CONNECTION, "peer_closed", 25_000 + 900 * ago, 3.2, None, key=connection, start_seq=911)
    elif ago == 6:
        yield gap(GapLayer.EXCHANGE, "sequence_skipped", 41_000, 0.8, 2, key=f"{connection}/sid:1", start_seq=5_002)
    elif ago in (21, 22):
        yield gap(GapLayer.STREAM, "deleted", 52_000, 40, 118, start_seq=3_000_118)

"""What is done to an archive while its archiver is stopped: rebuild its manifests, seal what is open."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

from ssmd_archiver.catalog import Catalog, days_touched, load_day, recorded_gaps, write_manifest
from ssmd_archiver.disk import Disk
from ssmd_archiver.recovery import recover
from ssmd_archiver.rotation import Reason
from ssmd_archiver.run import writer_lock
from ssmd_common.archive.gaps import merge_gaps
from ssmd_common.archive.layout import day_paths, list_days

__all__ = ["rebuild_feed", "seal_feed"]


def rebuild_feed(base: Path, feed: str, disk: Disk) -> list[dt.date]:
    """Derive every manifest of a feed again; return the days written.

    Raises:
        ArchiveBusyError: The archiver runs.
        ArchiveError: An index is damaged.
    """
    lock = writer_lock(base, feed, disk)
    try:
        days = list_days(base, feed)
        gaps, newest = recorded_gaps(days)
        if newest is None:
            return []
        dates = {day.date for day in days} | {date for gap in merge_gaps(gaps) for date in days_touched(gap)}
        paths = (day_paths(base, feed, date) for date in sorted(dates))
        return [day.date for day in paths if write_manifest(disk, day, newest, load_day(day), gaps)]
    finally:
        lock.release()


def seal_feed(base: Path, feed: str, disk: Disk) -> str | None:
    """Seal a stopped archiver's open segment; return its name, None where nothing was open.

    Raises:
        ArchiveBusyError: The archiver runs.
        ArchiveError: A file is damaged.
    """
    lock = writer_lock(base, feed, disk)
    try:
        writer = recover(base, feed, disk).writer
        if writer is None:
            return None
        through_ns = writer.last_ns or writer.header.window_start_ns
        summary = writer.seal(reason=Reason.EXIT.value, sealed_ns=time.time_ns(), complete_through_ns=through_ns)
        catalog = Catalog(base, feed, disk)
        catalog.add(writer.day, summary)
        catalog.write()
        return writer.header.name
    finally:
        lock.release()

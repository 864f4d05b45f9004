"""Where each file of the archive lies.

``{base}/{feed}/{YYYY-MM-DD}/`` holds a day: sealed segments ``{name}.jsonl.gz``, beside them
``_evidence/{name}.meta.jsonl.gz`` and ``_evidence/{name}.index.jsonl``, the open segment's three files in
``_open/``, and ``manifest.json``. A segment's name is the start of its window, ``HHMM`` (``HHMMSS`` where the
interval is not whole minutes), with ``-1``, ``-2`` … for further segments of the same window.

The archiver writes files, so it takes :class:`DayPaths`; whoever reads takes :class:`DayKeys`, the same names as
keys of a :class:`~ssmd_common.archive.store.Store`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ssmd_common.archive.times import DAY_NS, SECOND_NS, date_of
from ssmd_common.errors import WireError

__all__ = [
    "DATA_SUFFIX",
    "EVIDENCE",
    "INDEX_SUFFIX",
    "LOCK_NAME",
    "MANIFEST_NAME",
    "META_SUFFIX",
    "OPEN",
    "DayKeys",
    "DayPaths",
    "SegmentKeys",
    "SegmentPaths",
    "Window",
    "day_dates",
    "day_paths",
    "feed_folder",
    "feed_names",
    "is_segment_stem",
    "list_days",
    "list_feeds",
    "segment_name",
    "segment_stems",
    "window_of",
]

DATA_SUFFIX = ".jsonl.gz"
META_SUFFIX = ".meta.jsonl.gz"
INDEX_SUFFIX = ".index.jsonl"
MANIFEST_NAME = "manifest.json"
EVIDENCE = "_evidence"
OPEN = "_open"
LOCK_NAME = ".writer.lock"

_STEM = re.compile(r"\d{4}(?:\d{2})?(?:-[1-9]\d*)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_FIRST_DATE = dt.date(1970, 1, 1)
_END_DATE = dt.date(2262, 4, 11)
"""Days whose moments a server counts in nanoseconds, in 64 bits; a folder of any other is not the archiver's."""
_FEED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_MINUTE_NS = 60 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of server time, ``[start_ns, end_ns)``, inside one UTC day."""

    start_ns: int
    end_ns: int

    @property
    def date(self) -> dt.date:
        """The UTC day the window lies in."""
        return date_of(self.start_ns)


def window_of(ns: int, interval_ns: int) -> Window:
    """Return the rotation window that holds ``ns``: counted from 00:00 UTC, the day's last may be short."""
    day = ns - ns % DAY_NS
    start = day + (ns - day) // interval_ns * interval_ns
    return Window(start, min(start + interval_ns, day + DAY_NS))


def segment_name(window: Window, interval_ns: int, part: int) -> str:
    """Return a segment's stem: ``0615``, ``061530`` where the interval is not whole minutes, ``0615-2``."""
    seconds = window.start_ns % DAY_NS // SECOND_NS
    stem = f"{seconds // 3600:02d}{seconds // 60 % 60:02d}"
    if interval_ns % _MINUTE_NS:
        stem += f"{seconds % 60:02d}"
    return f"{stem}-{part}" if part else stem


def is_segment_stem(stem: str) -> bool:
    """Tell whether ``stem`` is a segment's name."""
    return _STEM.fullmatch(stem) is not None


def segment_stems(names: Iterable[str], suffix: str) -> list[str]:
    """Return the stems of those names that are a segment's with this suffix, sorted."""
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(stem for stem in stems if is_segment_stem(stem))


def feed_names(names: Iterable[str]) -> list[str]:
    """Return those names that can be a feed's, sorted."""
    return sorted(name for name in names if _FEED.fullmatch(name))


def day_dates(names: Iterable[str]) -> list[dt.date]:
    """Return the dates that these names of folders stand for, oldest first."""
    return sorted(date for date in map(_parse_date, names) if date is not None)


@dataclass(frozen=True, slots=True)
class SegmentKeys:
    """The three files of one segment, open or sealed, as names in a folder or as keys of a store."""

    data: str
    meta: str
    index: str


def _sealed_files(stem: str) -> SegmentKeys:
    """Return a sealed segment's files, relative to its day."""
    return SegmentKeys(
        f"{stem}{DATA_SUFFIX}", f"{EVIDENCE}/{stem}{META_SUFFIX}", f"{EVIDENCE}/{stem}{INDEX_SUFFIX}"
    )


def _open_files(stem: str) -> SegmentKeys:
    """Return an open segment's files, relative to its day."""
    return SegmentKeys(f"{OPEN}/{stem}{DATA_SUFFIX}", f"{OPEN}/{stem}{META_SUFFIX}", f"{OPEN}/{stem}{INDEX_SUFFIX}")


@dataclass(frozen=True, slots=True)
class DayKeys:
    """A feed's day as keys of a store.

    Raises:
        WireError: ``feed`` is no feed name, so it can name no folder either.
    """

    feed: str
    date: dt.date

    def __post_init__(self) -> None:
        """Refuse what is no feed name."""
        _check_feed(self.feed)

    @property
    def folder(self) -> str:
        """The day's folder."""
        return f"{self.feed}/{self.date.isoformat()}"

    @property
    def manifest(self) -> str:
        """The day's manifest."""
        return f"{self.folder}/{MANIFEST_NAME}"

    def sealed(self, stem: str) -> SegmentKeys:
        """Return the keys of a sealed segment."""
        return self._in_folder(_sealed_files(stem))

    def open(self, stem: str) -> SegmentKeys:
        """Return the keys of an open segment."""
        return self._in_folder(_open_files(stem))

    def _in_folder(self, files: SegmentKeys) -> SegmentKeys:
        folder = self.folder
        return SegmentKeys(f"{folder}/{files.data}", f"{folder}/{files.meta}", f"{folder}/{files.index}")


@dataclass(frozen=True, slots=True)
class SegmentPaths:
    """The three files of one segment, open or sealed."""

    data: Path
    meta: Path
    index: Path


@dataclass(frozen=True, slots=True)
class DayPaths:
    """A feed's day."""

    folder: Path
    date: dt.date

    @property
    def manifest(self) -> Path:
        """The day's manifest."""
        return self.folder / MANIFEST_NAME

    def sealed(self, stem: str) -> SegmentPaths:
        """Return the paths of a sealed segment."""
        return self._in_folder(_sealed_files(stem))

    def open(self, stem: str) -> SegmentPaths:
        """Return the paths of an open segment."""
        return self._in_folder(_open_files(stem))

    def _in_folder(self, files: SegmentKeys) -> SegmentPaths:
        return SegmentPaths(self.folder / files.data, self.folder / files.meta, self.folder / files.index)

    def sealed_stems(self) -> list[str]:
        """List the stems that have a sealed index, sorted by name."""
        return _stems(self.folder / EVIDENCE, INDEX_SUFFIX)

    def data_stems(self) -> list[str]:
        """List the stems that have a sealed data file, sorted by name."""
        return _stems(self.folder, DATA_SUFFIX)

    def open_stems(self) -> list[str]:
        """List the stems that have an open index, sorted by name."""
        return _stems(self.folder / OPEN, INDEX_SUFFIX)


def _stems(folder: Path, suffix: str) -> list[str]:
    return segment_stems((path.name for path in folder.iterdir()), suffix) if folder.is_dir() else []


def _check_feed(feed: str) -> None:
    if not _FEED.fullmatch(feed):
        raise WireError(f"{feed!r} is not a feed name", remedy="use letters, digits, - and _")


def feed_folder(base: Path, feed: str) -> Path:
    """Return a feed's folder.

    Raises:
        WireError: ``feed`` is no feed name, so it can name no folder either.
    """
    _check_feed(feed)
    return base / feed


def day_paths(base: Path, feed: str, date: dt.date) -> DayPaths:
    """Return the paths of a feed's day."""
    return DayPaths(feed_folder(base, feed) / date.isoformat(), date)


def list_feeds(base: Path) -> list[str]:
    """List the feeds that have at least one day."""
    if not base.is_dir():
        return []
    names = feed_names(path.name for path in base.iterdir() if path.is_dir())
    return [name for name in names if list_days(base, name)]


def list_days(base: Path, feed: str) -> list[DayPaths]:
    """List a feed's days, oldest first."""
    folder = feed_folder(base, feed)
    if not folder.is_dir():
        return []
    dates = day_dates(path.name for path in folder.iterdir() if path.is_dir())
    return [DayPaths(folder / date.isoformat(), date) for date in dates]


@lru_cache(1 << 16)  # a listing reads the same names again and again
def _parse_date(name: str) -> dt.date | None:
    try:
        date = dt.date.fromisoformat(name) if _DATE.fullmatch(name) else None
    except ValueError:
        return None
    return None if date is None or not _FIRST_DATE <= date < _END_DATE else date

"""Segments a manifest does not list yet: those just sealed, and the open ones as far as they are committed.

A manifest may be seconds behind its folder, so the newest days are listed too. Of a day whose manifest is damaged,
every segment is one that no manifest lists.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from ssmd_common.archive import layout
from ssmd_common.archive.index import Index
from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.selection import Extent, extent_of_block, joined
from ssmd_common.errors import ArchiveError
from ssmd_manifest_api.catalog import Catalog

__all__ = ["Found", "Unlisted", "newest_of", "unlisted_of"]

_LISTED_DAYS = 2
"""The archiver writes the newest day, and the one before it around midnight; older manifests are final."""


@dataclass(frozen=True, slots=True)
class Found:
    """A segment that is there, not read yet."""

    day: DayKeys
    name: str
    sealed: bool
    extent: Extent


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A segment that no manifest lists, and its index."""

    found: Found
    index: Index


def newest_of(dates: Sequence[dt.date]) -> Sequence[dt.date]:
    """Return those of a feed's dates, oldest first, whose manifests are not final."""
    return dates[-_LISTED_DAYS:]


def unlisted_of(catalog: Catalog, day: DayKeys, *, newest: bool) -> list[Unlisted]:
    """Return a day's segments that its manifest does not list.

    Args:
        catalog: The archive.
        day: A day of it.
        newest: It is one of :func:`newest_of`; an older day has them where one is open, and where it has no
            manifest that can be read.

    Raises:
        ArchiveError: An index is damaged.
    """
    try:
        listed = catalog.overview(day.feed, day.date)[0] is not None
    except ArchiveError:
        listed = False
    # A clock that stepped back by days opens a segment in an old day again.
    if listed and not newest and not catalog.store.list(f"{day.folder}/{layout.OPEN}").files:
        return []
    manifest = catalog.manifest(day.feed, day.date) if listed else None
    known = {entry.name.removesuffix(layout.DATA_SUFFIX) for entry in (manifest.files if manifest else ())}
    unlisted: dict[str, Unlisted] = {}
    # The open ones first: one that is sealed between the two listings is in both, never in none.
    for folder, keys, sealed in ((layout.OPEN, day.open, False), (layout.EVIDENCE, day.sealed, True)):
        names = catalog.store.list(f"{day.folder}/{folder}").files
        for stem in layout.segment_stems(names, layout.INDEX_SUFFIX):
            index = catalog.index(keys(stem).index) if stem not in known else None
            if index is not None:
                unlisted[stem] = Unlisted(Found(day, stem, sealed, _extent(index)), index)
    return list(unlisted.values())


def _extent(index: Index) -> Extent:
    epoch = index.header.epoch
    extent = joined(extent for block in index.blocks if (extent := extent_of_block(epoch, block)) is not None)
    if extent is not None:
        return extent
    seq = index.header.after_seq or 0
    return Extent((epoch, seq), (epoch, seq), (0, 0), (0, 0))

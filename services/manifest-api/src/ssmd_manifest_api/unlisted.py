"""What a day's manifest lists, and the segments it does not list yet.

These are the ones just sealed, and the open ones as far as they are committed. A manifest may be seconds behind its
folder, so the newest days are listed too. Of a day whose manifest is damaged, every segment is one that no manifest
lists.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ssmd_common.archive import layout
from ssmd_common.archive.index import Index
from ssmd_common.archive.layout import DayKeys
from ssmd_common.archive.manifest import GapEntry, Manifest
from ssmd_common.archive.selection import Extent, extent_of_block, extent_of_entry, joined
from ssmd_manifest_api.catalog import Catalog

__all__ = ["Found", "Listed", "Unlisted", "listed_of", "newest_of", "segments_in", "unlisted_of"]

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


@dataclass(frozen=True, slots=True)
class Listed:
    """What a day's manifest lists, of one version of it.

    Attributes:
        extent: What its segments span; None where it lists none.
        final: Nothing is there that it does not list.
        segments: Its segments; empty where it is final, for :func:`segments_in` gives them when they are wanted.
    """

    extent: Extent | None
    gaps: Sequence[GapEntry]
    final: bool
    segments: Sequence[Found] = ()


def listed_of(catalog: Catalog, day: DayKeys, *, newest: bool) -> Listed:
    """Return what a day's manifest lists; nothing where it has none.

    Args:
        catalog: The archive.
        day: A day of it.
        newest: It is one of :func:`newest_of`.

    Raises:
        ArchiveError: The manifest is damaged.
    """
    extent, summed = catalog.overview(day.feed, day.date)
    # A clock that stepped back by days opens a segment in an old day again.
    if extent is not None and not newest and not catalog.store.list(f"{day.folder}/{layout.OPEN}").files:
        return Listed(extent, summed, final=True)
    manifest = catalog.manifest(day.feed, day.date)
    # Segments and gaps of the same version: what came between the two would be in neither, or twice.
    segments = segments_in(day, manifest)
    extent = joined(found.extent for found in segments)
    return Listed(extent, manifest.gaps if manifest else (), final=False, segments=segments)


def segments_in(day: DayKeys, manifest: Manifest | None) -> list[Found]:
    """Return the segments a manifest lists."""
    return [
        Found(day, entry.name.removesuffix(layout.DATA_SUFFIX), sealed=True, extent=extent_of_entry(entry))
        for entry in (manifest.files if manifest else ())
    ]


def unlisted_of(catalog: Catalog, day: DayKeys, listed: Iterable[Found]) -> list[Unlisted]:
    """Return a day's segments that are not among those listed.

    Raises:
        ArchiveError: An index is damaged.
    """
    known = {found.name for found in listed}
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

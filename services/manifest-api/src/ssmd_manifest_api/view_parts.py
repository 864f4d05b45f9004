"""Small pieces several pages show: a number with its name, a page of a long list, a file to download; pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

from ssmd_common.archive.layout import DATA_SUFFIX, INDEX_SUFFIX, META_SUFFIX
from ssmd_common.archive.manifest import FileEntry

__all__ = ["Download", "Fact", "Page", "download", "page_of"]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Fact:
    """A number with its name and, in small, what it means."""

    name: str
    value: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """A part of a long list; numbers count from 1."""

    items: Sequence[ItemT]
    number: int
    pages: int
    total: int
    first: int

    @property
    def last(self) -> int:
        """The number of its last item; one less than ``first`` where it has none."""
        return self.first + len(self.items) - 1


def page_of(items: Sequence[ItemT], wanted: int, length: int) -> Page[ItemT]:
    """Return one page of a list; a number beyond the last page gives the last."""
    pages = max(1, -(-len(items) // length))
    at = min(max(wanted, 1), pages)
    start = (at - 1) * length
    return Page(items[start : start + length], at, pages, len(items), start + 1)


@dataclass(frozen=True, slots=True)
class Download:
    """A sealed segment and where it and its evidence are downloaded."""

    entry: FileEntry
    url: str
    meta_url: str
    index_url: str


def download(feed: str, date: dt.date, file: FileEntry) -> Download:
    """Return a segment as a page links to it."""
    folder = f"/files/{quote(feed)}/{date.isoformat()}/"
    stem = file.name.removesuffix(DATA_SUFFIX)
    return Download(
        file, folder + quote(file.name), folder + quote(stem + META_SUFFIX), folder + quote(stem + INDEX_SUFFIX)
    )

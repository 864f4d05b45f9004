"""Pages of a long list: a cursor names the last entry shown, so entries that come meanwhile move nothing; pure.

A cursor is opaque to who holds it. It says which list it belongs to and the sort key it stands behind; one of
another list, or one made up, is a malformed parameter.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ssmd_common.archive.manifest import FileEntry, GapEntry
from ssmd_common.archive.times import from_rfc3339
from ssmd_manifest_api.catalog import Day

__all__ = ["DAYS", "FILES", "GAPS", "Paging"]

ItemT = TypeVar("ItemT")


class Paging(Generic[ItemT]):
    """How one kind of list is cut into pages.

    Args:
        kind: Name of the list.
        key: The sort key of an entry: text and whole numbers.
        types: Their types.
    """

    def __init__(self, kind: str, key: Callable[[ItemT], tuple[Any, ...]], types: tuple[type, ...]) -> None:
        self._kind = kind
        self._key = key
        self._types = types

    def check(self, cursor: str) -> str:
        """Return a cursor that is one of this list.

        Raises:
            ValueError: It is not.
        """
        if self._parse(cursor) is None:
            raise ValueError("not a cursor of this list: take it from `next` of the page before")
        return cursor

    def _parse(self, cursor: str) -> tuple[Any, ...] | None:
        """Return the key a cursor stands behind; None where it is no cursor of this list."""
        try:
            data = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
            kind, *key = msgspec.json.decode(data, type=tuple[Any, ...])
        except (ValueError, msgspec.DecodeError):
            return None
        return tuple(key) if kind == self._kind and tuple(map(type, key)) == self._types else None

    def page(self, items: Iterable[ItemT], *, cursor: str | None, limit: int) -> tuple[Sequence[ItemT], str | None]:
        """Return a page of sorted entries and the cursor of the next one; None on the last.

        Args:
            items: All entries, sorted by the key.
            cursor: The one the page before gave, checked by :meth:`check`; None for the first page.
            limit: How many entries at most.
        """
        after = None if cursor is None else self._parse(cursor)
        rest = [item for item in items if after is None or self._key(item) > after]
        shown = rest[:limit]
        return shown, self._cursor(shown[-1]) if len(rest) > limit else None

    def _cursor(self, item: ItemT) -> str:
        data = msgspec.json.encode((self._kind, *self._key(item)))
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


DAYS: Paging[Day] = Paging("days", lambda day: (day.date.isoformat(),), (str,))
GAPS: Paging[GapEntry] = Paging(
    "gaps", lambda gap: (from_rfc3339(gap.start), gap.layer, gap.gap_id), (int, str, str)
)
FILES: Paging[FileEntry] = Paging("files", lambda file: (file.epoch, file.nats_start_seq), (int, int))

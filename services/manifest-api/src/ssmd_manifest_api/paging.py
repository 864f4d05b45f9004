"""Pages of a long list: a cursor names the last entry shown, so entries that come meanwhile move nothing; pure.

A cursor is opaque to who holds it: a letter for its list, then the sort key it stands behind in hexadecimal. One of
another list is a malformed parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from ssmd_common.archive.gaps import GapLayer
from ssmd_common.archive.manifest import FileEntry, GapEntry
from ssmd_common.archive.times import from_rfc3339
from ssmd_manifest_api.catalog import Day

__all__ = ["DAYS", "FILES", "GAPS", "Paging"]

_DIGITS = 16
_LONGEST = 2048
ItemT = TypeVar("ItemT")
Key = tuple[tuple[int, ...], bytes]
"""Whole numbers from 0 on, then a name."""


class Paging(Generic[ItemT]):
    """How one kind of list is cut into pages.

    Args:
        letter: Stands for the list in its cursors.
        numbers: How many numbers a key has.
        key: The sort key of an entry.
    """

    def __init__(self, letter: str, numbers: int, key: Callable[[ItemT], Key]) -> None:
        self._letter = letter
        self._numbers = numbers
        self._key = key
        self.pattern = f"^{letter}[0-9a-f]{{{_DIGITS * numbers}}}(?:[0-9a-f]{{2}}){{0,{_LONGEST}}}$"

    def check(self, cursor: str) -> str:
        """Return a cursor that is one of this list.

        Raises:
            ValueError: It is not.
        """
        if not re.fullmatch(self.pattern, cursor, re.ASCII) or cursor.endswith("\n"):
            raise ValueError("not a cursor of this list: take it from `next` of the page before")
        return cursor

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
        numbers, name = self._key(item)
        return self._letter + "".join(f"{number:0{_DIGITS}x}" for number in numbers) + name.hex()

    def _parse(self, cursor: str) -> Key:
        start, end = len(self._letter), len(self._letter) + _DIGITS * self._numbers
        numbers = tuple(int(cursor[at : at + _DIGITS], 16) for at in range(start, end, _DIGITS))
        return numbers, bytes.fromhex(cursor[end:])


_LAYERS = {layer.value: rank for rank, layer in enumerate(sorted(GapLayer))}


def _gap_key(gap: GapEntry) -> Key:
    return (max(0, from_rfc3339(gap.start)), _LAYERS[gap.layer]), gap.gap_id.encode()


DAYS: Paging[Day] = Paging("d", 1, lambda day: ((day.date.toordinal(),), b""))
GAPS: Paging[GapEntry] = Paging("g", 2, _gap_key)
FILES: Paging[FileEntry] = Paging("f", 2, lambda file: ((file.epoch, file.nats_start_seq), b""))

"""Which segments a day has, while an archiver may be sealing one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssmd_archiver.findings import FeedReport, Finding
from ssmd_common.archive.index import Index, read_index
from ssmd_common.archive.layout import DayKeys, DayPaths
from ssmd_common.archive.reader import BlockSource
from ssmd_common.archive.store import LocalStore
from ssmd_common.errors import ArchiveError

__all__ = ["FoundSegment", "find_segments"]


@dataclass(frozen=True, slots=True)
class FoundSegment:
    """One segment as it was found: where it stands in the stream, and where it lies."""

    order: tuple[int, int]
    day: DayPaths
    stem: str
    sealed: bool

    @property
    def base(self) -> Path:
        """The archive's base folder."""
        return self.day.folder.parents[1]

    def index_bytes(self) -> tuple[Path, bytes]:
        """Return its index and where it is, wherever the archiver has moved it meanwhile."""
        places = (self.day.sealed(self.stem).index, self.day.open(self.stem).index)
        return _first(places if self.sealed else places[::-1])

    def source(self) -> BlockSource:
        """Return what reads its blocks."""
        keys = DayKeys(self.day.folder.parent.name, self.day.date)
        return BlockSource(LocalStore(self.base), keys.sealed(self.stem), keys.open(self.stem))


def _first(places: tuple[Path, ...]) -> tuple[Path, bytes]:
    """Read the first of these files that is there; what moved between them is looked for once more.

    Raises:
        FileNotFoundError: None is.
    """
    for path in places:
        try:
            return path, path.read_bytes()
        except FileNotFoundError:
            continue
    return places[0], places[0].read_bytes()


def find_segments(day: DayPaths, report: FeedReport) -> list[FoundSegment]:
    """List a day's segments, noting files that lack a partner.

    An index is renamed first and its data last, so they are listed the other way round: whatever is sealed
    meanwhile is seen in one of its places.
    """
    opened, data, sealed = day.open_stems(), day.data_stems(), day.sealed_stems()
    report.findings += [Finding(str(day.sealed(stem).data), "has no index") for stem in data if stem not in sealed]
    found = []
    for stem, is_sealed in (
        *((stem, True) for stem in sealed),
        *((stem, False) for stem in opened if stem not in sealed),
    ):
        segment = FoundSegment((0, 0), day, stem, is_sealed)
        if is_sealed and not _has_data(day, stem):
            report.findings.append(Finding(str(day.sealed(stem).index), "its data file is missing"))
            continue
        path, index = _read_index(segment, report)
        if index is not None:
            order = index.header.epoch, index.last_seq or 0
            found.append(FoundSegment(order, day, stem, is_sealed))
        elif is_sealed and path is not None:
            report.findings.append(Finding(str(path), "has no header"))
    return found


def _has_data(day: DayPaths, stem: str) -> bool:
    places = day.sealed(stem).data, day.open(stem).data
    return any(path.exists() for path in (*places, places[0]))


def _read_index(segment: FoundSegment, report: FeedReport) -> tuple[Path | None, Index | None]:
    """Read a segment's index; without a place where it cannot be read, which is noted."""
    try:
        path, data = segment.index_bytes()
        return path, read_index(data, where=str(path))
    except ArchiveError as error:
        report.findings.append(Finding(error.where, error.problem))
    except OSError as error:
        report.findings.append(Finding(str(error.filename), f"cannot be read: {error.strerror}"))
    return None, None

"""A day's certificate from a store: for the API that serves it and for the check that holds an archive to it."""

from __future__ import annotations

from ssmd_common.archive.certificate import Certificate, certify, is_settled
from ssmd_common.archive.layout import DATA_SUFFIX, INDEX_SUFFIX, OPEN, DayKeys, day_dates, segment_stems
from ssmd_common.archive.manifest import Manifest, parse_manifest
from ssmd_common.archive.store import Store
from ssmd_common.errors import ArchiveError

__all__ = ["day_settled", "derive_certificate"]


def day_settled(store: Store, day: DayKeys, manifest: Manifest) -> bool:
    """Tell whether a day gains no more segments, by what lies beside its manifest."""
    opened = bool(segment_stems(store.list(f"{day.folder}/{OPEN}").files, INDEX_SUFFIX))
    later = any(date > day.date for date in day_dates(store.list(day.feed).folders))
    return is_settled(manifest, opened=opened, later=later)


def derive_certificate(store: Store, day: DayKeys, manifest_bytes: bytes) -> Certificate:
    """Derive a day's certificate from its manifest and indexes, one index at a time.

    Raises:
        ArchiveError: The manifest is damaged, or an index is missing or not the one it lists.
    """
    manifest = parse_manifest(manifest_bytes, where=day.manifest)

    def index(name: str) -> bytes:
        key = day.sealed(name.removesuffix(DATA_SUFFIX)).index
        content = store.read(key)
        if content is None:
            raise ArchiveError("is missing", where=key, remedy="restore it from a backup")
        return content.data

    return certify(
        manifest_bytes,
        (index(entry.name) for entry in manifest.files),
        settled=day_settled(store, day, manifest),
        where=day.manifest,
    )

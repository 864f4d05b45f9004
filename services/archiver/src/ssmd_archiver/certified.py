"""Hold an archive to a certificate of one of its days, offline: every file by its hash, every figure anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ssmd_archiver.findings import Finding
from ssmd_common.archive.certificate import Certificate, contradictions, differences, parse_certificate
from ssmd_common.archive.certificate_store import derive_certificate
from ssmd_common.archive.layout import DayKeys, day_dates
from ssmd_common.archive.store import LocalStore, Store
from ssmd_common.errors import ArchiveError, ConfigError, WireError

__all__ = ["read_certificate", "verify_certificate"]

_PART_BYTES = 1 << 20


def read_certificate(path: Path) -> Certificate:
    """Read a certificate's file.

    Raises:
        ConfigError: It cannot be read, or is no certificate.
    """
    try:
        return parse_certificate(path.read_bytes(), where=str(path))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except ArchiveError as error:
        raise ConfigError(error.problem, file=str(path), remedy=error.remedy) from None


def verify_certificate(
    base: Path, certificate: Certificate, *, progress: Callable[[int], None] = lambda _: None
) -> list[Finding]:
    """Compare a day's folder with its certificate; return every difference.

    Args:
        base: The archive's base folder.
        certificate: What the day is to be.
        progress: Told the bytes read, as they are read.

    Raises:
        ConfigError: The archive has no such feed.
    """
    store = LocalStore(base)
    try:
        day = DayKeys(certificate.feed, certificate.date)
    except WireError as error:
        raise ConfigError(error.problem, field="feed", remedy="take the certificate again") from None
    if not day_dates(store.list(day.feed).folders):
        raise ConfigError(
            f"no archive of feed {day.feed!r}", file=str(base), remedy="name the folder that holds {feed}/{date}/"
        )
    findings = [Finding("the certificate", line) for line in contradictions(certificate)]
    for file in certificate.files:
        where = str(base / day.folder / file.path)
        actual = _sha256(store, f"{day.folder}/{file.path}", progress)
        if actual is None:
            findings.append(Finding(where, "is missing"))
        elif actual != file.sha256:
            findings.append(Finding(where, f"has the sha256 {actual}, the certificate says {file.sha256}"))
    manifest = store.read(day.manifest)
    if manifest is None:
        return findings  # told above: a certificate lists it
    try:
        derived = derive_certificate(store, day, manifest.data)
    except ArchiveError as error:
        return [*findings, Finding(str(base / error.where), error.problem)]
    return findings + [Finding(str(base / day.folder), line) for line in differences(certificate, derived)]


def _sha256(store: Store, key: str, progress: Callable[[int], None]) -> str | None:
    source = store.open(key)
    if source is None:
        return None
    digest = hashlib.sha256()
    with source:
        offset = 0
        while part := source.read(offset, _PART_BYTES):
            digest.update(part)
            progress(len(part))
            offset += len(part)
    return digest.hexdigest()

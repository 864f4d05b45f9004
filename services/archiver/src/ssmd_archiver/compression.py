"""How a block's members are compressed: gzip in every case, so any tool reads them, with one of two encoders.

Readers need not know which: members of both may follow each other in one file. `docs/adr/0002-codec.md` holds the
measurements the default was chosen by.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial

from isal import igzip

from ssmd_common.config.archiver import Compression

__all__ = ["DEFAULT", "EMPTY_MEMBER", "Compress", "compressor"]

Compress = Callable[[bytes], bytes]
"""Makes one gzip member. Its header names neither time nor file.

igzip has been seen to encode the same bytes in two ways (ADR 2), so two archives are compared by what is
compressed, never by their members."""


def compressor(settings: Compression) -> Compress:
    """Return what compresses as configured."""
    encoder = igzip.compress if settings.codec == "igzip" else gzip.compress
    return partial(encoder, compresslevel=settings.effective_level, mtime=0)


DEFAULT = compressor(Compression())
EMPTY_MEMBER = DEFAULT(b"")
"""What a file without a record holds: silence reads as an empty file."""

"""What every ssmd service shares: the wire, the configuration, the archive, the service frame.

Programs that read an archive need one name of it::

    import ssmd_common

    for record in ssmd_common.load("kalshi", "2026-11-23"):
        print(record.stored_ns, record.type, record.ticker, record.data)
"""

from ssmd_common.archive.reader import Record, load

__all__ = ["Record", "load"]

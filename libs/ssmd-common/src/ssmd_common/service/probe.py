"""``python -m ssmd_common.service.probe URL`` exits 0 where it answers 200: a container's health check."""

from __future__ import annotations

import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

__all__ = ["is_well"]

_TIMEOUT_S = 3.0
_OK = 200


def is_well(url: str) -> bool:
    """Tell whether ``http://host:port/path`` answers 200 within three seconds."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == _OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_well(sys.argv[1]) else 1)

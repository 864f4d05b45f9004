"""``python -m ssmd_common.service.probe [URL]`` exits 0 where it answers 200: a container's health check.

Without a URL it asks ``/health`` where ``SSMD_HEALTH_ADDR`` has the service listen, or ``SSMD_HOST`` and
``SSMD_LISTEN_PORT`` where it is not set: containers that share a host's network differ in that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from ssmd_common.service.address import HEALTH_VARIABLE, HOST_VARIABLE, PORT_VARIABLE, Address, parse_addr

__all__ = ["health_url", "is_well", "listening"]

_TIMEOUT_S = 3.0
_OK = 200
_ITSELF = {"0.0.0.0": "127.0.0.1", "::": "::1"}


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


def health_url(listening: str) -> str:
    """Return where to ask a service of this container that listens on ``HOST:PORT``.

    Raises:
        ConfigError: The text is no such address.
    """
    address = parse_addr(listening, option=HEALTH_VARIABLE)
    host = _ITSELF.get(address.host, address.host)
    return f"http://{Address(host, address.port)}/health"


def listening(environ: Mapping[str, str]) -> str:
    """Return ``HOST:PORT`` as the variables have the service of this container listen."""
    host, port = (environ.get(name, "") for name in (HOST_VARIABLE, PORT_VARIABLE))
    return environ.get(HEALTH_VARIABLE) or f"{f'[{host}]' if ':' in host else host}:{port}"


if __name__ == "__main__":
    sys.exit(0 if is_well((sys.argv[1:] or [health_url(listening(os.environ))])[0]) else 1)

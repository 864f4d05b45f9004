"""Addresses to listen on and to connect to, as written in options and configuration files."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ssmd_common.errors import ConfigError

__all__ = ["HEALTH_VARIABLE", "HOST_VARIABLE", "PORT_VARIABLE", "Address", "is_loopback", "parse_addr"]

HEALTH_VARIABLE = "SSMD_HEALTH_ADDR"
"""Stands for the option ``--health-addr``; the images set it."""

HOST_VARIABLE = "SSMD_HOST"
"""Stands for the option ``--host``; the images set it."""

PORT_VARIABLE = "SSMD_LISTEN_PORT"
"""Stands for the option ``--port`` of the manifest API; the image sets it. Not ``SSMD_PORT``: Kubernetes sets that
in every pod beside a service named ``ssmd``."""

_MAX_PORT = 65535
_MAX_PORT_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port to listen on; port 0 asks the system for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_addr(text: str, *, option: str = "--health-addr") -> Address:
    """Read ``host:port`` or ``[ipv6]:port``.

    Args:
        text: The address as configured.
        option: The option or field that holds it, for the error.

    Raises:
        ConfigError: The text is no such address.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    digits = port.isascii() and port.isdigit() and len(port) <= _MAX_PORT_DIGITS
    if not (host and colon and digits and int(port) <= _MAX_PORT):
        raise ConfigError(
            f"{text!r} is no address to listen on",
            field=option,
            remedy="write HOST:PORT, such as 127.0.0.1:8080, or 0.0.0.0:8080 for every interface",
        )
    return Address(host, int(port))


def is_loopback(url: str) -> bool:
    """Tell whether a URL is of this machine, where no proxy stands between."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""The proxy on the way to an exchange, as the environment names it: one for its socket and its REST interface."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ssmd_common.errors import ConfigError
from ssmd_common.service.address import is_loopback

__all__ = ["http_proxy_of", "proxy_of"]

_ASKED = {"wss": ("wss", "socks", "https", "all"), "ws": ("ws", "socks", "https", "http", "all")}
_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def proxy_of(url: str) -> str | None:
    """Return the proxy between here and an address, or None; nothing stands between here and this machine.

    Raises:
        ConfigError: The variable holds none. It is not shown: it may hold a password.
    """
    return _found(url, _SCHEMES)


def http_proxy_of(url: str) -> str | None:
    """Return the same for a web address, which is reached by an HTTP proxy alone.

    Raises:
        ConfigError: The variable holds none.
    """
    return _found(url, ("http", "https"))


def _found(url: str, schemes: tuple[str, ...]) -> str | None:
    parts = urlsplit(url)
    named = getproxies()
    # NO_PROXY may name a port, also the one that goes without saying.
    port = parts.port or (443 if parts.scheme in ("wss", "https") else 80)
    if is_loopback(url) or proxy_bypass(f"{parts.hostname}:{port}"):
        return None
    known = ", ".join(schemes)
    for name in _ASKED.get(parts.scheme, (parts.scheme, "all")):
        proxy = named.get(name)
        if proxy is not None:
            if not _is_proxy(proxy, schemes):
                raise ConfigError(
                    "is no address of a proxy",
                    field=f"{name.upper()}_PROXY",
                    remedy=f"write it as http://host:port; known schemes: {known}",
                )
            return proxy
    return None


def _is_proxy(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        host, _port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    if not host or parts.scheme not in schemes or parts.path not in ("", "/") or parts.query or parts.fragment:
        return False
    return (parts.username is None) == (parts.password is None)

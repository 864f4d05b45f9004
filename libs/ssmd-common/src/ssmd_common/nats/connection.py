"""The one way ssmd reaches NATS: a client that waits for the server, reconnects for ever and names what it meets.

What a server says only to the client's error callback (a permission it violated, a slow consumer) is logged here,
once every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import nats.errors
import structlog

from ssmd_common.errors import ConfigError, CredentialError, TransportError
from ssmd_common.nats.access import Access, GuardedClient, TlsMissingError
from ssmd_common.nats.client import NatsClient
from ssmd_common.service.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nats.aio.client import Client

    from ssmd_common.config.nats import NatsSettings

__all__ = ["NatsClient", "Waitable", "check_settings", "close", "connect", "shown_url"]

log = structlog.get_logger()

PING_INTERVAL_S = 5
RECONNECT_WAIT_S = 1
CONNECT_TIMEOUT_S = 5
LOG_EVERY_S = 5.0
CLOSE_TIMEOUT_S = 5.0
PENDING_SIZE_BYTES = 16 * 1024 * 1024
_URL_REMEDY = "write it as nats://host:port"


class Waitable(Protocol):
    """Something that ends a wait: an ``asyncio.Event``, or the service's ``Stop``."""

    async def wait(self) -> object:
        """Return once the wait must end."""
        ...


class _Reporter:
    """Logs what the error callback hears: each text at once, its repetitions every :data:`LOG_EVERY_S`."""

    def __init__(self, url: str, client: NatsClient, on_unreachable: Callable[[str], None] | None) -> None:
        self._url = url
        self._on_unreachable = on_unreachable
        self._client = client
        self._said_at: dict[str, float] = {}
        self.connected_once = False
        self.fatal: asyncio.Future[ConfigError] = asyncio.get_running_loop().create_future()

    async def on_error(self, error: Exception) -> None:
        text = _describe(error)
        lowered = text.lower()
        if not self.connected_once and not self.fatal.done():
            refusal = _refusal(error, lowered, self._url)
            if refusal is not None:
                self.fatal.set_result(refusal)
                return
            if self._on_unreachable is not None:
                self._on_unreachable(f"{self._url} is not reached: {text}")
        if "permissions violation" in lowered:
            self._client.violation = text
            # The last token of a subject is a ticker or a stream: one line stands for all of a type.
            self._say(text.rpartition(".")[0] or text, "nats_permission_violation", error=text)
        elif self._client.is_connected:
            self._say(text, "nats_error", error=text)
        else:
            self._say(text, "nats_unreachable", url=self._url, error=text, retrying=True)

    def _say(self, key: str, event: str, **values: object) -> None:
        now = time.monotonic()
        if now - self._said_at.get(key, -LOG_EVERY_S) >= LOG_EVERY_S:
            if len(self._said_at) > 100:  # noqa: PLR2004 - texts may carry varying names; keep the memory bounded
                self._said_at.clear()
            self._said_at[key] = now
            log.warning(event, **values)


def _describe(error: Exception) -> str:
    text = redact_text(str(error).removeprefix("nats: ").strip().strip("'"))
    return text or type(error).__name__


def _refusal(error: Exception, text: str, url: str) -> ConfigError | None:
    """Return the error that ends a first connection attempt: what waiting does not cure."""
    if isinstance(error, TlsMissingError):
        return ConfigError(
            "the server offers no TLS, so nothing was sent to it",
            file=url,
            remedy="give the server a certificate; without TLS write nats:// and no tls section",
        )
    if isinstance(error, nats.errors.AuthorizationError) or "authorization violation" in text:
        return CredentialError(
            "NATS refused the credentials",
            file=url,
            remedy="check user, password, token, nkey_seed or creds, and the server's accounts",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return CredentialError(
            f"the certificate of NATS does not verify: {error.verify_message}",
            file=url,
            remedy="set tls.ca to the authority that signed it, or tls.hostname to the name it carries",
        )
    if "certificate required" in text or "bad certificate" in text or "unknown ca" in text:
        return CredentialError(
            "NATS refused our certificate", file=url, remedy="set tls.cert and tls.key to one it trusts"
        )
    return None


async def connect(
    settings: NatsSettings,
    *,
    name: str,
    environ: Mapping[str, str] = os.environ,
    inbox_prefix: str = "_INBOX",
    on_closed: Callable[[], Awaitable[None]] | None = None,
    on_disconnected: Callable[[], Awaitable[None]] | None = None,
    on_reconnected: Callable[[], Awaitable[None]] | None = None,
    on_unreachable: Callable[[str], None] | None = None,
    stop: Waitable | None = None,
) -> NatsClient:
    """Connect to NATS, waiting as long as it takes for a server to answer.

    Args:
        settings: Address and credentials, or the places these lie in: they are fetched for every connection.
        name: Shown in the server's monitoring.
        environ: The environment variables.
        inbox_prefix: Prefix of every reply subject, so that permissions can be narrow.
        on_closed: Called when the connection ended for good; the service must then end.
        on_disconnected: Called at every loss of the connection; reconnecting has begun.
        on_reconnected: Called when it stands again; subscriptions are restored.
        on_unreachable: Told why, at every attempt in vain before the first connection.
        stop: Ends the waiting when set.

    Returns:
        The client, connected; it reconnects for ever.

    Raises:
        CredentialError: Credentials or certificates are unusable or refused.
        ConfigError: The URL is none, or what answers there is no NATS server.
        TransportError: ``stop`` was set while waiting.
    """
    access = Access(settings, environ)
    client = GuardedClient(access)
    url = shown_url(settings)
    reporter = _Reporter(url, client, on_unreachable)
    servers = _servers(settings.url)
    options = await asyncio.to_thread(access.options)
    connecting = asyncio.ensure_future(
        client.connect(
            servers,
            name=name,
            error_cb=reporter.on_error,
            closed_cb=_coroutine(on_closed),
            disconnected_cb=_logged("nats_disconnected", url, on_disconnected),
            reconnected_cb=_logged("nats_reconnected", url, on_reconnected),
            inbox_prefix=inbox_prefix,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_S,
            connect_timeout=CONNECT_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            pending_size=PENDING_SIZE_BYTES,
            **options,
        )
    )
    stopping = asyncio.create_task(_wait(stop or asyncio.Event()))
    ends: set[asyncio.Future[Any]] = {connecting, reporter.fatal, stopping}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            try:
                connecting.result()
            except nats.errors.Error as error:
                raise ConfigError(_describe(error), file=url, remedy=_URL_REMEDY) from None
            except (AttributeError, LookupError, TypeError, ValueError):
                # The client takes whatever greets it for JSON of a server.
                raise ConfigError("what answers there is no NATS server", file=url) from None
            reporter.connected_once = True
            log.info("nats_connected", url=url, server=str(client.connected_server_version), name=name)
            return client
        if reporter.fatal.done():
            raise reporter.fatal.result()
        raise TransportError("stopped while waiting for NATS", where=url)
    finally:
        stopping.cancel()
        if not reporter.connected_once:
            await _abandon(connecting, client)


def check_settings(settings: NatsSettings, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse what :func:`connect` would refuse before it asks a server.

    Raises:
        CredentialError: Credentials or certificates are missing or unusable.
        ConfigError: The URL is none.
    """
    _servers(settings.url)
    Access(settings, environ).options()


def shown_url(settings: NatsSettings) -> str:
    """Return the address fit to be shown: without credentials, however they are written."""
    servers = [part.strip() for part in settings.url.split(",")]
    return redact_text(",".join(part if "://" in part or "@" not in part else f"nats://{part}" for part in servers))


def _servers(urls: str) -> list[str]:
    """Return the addresses of one cluster's servers.

    Raises:
        ConfigError: One of them is none.
    """
    servers = [part.strip() for part in urls.split(",") if part.strip()]
    for server in servers or [""]:
        address = server if "://" in server else f"nats://{server}"
        try:
            parts = urlsplit(address)
            host, _port = (parts.hostname or "").encode("idna"), parts.port
        except ValueError:
            host = b""
        if not host or parts.scheme not in ("nats", "tls"):
            raise ConfigError(
                "is no address of a NATS server", file=redact_text(address), field="url", remedy=_URL_REMEDY
            )
    return servers


async def _wait(stop: Waitable) -> None:
    await stop.wait()


async def close(client: Client) -> None:
    """Close the connection in order: flush what was written, bounded in time."""
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            if client.is_connected:
                await client.flush()
            await client.close()


async def _abandon(connecting: asyncio.Future[None], client: NatsClient) -> None:
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    if client._flush_queue is None:  # noqa: SLF001 - the only sign that it refused the URL before it began
        return
    client._closed_cb = client._disconnected_cb = None  # noqa: SLF001 - nobody is told of what never was
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.close()


def _coroutine(callback: Callable[[], Awaitable[None]] | None) -> Callable[[], Awaitable[None]] | None:
    if callback is None:
        return None

    async def call() -> None:
        await callback()

    return call


def _logged(event: str, url: str, callback: Callable[[], Awaitable[None]] | None) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        log.info(event, url=url)
        if callback is not None:
            await callback()

    return call

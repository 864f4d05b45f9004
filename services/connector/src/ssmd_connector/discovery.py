"""Kalshi's REST interface, as far as it lists markets.

Patient with a server that is busy or ill, plain where asking again is in vain.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

import httpx
import structlog

from ssmd_common.errors import ConfigError
from ssmd_common.service.redact import redact_text
from ssmd_connector.backoff import Backoff, retry_after_s
from ssmd_connector.paging import Answer, read_page, verdict
from ssmd_connector.proxies import http_proxy_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import Self

    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.paging import Chain, Page

__all__ = ["MarketSource"]

log = structlog.get_logger()

_TIMEOUT_S = 20.0
_MAX_BODY_BYTES = 64 << 20
_MAX_WORDS = 200
_DEFAULT_PER_S = 10
_REMEDIES = {
    400: "see what discover asks for: series, events and status",
    401: "the exchange may list markets to known clients alone; check rest_endpoint",
    403: "the exchange may refuse this address or region",
    404: "check rest_endpoint: it ends in /trade-api/v2",
}


class MarketSource:
    """Where markets are listed, used as an async context manager.

    Args:
        url: The REST interface.
        per_s: Most requests a second.
        metrics: Told of requests and retries.

    Raises:
        ConfigError: The environment names a proxy that is none.

    Attributes:
        trouble: Why the latest request has no answer yet; empty when there is none.
    """

    def __init__(self, url: str, *, per_s: int | None, metrics: ConnectorMetrics) -> None:
        self._url = f"{url}/markets"
        self._interval_s = 1 / (per_s or _DEFAULT_PER_S)
        self._metrics = metrics
        self._next_at = 0.0
        # The socket's own proxy and authorities, not what httpx would make of the environment.
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
            verify=ssl.create_default_context(),
            proxy=http_proxy_of(url),
            headers={"Accept": "application/json", "User-Agent": "ssmd-connector"},
        )
        self.trouble = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def pages(self, chain: Chain) -> AsyncIterator[Page]:
        """Yield a listing's pages, waiting for each as long as it takes.

        Raises:
            ConfigError: The exchange refuses the request.
        """
        while not chain.is_over:
            page = await self._page(chain.query)
            if page.unread:
                log.warning("markets_unread", entries=page.unread, reason="they name no ticker")
            chain.took(page)
            if chain.went_in_a_circle:
                log.warning("listing_cut_short", pages=chain.pages, reason="a cursor came again")
            yield page

    async def _page(self, query: dict[str, str]) -> Page:
        backoff = Backoff()
        while True:
            await self._in_turn()
            try:
                status, headers, body = await self._get(query)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                status, headers, body = 0, httpx.Headers(), b""
                reason = redact_text(str(error)) or type(error).__name__
            else:
                reason = (
                    f"the exchange answered {status} {_words(body) if status != httpx.codes.OK else ''}".strip()
                )
            answer = verdict(status) if status else Answer.AGAIN
            if answer is Answer.REFUSED:
                raise ConfigError(
                    reason, file=redact_text(self._url), field="rest_endpoint", remedy=_REMEDIES.get(status, "")
                )
            if answer is Answer.TAKE:
                try:
                    page = read_page(body)
                except ValueError as error:
                    reason = str(error)
                else:
                    self.trouble = ""
                    return page
            self.trouble = reason
            wish_s = retry_after_s(headers.get("Retry-After", ""), now_s=time.time())
            delay_s = backoff.next_delay_s(at_least_s=wish_s)
            self._metrics.discovery_retries.add()
            log.warning("discovery_delayed", reason=reason, in_s=round(delay_s, 2), attempt=backoff.attempts)
            await asyncio.sleep(delay_s)

    async def _get(self, query: dict[str, str]) -> tuple[int, httpx.Headers, bytes]:
        """Return status, headers and body.

        Raises:
            ValueError: The body is larger than any listing.
        """
        self._metrics.discovery_requests.add()
        async with self._client.stream("GET", self._url, params=query) as response:
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _MAX_BODY_BYTES:
                    raise ValueError(f"the answer is larger than {_MAX_BODY_BYTES} bytes")
            return response.status_code, response.headers, bytes(body)

    async def _in_turn(self) -> None:
        """Wait until the next request may be sent."""
        now = time.monotonic()
        wait_s = self._next_at - now
        self._next_at = max(now, self._next_at) + self._interval_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)


def _words(body: bytes) -> str:
    return redact_text(" ".join(body.decode("utf-8", "replace").split()))[:_MAX_WORDS]

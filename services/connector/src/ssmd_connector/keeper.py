"""Keeps the sockets' markets up to date: finds them over REST, follows their lifecycle, refreshes books daily.

What is wanted is decided by :class:`~.markets.Markets`; here it is asked, heard and passed on. Sockets are told of
changes while they are open, and a new connection asks for what is wanted then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec
import structlog

from ssmd_common.errors import ConfigError, SsmdError
from ssmd_common.events import Market
from ssmd_connector.daily import next_time_ns
from ssmd_connector.discovery import MarketSource
from ssmd_connector.markets import Markets
from ssmd_connector.paging import chains, lookups
from ssmd_connector.venues.kalshi import BOOK_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import time as time_of_day

    from ssmd_common.config.kalshi import Discover
    from ssmd_connector.effects import Heard
    from ssmd_connector.journal import Journal
    from ssmd_connector.lane import Lane
    from ssmd_connector.markets import Change, Listing
    from ssmd_connector.metrics import ConnectorMetrics
    from ssmd_connector.plan import Plan
    from ssmd_connector.publisher import Publisher
    from ssmd_connector.venues.kalshi import MarketNews

__all__ = ["MarketKeeper"]

log = structlog.get_logger()

_NS_PER_S = 1_000_000_000
_MAX_NEWS = 10_000
_GATHER_S = 1.0
"""Markets are often listed and settled by the hundred: documents and lines of the log are for all of a second."""
_LONGEST_SLEEP_S = 30.0
_AFTER_THE_HOUR_NS = _NS_PER_S
"""Books are asked for so long after the time set, since an early clock would put them into the day before."""
_DOCUMENTS_IN_FLIGHT = 1000
_YIELD_S = 0.05


class MarketKeeper:
    """The markets of one feed.

    Args:
        plan: Which are wanted.
        journal: Takes their documents.
        publisher: Shows how busy it is.
        metrics: Told of everything.

    Attributes:
        markets: What is wanted now.
    """

    def __init__(self, plan: Plan, *, journal: Journal, publisher: Publisher, metrics: ConnectorMetrics) -> None:
        self._plan = plan
        self._journal = journal
        self._publisher = publisher
        self._metrics = metrics
        self._lanes: Sequence[Lane] = ()
        self._news: asyncio.Queue[MarketNews] = asyncio.Queue(_MAX_NEWS)
        self._stale: dict[str, None] = {}
        self._is_stale = asyncio.Event()
        self._empty: set[str] = set()
        self._untold: dict[tuple[int, str], tuple[int, int]] = {}
        self._is_untold = asyncio.Event()
        self._discovered = plan.discovery is None
        self._source: MarketSource | None = None
        self.markets = Markets(plan.selection, plan.sockets)
        metrics.markets.observe(lambda: len(self.markets))

    def why_not_complete(self) -> str | None:
        """Return why the markets are not all known yet, or None."""
        if self._discovered:
            return None
        trouble = self._source.trouble if self._source is not None else ""
        return f"markets are being discovered{': ' if trouble else ''}{trouble}"

    def heard(self, effect: Heard) -> None:
        """Take what the exchange says about a market."""
        if self._plan.discovery is None and not self._plan.selection.tickers:
            return
        try:
            self._news.put_nowait(effect.news)
        except asyncio.QueueFull:
            log.warning("lifecycle_missed", ticker=effect.news.ticker, remedy="the next discovery finds it")

    async def run(self, lanes: Sequence[Lane]) -> None:
        """Work until cancelled.

        Raises:
            ConfigError: The exchange refuses to list its markets.
        """
        self._lanes = lanes
        discover, settings = self._plan.discovery, self._plan.settings.kalshi_settings
        failures: list[SsmdError] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._tell_changes())
                if discover is not None:
                    tasks.create_task(self._discover(discover))
                if self._plan.is_kalshi and settings.snapshot_at is not None and BOOK_CHANNEL in settings.channels:
                    tasks.create_task(self._refresh_daily(settings.snapshot_at))
        except* SsmdError as group:
            failures += [error for error in group.exceptions if isinstance(error, SsmdError)]
        if failures:
            raise failures[0]

    async def _follow(self) -> None:
        while True:
            news = await self._news.get()
            ours, changes = self.markets.heard(news)
            if ours and self._plan.discovery is not None:
                self._stale[news.ticker] = None
                self._is_stale.set()
            if changes:
                await self._apply(changes, because=news.what)

    async def _discover(self, discover: Discover) -> None:
        async with MarketSource(
            self._plan.rest_url(), per_s=self._plan.rate_limit_per_s, metrics=self._metrics
        ) as source:
            self._source = source
            while True:
                try:
                    await self._look_for_all(discover, source)
                except ConfigError as error:
                    # What was once right is not refused for good: it may be the exchange's own trouble.
                    if not self._discovered:
                        raise
                    log.error("discovery_refused", reason=str(error))  # noqa: TRY400 - the reason says it all
                self._discovered = True
                await self._look_up_until(time.monotonic() + discover.every.seconds, source)

    async def _look_for_all(self, discover: Discover, source: MarketSource) -> None:
        begun, before = time.monotonic(), len(self.markets)
        self.markets.begin_pass()
        listed: dict[str, int] = {}
        for chain in chains(discover):
            async for page in source.pages(chain):
                listed[chain.scope] = listed.get(chain.scope, 0) + len(page.listings)
                await self._apply(self.markets.listed(page.listings), because="discovered")
                await self._publish(page.listings)
        await self._look_up(self.markets.end_pass(), source, strict=True)
        self.markets.forget_documents()
        self._tell_empty({scope for scope, count in listed.items() if not count})
        log.info(
            "markets_discovered",
            markets=len(self.markets),
            before=before,
            took_s=round(time.monotonic() - begun, 2),
        )

    def _tell_empty(self, empty: set[str]) -> None:
        """Warn once of what lists no market: it may be misspelt, or between two of its events."""
        for scope in sorted(empty - self._empty):
            log.warning("nothing_listed", of=scope or "all markets", remedy="check series, events and status")
        self._empty = empty

    async def _look_up_until(self, deadline: float, source: MarketSource) -> None:
        """Ask for the documents of markets there is news of, until it is time to look for all."""
        while (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._is_stale.wait()
                    await asyncio.sleep(_GATHER_S)
            stale, self._stale = tuple(self._stale), {}
            self._is_stale.clear()
            try:
                await self._look_up(stale, source, strict=False)
            except ConfigError as error:
                log.error("discovery_refused", reason=str(error))  # noqa: TRY400 - the reason says it all

    async def _look_up(self, tickers: Sequence[str], source: MarketSource, *, strict: bool) -> None:
        for asked, chain in lookups(tickers):
            found = [listing async for page in source.pages(chain) for listing in page.listings]
            await self._apply(self.markets.looked_up(asked, found, strict=strict), because="looked_up")
            await self._publish(found)

    async def _apply(self, changes: Iterable[Change], *, because: str) -> None:
        for change in changes:
            if change.added or change.removed:
                added, removed = self._untold.get((change.lane, because), (0, 0))
                self._untold[change.lane, because] = added + len(change.added), removed + len(change.removed)
                self._is_untold.set()
            wanted = (*change.added, *change.opened)
            await self._lanes[change.lane - 1].change_markets(wanted, change.removed)

    async def _tell_changes(self) -> None:
        while True:
            await self._is_untold.wait()
            await asyncio.sleep(_GATHER_S)
            untold, self._untold = self._untold, {}
            self._is_untold.clear()
            for (lane, because), (added, removed) in untold.items():
                log.info("markets_changed", lane=lane, added=added, removed=removed, because=because)

    async def _publish(self, listings: Iterable[Listing]) -> None:
        """Put documents on record, a few at a time: frames come first."""
        for listing in listings:
            if not self.markets.is_new(listing):
                continue
            while self._is_busy():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(_YIELD_S)
            await self._journal.tell(Market, ticker=listing.ticker, document=msgspec.Raw(listing.document))

    def _is_busy(self) -> bool:
        """Tell whether frames have to wait; while all goes to the disk, documents can as well."""
        return self._publisher.unacknowledged > _DOCUMENTS_IN_FLIGHT and not self._publisher.is_spooling

    async def _refresh_daily(self, at: time_of_day) -> None:
        due_ns = next_time_ns(at, time.time_ns()) + _AFTER_THE_HOUR_NS
        while True:
            left_s = (due_ns - time.time_ns()) / _NS_PER_S
            if left_s > 0:
                # In short steps, since the clock may be set meanwhile.
                await asyncio.sleep(min(left_s, _LONGEST_SLEEP_S))
                continue
            due_ns = next_time_ns(at, time.time_ns()) + _AFTER_THE_HOUR_NS
            for lane in self._lanes:
                await lane.refresh_books()

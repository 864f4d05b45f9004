"""What the keeper of the markets says and passes on; tests/integration shows it an exchange."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from structlog.testing import capture_logs

from ssmd_common.service.telemetry import Metrics
from ssmd_connector.effects import Heard
from ssmd_connector.keeper import MarketKeeper
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.testing import kalshi_plan
from ssmd_connector.venues.kalshi import MarketNews

if TYPE_CHECKING:
    from ssmd_connector.lane import Lane

MARKETS = tuple(f"S-E-{number}" for number in range(300))


class _Lane:
    def __init__(self) -> None:
        self.told: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    async def change_markets(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        self.told.append((added, removed))


async def test_hundreds_of_markets_that_end_together_leave_one_by_one_and_are_told_of_in_one_line() -> None:
    plan = kalshi_plan("ws://127.0.0.1:1", "nats://127.0.0.1:1", markets=MARKETS)
    unused: Any = None
    keeper = MarketKeeper(plan, journal=unused, publisher=unused, metrics=ConnectorMetrics(Metrics("test")))
    lane = _Lane()
    with capture_logs() as logs:
        running = asyncio.create_task(keeper.run([cast("Lane", lane)]))
        for ticker in MARKETS:
            keeper.heard(Heard(MarketNews("settled", ticker)))
        keeper.heard(Heard(MarketNews("created", MARKETS[0])))
        keeper.heard(Heard(MarketNews("activated", MARKETS[0])))
        async with asyncio.timeout(60):
            while not logs:  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert lane.told[:300] == [((), (ticker,)) for ticker in MARKETS]
    assert lane.told[300:] == [((MARKETS[0],), ())] * 2, "one that opens is asked for once more"
    assert [(line["event"], line["because"], line["added"], line["removed"]) for line in logs] == [
        ("markets_changed", "settled", 0, 300),
        ("markets_changed", "created", 1, 0),
    ]

from __future__ import annotations

import http
from typing import TYPE_CHECKING

import pytest

from ssmd_common.errors import CredentialError, SsmdError
from ssmd_common.nats.testing import free_port
from ssmd_common.service.lifecycle import Stop
from ssmd_connector.handshake import open_exchange, try_handshake
from ssmd_connector.testing import exchange, kalshi_plan, private_key_pem
from ssmd_connector.websocket import OpenError

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

NATS = "nats://127.0.0.1:1"


async def test_a_try_shows_the_keys_and_asks_for_nothing() -> None:
    asked: list[str] = []
    signed: list[str] = []

    async def script(connection: ServerConnection, _number: int) -> None:
        asked.extend([str(message) async for message in connection])

    def door(_connection: ServerConnection, request: Request) -> Response | None:
        signed.append(request.headers["KALSHI-ACCESS-KEY"])
        return None

    async with exchange(script, door=door) as url:
        environ = {"KALSHI_API_KEY": "id", "KALSHI_PRIVATE_KEY": private_key_pem()}
        assert await try_handshake(kalshi_plan(url, NATS, auth="api_key", environ=environ), Stop()) == 0
    assert (asked, signed) == ([], ["id"])


async def test_refused_keys_are_a_configuration_error_and_an_exchange_that_is_away_a_failure() -> None:
    async def script(_connection: ServerConnection, _number: int) -> None:
        raise AssertionError

    def door(connection: ServerConnection, _request: Request) -> Response:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "INCORRECT_API_KEY_SIGNATURE")

    async with exchange(script, door=door) as url:
        with pytest.raises(CredentialError, match="refused the handshake with 401"):
            await try_handshake(kalshi_plan(url, NATS), Stop())
    away = f"ws://127.0.0.1:{free_port()}/ws"
    with pytest.raises(SsmdError, match=rf"{away}: no connection: .*check the endpoint") as caught:
        await try_handshake(kalshi_plan(away, NATS), Stop())
    assert caught.value.exit_code == 1


async def test_a_key_that_is_being_replaced_is_no_end_but_another_attempt() -> None:
    environ = {"KALSHI_API_KEY": "id", "KALSHI_PRIVATE_KEY": private_key_pem()[:200]}
    plan = kalshi_plan("ws://127.0.0.1:1/ws", NATS, auth="api_key", environ=environ)
    with pytest.raises(OpenError, match=r"no usable key: .*is no PEM private key"):
        await open_exchange(plan)
    environ.clear()
    with pytest.raises(OpenError, match=r"no usable key: .*variable KALSHI_API_KEY is not set"):
        await open_exchange(plan)

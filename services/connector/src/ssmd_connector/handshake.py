"""Opening the exchange's socket as a plan says, and what a refusal means: for a capture, and for a try."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ssmd_common.errors import CredentialError, SsmdError
from ssmd_connector.auth import explain_refusal
from ssmd_connector.websocket import OpenError, RefusedError, open_socket

if TYPE_CHECKING:
    from ssmd_common.service.lifecycle import Stop
    from ssmd_connector.plan import Plan
    from ssmd_connector.websocket import Socket

__all__ = ["open_before", "open_exchange", "try_handshake"]


async def open_exchange(plan: Plan) -> Socket:
    """Open a socket with the keys that lie there now.

    Raises:
        OpenError: Anything that may be different next time: also a key that is missing or malformed, since it was
            neither when the process began and may just be being replaced.
        CredentialError: The exchange answered 401 or 403.
        ConfigError: The endpoint is no address, or no version of the feed is in force.
    """
    try:
        url, headers, where = await asyncio.to_thread(plan.handshake)
    except CredentialError as error:
        raise OpenError(f"no usable key: {error}") from None
    try:
        return await open_socket(url, headers=headers, max_frame_bytes=plan.settings.max_frame_bytes)
    except RefusedError as refused:
        raise explain_refusal(
            refused.status, refused.body, refused.headers, url=url, where=where, now_s=time.time()
        ) from None


async def open_before(plan: Plan, stop: Stop) -> Socket | None:
    """Open a socket, but wait for it no longer than to a stop; None where that came first.

    Raises:
        OpenError: As :func:`open_exchange`.
        ConfigError: As :func:`open_exchange`.
    """
    opening, stopping = asyncio.create_task(open_exchange(plan)), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if opening.done():
        return opening.result()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    return None


async def try_handshake(plan: Plan, stop: Stop) -> int:
    """Open the exchange's socket once and close it again, subscribing to nothing.

    Returns:
        0, or 1 where a stop came first.

    Raises:
        SsmdError: No socket could be opened.
        ConfigError: The exchange refuses the keys, or they or the endpoint are none.
    """
    try:
        socket = await open_before(plan, stop)
    except OpenError as error:
        remedy = "check the endpoint, the network, and whether the exchange is in maintenance"
        raise SsmdError(f"no connection: {error.reason}", where=plan.url(), remedy=remedy) from None
    if socket is None:
        return 1
    await socket.close()
    return 0

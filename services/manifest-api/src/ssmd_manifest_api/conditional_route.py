"""Listings that are not sent again to who has them: the strong ETag of what would be sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from ssmd_manifest_api.conditional import REVALIDATE, etag_of, not_modified

__all__ = ["ConditionalRoute"]

_OK = 200


class ConditionalRoute(APIRoute):
    """A route whose whole answers get an ETag of their bytes, and 304 where the caller names it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler around the route's own."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            response = await inner(request)
            if response.status_code != _OK or "etag" in response.headers or not isinstance(response.body, bytes):
                return response
            etag = etag_of(response.body)
            headers = {"ETag": etag, "Cache-Control": REVALIDATE}
            if not_modified(request.headers, etag):
                return Response(status_code=304, headers=headers)
            response.headers.update(headers)
            return response

        return handle

"""What surrounds every answer: who may ask, paths that try to leave, headers that keep a browser careful."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import Request

from ssmd_manifest_api.auth import Guard
from ssmd_manifest_api.measure import Traffic
from ssmd_manifest_api.problems import ProblemError, problem_response
from ssmd_manifest_api.traversal import tries_to_leave

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["GRANT", "SecuredApp", "is_open", "security_headers"]

GRANT = "ssmd.grant"
"""Where a request's scope holds what it may see."""

_OPEN_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""For probes and Prometheus: they name no feed."""

_OPEN_FOLDER = "/static/"
"""Style and icon of the pages: the page that asks for a token has them too."""

_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


def security_headers(guard: Guard, *, cors: bool = False) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of every answer that has no stricter ones of its own.

    Args:
        guard: Tells who may ask.
        cors: Other sites may ask, and nothing else says that an answer may differ by the site.
    """
    varies = b", ".join(name for name, does in ((b"Authorization", not guard.open), (b"Origin", cors)) if does)
    return (*_HEADERS, (b"vary", varies)) if varies else _HEADERS


class SecuredApp:
    """An ASGI application around another that answers what must not reach it.

    Args:
        app: The application inside; it finds what the request may see at :data:`GRANT` of its scope.
        guard: Tells who may ask.
        traffic: Where attempts to leave are counted.
    """

    def __init__(self, app: ASGIApp, *, guard: Guard, traffic: Traffic) -> None:
        self._app = app
        self._guard = guard
        self._traffic = traffic
        self._headers = security_headers(guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._completed(message.get("headers", ()))
            await send(message)

        try:
            self._admit(scope)
        except ProblemError as problem:
            await problem_response(Request(scope), problem)(scope, receive, careful)
        else:
            await self._app(scope, receive, careful)

    def _admit(self, scope: Scope) -> None:
        if tries_to_leave(scope.get("raw_path") or scope["path"].encode()):
            self._traffic.escaped("path")
            raise ProblemError(404, "not-found", "No such path", "the path leads out of what is served here")
        grant = self._guard.grant(scope["headers"])
        if grant is None and not is_open(scope["path"]):
            raise ProblemError(
                401,
                "token-required",
                "A token is required",
                "send a valid token as `Authorization: Bearer TOKEN`, or as the password of HTTP Basic",
                headers={"WWW-Authenticate": 'Bearer realm="ssmd", Basic realm="ssmd", charset="UTF-8"'},
            )
        scope[GRANT] = grant

    def _completed(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Add the headers that are not there yet; with tokens, no shared cache may keep an answer."""
        names = {name.lower() for name, _ in headers}
        added = [(name, value) for name, value in self._headers if name == b"vary" or name not in names]
        if self._guard.open:
            return [*headers, *added]
        private = [
            (name, value.replace(b"public", b"private") if name.lower() == b"cache-control" else value)
            for name, value in headers
        ]
        return [*private, *added]


def is_open(path: str) -> bool:
    """Tell whether a path needs no token."""
    return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER)

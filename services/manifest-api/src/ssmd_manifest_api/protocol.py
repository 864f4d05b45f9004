"""HTTP/1.1 on a socket: uvicorn's protocol, with a bound on a request's head and a short way for manifests."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ssmd_manifest_api.express import Express

__all__ = ["ExpressProtocol"]

_MOST_HEAD_BYTES = 64 << 10
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class ExpressProtocol(HttpToolsProtocol):
    """One connection. A plain GET is offered to ``app.state.express`` before a task is made for the application.

    Only where no other answer of this connection is under way, so answers keep the order of their requests, and
    only where its peer reads what it is sent, so nothing piles up.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        application = config.app
        assert isinstance(application, FastAPI)  # noqa: S101 - run.py hands over the application itself
        express: Express = application.state.express
        self._express = express
        self._head_bytes = 0
        self._in_head = True
        self._answer: bytes | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came, as long as a head stays within its bound: the parser itself has none."""
        if self._in_head:
            if self._head_bytes > _MOST_HEAD_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
            self._head_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin a request; the scope of an application is made only for those that need one."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Answer, or leave it to the application."""
        self._in_head = False
        self._head_bytes = 0
        self._answer = self._short_answer()
        if self._answer is None:
            url, headers, expected = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expected
            self.headers.extend(headers)
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Send the answer once the request is whole."""
        self._in_head = True
        if self._answer is None:
            super().on_message_complete()
            return
        self.transport.write(self._answer)
        self._answer = None
        self.on_response_complete()

    def _short_answer(self) -> bytes | None:
        parser = self.parser
        if (
            parser.get_method() != b"GET"
            or not parser.should_keep_alive()
            or parser.get_http_version() != "1.1"
            or self.flow.write_paused
            or not (self.cycle is None or self.cycle.response_complete)
        ):
            return None
        return self._express.answer(self.url, self.headers, self.server_state.default_headers)

"""What the API answers when it cannot do what was asked: problem documents of RFC 9457.

* 404 ``not-found``: no such feed, date or file; ``nearest`` lists what there is.
* 404 ``pending``: the day has begun, and its manifest comes with the first sealed segment.
* 422 ``invalid-parameter``: ``errors`` names each parameter.
* 401 ``token-required``: the server knows tokens, and the request carries none of them.
* 500 ``archive-damaged``: a file of the archive contradicts itself.
* 503 ``archive-unreadable``: the system cannot read a file or folder of the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from ssmd_common.errors import ArchiveError
from ssmd_manifest_api.readable import UnreadableError
from ssmd_manifest_api.view_problem import prefers_html

__all__ = [
    "MEDIA_TYPE",
    "PROBLEM_RESPONSES",
    "TOKEN_RESPONSE",
    "Problem",
    "ProblemError",
    "install_problems",
    "problem_response",
]

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:ssmd:problem:"

ProblemPage = Callable[[Mapping[str, Any]], Response]
"""Makes a page of a problem document."""


class ParameterError(BaseModel):
    """One malformed parameter."""

    parameter: str = Field(examples=["from"])
    location: str = Field(description="path, query or header", examples=["query"])
    message: str


class Problem(BaseModel):
    """A problem document of RFC 9457."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:ssmd:problem:not-found"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was asked for")
    nearest: list[str] | None = Field(default=None, description="What there is, the nearest first")
    errors: list[ParameterError] | None = Field(default=None, description="The malformed parameters")


class ProblemError(Exception):
    """Ends a request with a problem document.

    Attributes:
        headers: Headers of the answer.
        extra: Further members of the document, such as ``nearest``.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra


def _inline_schema() -> dict[str, Any]:
    schema = Problem.model_json_schema()
    definitions = schema.pop("$defs")
    errors = schema["properties"]["errors"]["anyOf"][0]
    errors["items"] = definitions["ParameterError"]
    return schema


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {
        "description": "No such feed, date or file, or its first segment is still open",
        "content": {MEDIA_TYPE: {"schema": _inline_schema()}},
    },
    422: {"description": "A malformed parameter", "content": {MEDIA_TYPE: {"schema": _inline_schema()}}},
}
"""For the OpenAPI document: what every route under a feed can answer beside its 200."""

TOKEN_RESPONSE: Mapping[str, Any] = {
    "description": "No valid token",
    "headers": {"WWW-Authenticate": {"description": "How to send one", "schema": {"type": "string"}}},
    "content": {MEDIA_TYPE: {"schema": _inline_schema()}},
}
"""For the OpenAPI document: what every route that needs a token answers without."""


def _answer(request: Request, status: int, kind: str, title: str, detail: str, **extra: Any) -> Response:
    document = {
        "type": _TYPE_PREFIX + kind,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **extra,
    }
    if prefers_html(request.headers.get("accept")):
        page: ProblemPage = request.app.state.problem_page
        response = page(document)
    else:
        response = JSONResponse(document, status_code=status, media_type=MEDIA_TYPE)
    response.headers["Vary"] = "Accept"
    return response


def problem_response(request: Request, error: ProblemError) -> Response:
    """Return the answer that a problem is."""
    response = _answer(request, error.status, error.kind, error.title, error.detail, **error.extra)
    response.headers.update(error.headers)
    return response


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this class alone
    return problem_response(request, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    errors = [
        {
            "parameter": ".".join(str(part) for part in item["loc"][1:2]),
            "location": str(item["loc"][0]),
            "message": str(item["msg"]).removeprefix("Value error, "),
        }
        for item in error.errors()
    ]
    names = ", ".join(dict.fromkeys(item["parameter"] for item in errors))
    return _answer(request, 422, "invalid-parameter", "Malformed parameter", f"malformed: {names}", errors=errors)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    title = str(error.detail)
    response = _answer(
        request, error.status_code, title.lower().replace(" ", "-"), title, f"{title}: {request.url.path}"
    )
    response.headers.update(error.headers or {})
    if "allow" in response.headers:
        response.headers["Allow"] = "GET, HEAD"  # of every route, though the framework names the first method alone
    return response


async def _on_damage(request: Request, error: Exception) -> Response:
    assert isinstance(error, ArchiveError)  # noqa: S101 - registered for this class alone
    log.error("archive_damaged", where=error.where, problem=error.problem)
    return _answer(request, 500, "archive-damaged", "The archive is damaged", str(error))


async def _on_unreadable(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnreadableError)  # noqa: S101 - registered for this class alone
    log.error("archive_unreadable", where=error.where, problem=error.problem)
    return _unreadable(request, str(error))


async def _on_broken_read(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101 - registered for this class alone
    log.error("archive_unreadable", problem=error.strerror or str(error))
    return _unreadable(request, f"the archive cannot be read: {error.strerror or type(error).__name__}")


def _unreadable(request: Request, detail: str) -> Response:
    return _answer(request, 503, "archive-unreadable", "The archive cannot be read", detail)


def install_problems(app: FastAPI, *, page: ProblemPage) -> None:
    """Make every failure of the app a problem document, or ``page`` of it for who asks with a browser."""
    app.state.problem_page = page
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ArchiveError, _on_damage)
    app.add_exception_handler(UnreadableError, _on_unreadable)
    app.add_exception_handler(OSError, _on_broken_read)

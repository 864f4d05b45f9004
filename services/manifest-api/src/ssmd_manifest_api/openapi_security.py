"""Tokens in the OpenAPI document, where the server knows some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI

from ssmd_manifest_api.problems import TOKEN_RESPONSE
from ssmd_manifest_api.security import is_open

__all__ = ["install_security"]

_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The token"},
    "basic": {"type": "http", "scheme": "basic", "description": "The token as the password of any user"},
}


def install_security(app: FastAPI) -> None:
    """Put what a token opens into the app's OpenAPI document.

    There is no 403 in it: to a token, a feed out of its scope is one that does not exist.
    """
    describe: Callable[[], dict[str, Any]] = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        document["components"]["securitySchemes"] = _SCHEMES
        for path, methods in document["paths"].items():
            if not is_open(path):
                methods["get"]["security"] = [{name: []} for name in _SCHEMES]
                methods["get"]["responses"]["401"] = TOKEN_RESPONSE
        return document

    app.openapi = described  # type: ignore[method-assign]  # the framework's own way to change the document

"""Examples in the OpenAPI document: for every route the answer it gave about one small archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI

__all__ = ["install_examples"]


def install_examples(app: FastAPI) -> None:
    """Put `examples.json` into the app's OpenAPI document: by path and media type."""
    describe: Callable[[], dict[str, Any]] = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            examples = json.loads((files(__package__) / "examples.json").read_text("utf-8"))
            for path, by_media in examples.items():
                content = document["paths"][path]["get"]["responses"]["200"]["content"]
                for media, example in by_media.items():
                    content[media]["example"] = example
        assert app.openapi_schema is not None  # noqa: S101 - made above
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # the framework's own way to change the document

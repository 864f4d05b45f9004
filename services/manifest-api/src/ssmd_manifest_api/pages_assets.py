"""The pages' files beside the templates, served under names that change with their bytes."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from ssmd_manifest_api.problems import ProblemError

__all__ = ["ASSETS", "router"]

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES = {"css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


def _load() -> dict[str, tuple[str, bytes]]:
    loaded = {}
    for file in files("ssmd_manifest_api").joinpath("static").iterdir():
        data = file.read_bytes()
        stem, _, kind = file.name.rpartition(".")
        loaded[file.name] = (f"{stem}.{hashlib.sha256(data).hexdigest()[:12]}.{kind}", data)
    return loaded


_FILES: Final = _load()
_BY_NAME: Final = dict(_FILES.values())

ASSETS: Final = {name: f"/static/{served}" for name, (served, _) in _FILES.items()}
"""Where each file is served, by its name."""


@router.get("/static/{name}")
async def get_asset(name: str) -> Response:
    """Return a file of the pages; its name holds its hash, so it never changes."""
    data = _BY_NAME.get(name)
    if data is None:
        raise ProblemError(404, "not-found", "No such file", f"the pages have no file {name!r}")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(data, headers=headers, media_type=_MEDIA_TYPES[name.rpartition(".")[2]])

"""The pages for people: rendered on the server, without scripts and without anything from outside."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from ssmd_manifest_api.lookup import CatalogDep
from ssmd_manifest_api.routes import feed_entries

__all__ = ["router"]

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND = 1000


def _size(count: int) -> str:
    """Return bytes for a person: three digits and a unit."""
    value, unit = float(count), 0
    while value >= _THOUSAND and unit < len(_SIZES) - 1:
        value, unit = value / _THOUSAND, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.3g} {_SIZES[unit]}"


def _number(count: int) -> str:
    return f"{count:,}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ssmd_manifest_api"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=_size, number=_number)
    return environment


_templates = _environment()


@router.get("/")
def index(catalog: CatalogDep) -> str:
    """Show the feeds and their days."""
    feeds = [(entry, list(reversed(catalog.days(entry.feed)))) for entry in feed_entries(catalog)]
    return _templates.get_template("index.html").render(feeds=feeds, not_ready=catalog.why_not_ready())


@router.get("/docs")
def docs(request: Request) -> str:
    """Show the routes, from the OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    operations = [
        (path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return _templates.get_template("docs.html").render(info=document["info"], operations=operations)

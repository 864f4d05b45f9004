"""From a template to an answer: the filters pages use, and the headers they carry."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ssmd_common.archive.times import DAY_NS, date_of, day_start_ns, to_rfc3339
from ssmd_manifest_api import view_text
from ssmd_manifest_api.pages_assets import ASSETS

__all__ = ["render"]

_HEADERS: Final = {
    # Nothing but our own style sheet and icon: no script, no frame, nothing from outside.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def _code_spans(text: str) -> list[str]:
    """Split text at backticks: every second part is code."""
    return text.split("`")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _short(clock: str) -> str:
    return clock[:5]


def _break_path(path: str) -> Markup:
    """Let a long path break before its slashes."""
    return Markup("<wbr>/").join(escape(part) for part in path.split("/"))


def _clock_of(ns: int, date: dt.date, end: bool) -> str:  # noqa: FBT001 - templates call filters by position
    """Return a time of a day, with its date where it lies on another; an end at midnight is the day's own 24:00."""
    if date_of(ns) == date:
        return view_text.clock(ns)
    return "24:00:00" if end and ns == day_start_ns(date) + DAY_NS else view_text.moment(ns)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ssmd_manifest_api"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        break_path=_break_path,
        clock=view_text.clock,
        clock_of=_clock_of,
        code_spans=_code_spans,
        count=view_text.count,
        day_name=view_text.day_name,
        moment=view_text.moment,
        number=view_text.number,
        rfc3339=to_rfc3339,
        sentence=_sentence,
        short=_short,
        size=view_text.size,
    )
    environment.globals["assets"] = ASSETS
    return environment


_templates: Final = _environment()


def render(template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page: strict in what it loads, and asked for again each time."""
    text = _templates.get_template(template).render(**context)
    return HTMLResponse(text, status_code=status, headers=_HEADERS)

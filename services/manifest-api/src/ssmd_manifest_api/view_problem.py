"""Problems for who asks with a browser: whether a page is wanted, and where the nearest things are; pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

from ssmd_manifest_api.parameters import parse_date

__all__ = ["nearest_links", "prefers_html"]

_PAGE = "text/html"
_DOCUMENTS = ("application/json", "application/problem+json")


def prefers_html(accept: str | None) -> bool:
    """Tell whether an ``Accept`` header names HTML and wants it more than JSON; who names none gets JSON."""
    weights: dict[str, float] = {}
    for part in (accept or "").split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
        try:
            weights[media] = float(quality)
        except ValueError:
            weights[media] = 0.0
    page = weights.get(_PAGE, 0.0)
    return page > 0 and page > max(weights.get(media, 0.0) for media in _DOCUMENTS)


def nearest_links(path: str, nearest: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names a problem offers with the page of each.

    Args:
        path: The path that was asked for.
        nearest: Feeds, dates or file names.
    """
    parts = [unquote(part) for part in path.strip("/").split("/")]
    return [(name, _link(parts, name)) for name in nearest]


def _link(parts: Sequence[str], name: str) -> str:
    quoted = [quote(part, safe="") for part in parts]
    if quoted[0] == "files" and len(quoted) == 4 and "." in name:  # noqa: PLR2004 - /files/{feed}/{date}/{name}
        return f"/files/{quoted[1]}/{quoted[2]}/{quote(name, safe='')}"
    if len(quoted) > 1 and _is_date(name):
        return f"/feeds/{quoted[1]}/{name}"
    return f"/feeds/{quote(name, safe='')}"


def _is_date(text: str) -> bool:
    try:
        parse_date(text)
    except ValueError:
        return False
    return True

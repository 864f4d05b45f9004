"""The file ``--config`` names: who may read which feeds, and which other sites' pages may ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from ssmd_common.config.calendar import Calendar
from ssmd_common.config.loading import load_feed, load_model
from ssmd_common.config.model import ConfigModel, Name, checked, invalid, parse_name
from ssmd_common.errors import ConfigError

__all__ = ["ApiConfig", "TokenEntry", "load_calendars", "load_config"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        # What stands there may be the token itself, so it is not repeated.
        raise invalid("is no sha256 in hex", remedy="`ssmd-manifest-api token` prints a token and its hash")
    return text


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise invalid(
            f"{text!r} is no origin", remedy="write scheme, host and port alone: https://charts.example.org"
        )
    return text


def _feeds(value: object) -> object:
    """Check what a token may read; left to the types alone, an error would name each alternative's inside."""
    remedy = "write `all`, or a list of feeds: [kalshi, kraken]"
    if value == "all":
        return value
    if not isinstance(value, list | tuple):
        raise invalid("is neither `all` nor a list of feeds", remedy=remedy)
    if not value:
        raise invalid("is empty", remedy=remedy)
    for feed in value:
        if not isinstance(feed, str):
            raise invalid(f"{feed!r} is no feed's name", remedy=remedy)
        checked(parse_name)(feed)
    return tuple(value)


class TokenEntry(ConfigModel):
    """One token.

    Attributes:
        name: Whose it is; the only part of it that is ever logged.
        sha256: Hash of the token, in hex; the token itself is nowhere on the server.
        feeds: What it may read: feeds by name, or ``all``.
    """

    name: Name
    sha256: Annotated[str, AfterValidator(_sha256)]
    feeds: Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(_feeds)]


class ApiConfig(ConfigModel):
    """What the manifest API may be told.

    Attributes:
        tokens: Who may read; without any, everybody may read everything.
        cors_origins: Sites whose pages may ask from within a browser; none by default.
    """

    tokens: tuple[TokenEntry, ...] = ()
    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()

    @model_validator(mode="after")
    def _tokens_differ(self) -> Self:
        for values in ([token.name for token in self.tokens], [token.sha256 for token in self.tokens]):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise invalid(f"two tokens have {twice[0]!r}", remedy="give each token its own name and hash")
        return self


def load_config(path: Path | None) -> ApiConfig:
    """Return the configuration a file holds; the defaults where there is none.

    Raises:
        ConfigError: The file cannot be read, or something in it is wrong.
    """
    return ApiConfig() if path is None else load_model(path, ApiConfig)


def load_calendars(folder: Path | None) -> Mapping[str, Calendar]:
    """Return the calendars of the feed files in a folder, by feed; a feed without one is left out.

    Raises:
        ConfigError: There is no such folder, or a file in it is wrong.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise ConfigError("no such folder", file=str(folder), field="--feeds", remedy="name a folder of feed files")
    feeds = [load_feed(path) for path in sorted(folder.glob("*.yaml"))]
    return {feed.name: feed.calendar for feed in feeds if feed.calendar is not None}

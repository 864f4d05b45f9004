"""The key that signs Kalshi's handshake: which of an environment's it is, and its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmd_common.config.credentials import fetch_fields
from ssmd_common.errors import ConfigError, CredentialError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import SecretStr

    from ssmd_common.config.environment import Environment, KeySpec
    from ssmd_common.config.feed import Feed

__all__ = ["KalshiCredentials", "kalshi_credentials"]

_API_KEY, _PRIVATE_KEY = "api_key", "private_key"
_KEY_ID = re.compile(r"[!-~]{1,200}")
_DEFAULT_KEY_SOURCE = "env:KALSHI_API_KEY,KALSHI_PRIVATE_KEY"


@dataclass(frozen=True, slots=True)
class KalshiCredentials:
    """What signs Kalshi's handshake.

    Attributes:
        api_key: The key's id.
        private_key: PEM text of the RSA key.
        where: Where they came from, for errors.
    """

    api_key: SecretStr
    private_key: SecretStr
    where: str


def kalshi_credentials(feed: Feed, env: Environment, environ: Mapping[str, str]) -> KalshiCredentials | None:
    """Fetch Kalshi's key, afresh at every call.

    The environment's only key is taken, or the one named as the feed; without a ``keys`` section the two variables
    ``KALSHI_API_KEY`` and ``KALSHI_PRIVATE_KEY``.

    Returns:
        The key, or ``None`` where the environment says ``required: false`` and it is not there.

    Raises:
        CredentialError: A part is missing, or the id is none.
        ConfigError: Several keys and none named as the feed, or a key without the two parts.
    """
    if env.keys is None:
        try:
            return _credentials((_API_KEY, _PRIVATE_KEY), _DEFAULT_KEY_SOURCE, environ)
        except CredentialError as error:
            raise error.within(env.file, "keys") from None
    name, spec = _kalshi_key(feed, env)
    if not {_API_KEY, _PRIVATE_KEY} <= set(spec.fields):
        raise ConfigError(
            f"needs the fields {_API_KEY} and {_PRIVATE_KEY}, has {', '.join(spec.fields)}",
            file=env.file,
            field=f"keys.{name}.fields",
            remedy=f"name them so, in the order of {spec.source}",
        )
    try:
        return _credentials(spec.fields, spec.source, environ)
    except CredentialError as error:
        if spec.required:
            raise error.within(env.file, f"keys.{name}.source") from None
        return None


def _kalshi_key(feed: Feed, env: Environment) -> tuple[str, KeySpec]:
    keys = env.keys or {}
    if feed.name in keys:
        return feed.name, keys[feed.name]
    if len(keys) == 1:
        return next(iter(keys.items()))
    raise ConfigError(
        f"holds {', '.join(keys) or 'no key'}; none is named {feed.name}",
        file=env.file,
        field="keys",
        remedy=f"name Kalshi's key {feed.name}",
    )


def _credentials(fields: Iterable[str], source: str, environ: Mapping[str, str]) -> KalshiCredentials:
    parts = fetch_fields(tuple(fields), source, environ)
    if not _KEY_ID.fullmatch(parts[_API_KEY].get_secret_value()):
        # A header cannot hold it, and whoever says so would repeat it.
        raise CredentialError(
            f"{source}: {_API_KEY} is no id of a key", remedy="give the id alone: one line, no spaces, no PEM text"
        )
    return KalshiCredentials(parts[_API_KEY], parts[_PRIVATE_KEY], where=source)

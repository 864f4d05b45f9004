"""From the two files to what the connector does: the edge where configuration becomes behaviour."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ulid import ULID

from ssmd_common.config.addresses import endpoint, rest_endpoint, version_in_force
from ssmd_common.config.credentials import rsa_private_key
from ssmd_common.config.kalshi_key import kalshi_credentials
from ssmd_common.config.support import require_supported, websocket_settings
from ssmd_common.errors import CredentialError
from ssmd_common.frames import instance_name
from ssmd_common.nats.streams import StreamLimits
from ssmd_common.service.redact import redact_text
from ssmd_connector.auth import signed_headers
from ssmd_connector.markets import Selection
from ssmd_connector.venues.generic import GenericVenue
from ssmd_connector.venues.generic_dialogue import GenericDialogue, GenericWishes
from ssmd_connector.venues.kalshi import BOOK_CHANNEL, UNFILTERED_CHANNELS, KalshiVenue
from ssmd_connector.venues.kalshi_dialogue import KalshiDialogue, KalshiWishes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from ssmd_common.config.environment import Environment
    from ssmd_common.config.feed import Feed
    from ssmd_common.config.kalshi import Discover
    from ssmd_common.config.websocket import WebsocketSettings
    from ssmd_connector.session import Dialogue
    from ssmd_connector.venues.generic_refusals import Refusals
    from ssmd_connector.venues.venue import Venue

__all__ = ["INSTANCE_VARIABLE", "Plan", "new_session", "stream_limits", "today", "venue_of"]

INSTANCE_VARIABLE = "SSMD_INSTANCE"
_DRAIN_S = 10.0
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to capture and how.

    Attributes:
        feed: The feed's file.
        env: The environment's file.
        environ: The environment variables.
        settings: How to speak with the exchange here.
        venue: Routes its frames.
        drain_s: How long a stop waits for acknowledgements.
    """

    feed: Feed
    env: Environment
    environ: Mapping[str, str]
    settings: WebsocketSettings
    venue: Venue
    drain_s: float = _DRAIN_S

    @classmethod
    def of(cls, feed: Feed, env: Environment, environ: Mapping[str, str] = os.environ) -> Plan:
        """Make the plan, refusing what no connector does.

        Raises:
            ConfigError: Something is not supported or cannot be meant.
        """
        require_supported(feed, env, today())
        settings = websocket_settings(feed, env)
        return cls(feed, env, environ, settings, venue_of(settings))

    @property
    def sequence_starts_at(self) -> int | None:
        """First number of every exchange sequence, where the exchange promises one."""
        return 1 if self.settings.venue == "kalshi" else None

    @property
    def is_kalshi(self) -> bool:
        """Whether the exchange speaks Kalshi's protocol."""
        return self.settings.venue == "kalshi"

    @property
    def sockets(self) -> int:
        """How many connections are kept open at once."""
        return self.settings.kalshi_settings.sockets

    @property
    def discovery(self) -> Discover | None:
        """Which markets to look for over REST; None for none."""
        return self.settings.kalshi_settings.discovery if self.is_kalshi else None

    @property
    def selection(self) -> Selection:
        """Which markets are wanted."""
        discover = self.discovery
        if discover is None:
            return Selection(frozenset(self.settings.kalshi_settings.markets))
        return Selection(
            series=frozenset(discover.series),
            events=frozenset(discover.events),
            multivariate=discover.multivariate,
        )

    @property
    def rate_limit_per_s(self) -> int | None:
        """Most requests a second over REST, and commands a second on each socket; None for no limit."""
        return version_in_force(self.feed, today()).rate_limit_per_second

    def dialogue(self, lane: int, tickers: tuple[str, ...], refusals: Refusals) -> Dialogue:
        """Return the conversation of a new connection.

        Args:
            lane: Which of the sockets, from 1; the first subscribes to what needs no tickers.
            tickers: The markets this socket has to bring now.
            refusals: What the exchange refused on this socket's forerunners (generic).
        """
        settings = self.settings
        if not self.is_kalshi:
            return GenericDialogue(GenericWishes.of(settings), refusals)
        kalshi = settings.kalshi_settings
        whole = [name for name in kalshi.channels if self._is_whole(name)]
        return KalshiDialogue(
            KalshiWishes(
                tuple(whole) if lane == 1 else (),
                tuple(name for name in kalshi.channels if name not in whole),
                tickers,
                batch_size=settings.subscribe_batch_size,
                use_yes_price=kalshi.use_yes_price,
                commands_per_s=self.rate_limit_per_s,
            )
        )

    def _is_whole(self, channel: str) -> bool:
        """Tell whether a channel is subscribed to for all markets."""
        kalshi = self.settings.kalshi_settings
        if channel in UNFILTERED_CHANNELS:
            return True
        if channel == BOOK_CHANNEL or kalshi.markets:
            return False
        return kalshi.discovery is None or kalshi.discovery.covers_everything

    def rest_url(self) -> str:
        """Return where markets are looked for.

        Raises:
            ConfigError: It is no address.
        """
        return rest_endpoint(self.feed, self.env, self.environ)

    def url(self) -> str:
        """Return the address to connect to, without credentials in it.

        Raises:
            ConfigError: No version of the feed is in force.
        """
        return redact_text(endpoint(self.feed, self.env, today(), self.environ))

    def handshake(self) -> tuple[str, dict[str, str], str]:
        """Return address, headers and the place of the credentials for the next connection.

        Keys are fetched and the handshake signed afresh, so that a key replaced in its file is used at once.

        Raises:
            ConfigError: No version of the feed is in force any more, or a key is missing or malformed.
        """
        url = endpoint(self.feed, self.env, today(), self.environ)
        if version_in_force(self.feed, today()).auth_method != "api_key":
            return url, {}, ""
        credentials = kalshi_credentials(self.feed, self.env, self.environ)
        if credentials is None:
            return url, {}, ""
        return url, signed_headers(credentials, url, now_ms=time.time_ns() // _NS_PER_MS), credentials.where

    def check_keys(self) -> str:
        """Fetch and read the keys without using them; return where they lie, empty for a feed without.

        Raises:
            CredentialError: One is missing or malformed.
        """
        if version_in_force(self.feed, today()).auth_method != "api_key":
            return ""
        credentials = kalshi_credentials(self.feed, self.env, self.environ)
        if credentials is None:
            return ""
        try:
            rsa_private_key(credentials.private_key, where=credentials.where)
        except CredentialError as error:
            problem = f"{credentials.where}: {error.problem}"
            raise CredentialError(problem, file=self.env.file, field="keys", remedy=error.remedy) from None
        return credentials.where

    @property
    def instance(self) -> str:
        """Name of this connector among those of the feed: variable, file, or host.

        Raises:
            WireError: None of them holds a letter or digit.
        """
        return instance_name(self.environ.get(INSTANCE_VARIABLE) or self.env.instance or socket.gethostname())


def stream_limits(env: Environment) -> StreamLimits | None:
    """Return what a missing stream is created with; None where the environment leaves that to an administrator."""
    create = env.transport.create_stream
    if create is None:
        return None
    return StreamLimits(
        max_age_s=create.max_age.seconds,
        max_bytes=create.max_bytes or 0,
        duplicate_window_s=create.duplicate_window.seconds,
        replicas=create.replicas,
    )


def venue_of(settings: WebsocketSettings) -> Venue:
    """Return what routes the frames of a feed with these settings."""
    return KalshiVenue() if settings.venue == "kalshi" else GenericVenue(settings)


def new_session(instance: str) -> str:
    """Return a name for one life of the connector, never used before."""
    return f"{instance}-{ULID()}"


def today() -> date:
    """Return the day in UTC, which decides the feed's version in force."""
    return datetime.now(UTC).date()

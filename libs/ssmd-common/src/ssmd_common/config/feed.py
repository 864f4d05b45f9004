"""A feed: one exchange's data, as described by ``exchanges/feeds/*.yaml``. What is true wherever it is captured."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ssmd_common.config.calendar import Calendar
from ssmd_common.config.model import ConfigModel, IsoDate, Name, Text, invalid
from ssmd_common.config.websocket import WebsocketSettings
from ssmd_common.errors import ConfigError

__all__ = ["CaptureLocation", "Feed", "FeedVersion", "MessageType", "Protocol"]


class Protocol(ConfigModel):
    """How the exchange speaks.

    Attributes:
        transport: ``wss`` or ``ws`` for WebSockets; others belong to feed types that are not captured yet.
        message: The messages' format.
        version: The protocol's own version.
    """

    transport: Literal["wss", "ws", "https", "multicast", "tcp"]
    message: Literal["json", "itch", "fix", "sbe", "protobuf"]
    version: Text | None = None


class FeedVersion(ConfigModel):
    """The exchange's interface from one day to another.

    Attributes:
        version: Its name.
        effective_from: First day it is in force.
        effective_to: Last day, included; open where there is none.
        protocol: How it speaks.
        endpoint: Where to connect.
        auth_method: What the handshake needs.
        rate_limit_per_second: Requests the exchange allows a second.
    """

    version: Text
    effective_from: IsoDate
    effective_to: IsoDate | None = None
    protocol: Protocol
    endpoint: Text
    auth_method: Literal["api_key", "oauth", "mtls", "none"] = "none"
    rate_limit_per_second: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.effective_to is not None and self.effective_to < self.effective_from:
            raise invalid("effective_to lies before effective_from", remedy="correct one of them")
        return self


class MessageType(ConfigModel):
    """What readers of the archive may know of a message type."""

    identifier_field: Text | None = None
    timestamp_field: Text | None = None
    timestamp_format: Text | None = None
    sequenced: bool | None = None
    fanout: bool | None = None


class CaptureLocation(ConfigModel):
    """A place where the feed is captured. A bare name may stand for its site.

    Attributes:
        site: The place's name.
        datacenter: The same, in another spelling.
        type: ``cloud``, ``colo`` or whatever it is.
        provider: Who runs it.
        region: The provider's region.
        clock: What its clocks follow.
    """

    site: Text | None = None
    datacenter: Text | None = None
    type: Text | None = None
    provider: Text | None = None
    region: Text | None = None
    clock: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_bare_name(cls, value: Any) -> Any:
        return {"site": value} if isinstance(value, str) else value


class Feed(ConfigModel):
    """A feed file.

    Attributes:
        name: The feed's name: token of its subjects, folder of its archive.
        display_name: The name for people.
        type: How its data comes.
        status: ``disabled`` feeds are not captured, ``deprecated`` ones with a warning.
        capture_locations: Where it is captured.
        versions: Its interfaces over time.
        calendar: When the exchange is open.
        message_types: What readers of the archive may know of its messages.
        websocket: How to speak with the exchange.
        defaults: Settings for operators of other systems; accepted and left alone.
    """

    name: Name
    display_name: Text | None = None
    type: Literal["websocket", "rest", "multicast"]
    status: Literal["active", "deprecated", "disabled"] = "active"
    capture_locations: tuple[CaptureLocation, ...] = ()
    versions: tuple[FeedVersion, ...] = Field(min_length=1)
    calendar: Calendar | None = None
    message_types: dict[Text, MessageType] = Field(default_factory=dict)
    websocket: WebsocketSettings | None = None
    defaults: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _versions_differ(self) -> Self:
        starts = [version.effective_from for version in self.versions]
        twice = sorted({str(start) for start in starts if starts.count(start) > 1})
        if twice:
            raise invalid(f"two versions take effect on {twice[0]}", remedy="give each its own effective_from")
        return self

    def version_on(self, day: date) -> FeedVersion | None:
        """Return the version in force on ``day``: the last to take effect by then and not over yet."""
        in_force = [
            version
            for version in self.versions
            if version.effective_from <= day and (version.effective_to is None or day <= version.effective_to)
        ]
        return max(in_force, key=lambda version: version.effective_from, default=None)

    def websocket_settings(self) -> WebsocketSettings:
        """Return the ``websocket`` section.

        A file without one was written for the system whose files ours extend, where a feed named ``kalshi`` speaks
        Kalshi's protocol.

        Raises:
            ConfigError: There is none, and nothing says how to read the frames.
        """
        if self.websocket is not None:
            return self.websocket
        if self.name == "kalshi":
            return WebsocketSettings(venue="kalshi")
        raise ConfigError(
            "missing",
            file=self.file,
            field="websocket",
            remedy="say how to subscribe and where a frame names its type, as exchanges/feeds/kraken.yaml does",
        )

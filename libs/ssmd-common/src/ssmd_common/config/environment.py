"""An environment: where and with what keys a feed is captured (``exchanges/environments/*.yaml``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, field_validator, model_validator

from ssmd_common.config.credentials import parse_source
from ssmd_common.config.kalshi import Discover, SymbolsOrAll
from ssmd_common.config.model import (
    ByteCount,
    ConfigModel,
    Duration,
    Name,
    PathName,
    Seconds,
    Text,
    checked,
    invalid,
    parse_interval,
)
from ssmd_common.config.nats import NatsSettings, StreamName
from ssmd_common.errors import WireError
from ssmd_common.subjects import SubjectBuilder

__all__ = ["Capture", "CreateStream", "Environment", "KeySpec", "Limits", "Schedule", "Storage", "Transport"]


class Schedule(ConfigModel):
    """When a trading day begins and ends.

    Attributes:
        timezone: IANA name of the zone the times are in.
        day_start: ``HH:MM``.
        day_end: ``HH:MM``.
        auto_roll: Whether the day rolls over by itself.
    """

    timezone: Text | None = None
    day_start: Text | None = None
    day_end: Text | None = None
    auto_roll: bool | None = None


def _source(text: str) -> str:
    parse_source(text)
    return text


class KeySpec(ConfigModel):
    """A key the capture needs, and where it lies.

    Attributes:
        type: What it is.
        description: For people.
        required: Whether the connector may start without it.
        fields: Its parts, such as ``api_key`` and ``private_key``.
        source: Where the parts lie, in the order of ``fields``: ``env:VAR_A,VAR_B`` or ``file:PATH_A,PATH_B``.
    """

    type: Literal["api_key"] = "api_key"
    description: Text | None = None
    required: bool = True
    fields: tuple[Text, ...] = Field(min_length=1)
    source: Annotated[str, AfterValidator(checked(_source))]

    @model_validator(mode="after")
    def _a_place_for_each_field(self) -> Self:
        places = len(parse_source(self.source).places)
        if places != len(self.fields):
            raise invalid(
                f"names {places} {'place' if places == 1 else 'places'} in source for {', '.join(self.fields)}",
                remedy="name one variable or file for each field, separated by commas",
            )
        return self


class CreateStream(ConfigModel):
    """What a missing stream is created with. An existing one is checked, never altered.

    A full stream refuses new messages, so ``max_bytes`` must hold what arrives in ``max_age``.

    Attributes:
        max_age: Oldest message kept: at least three times the longest outage of the archiver.
        max_bytes: Largest size on disk; the server's limit where there is none.
        replicas: Copies in a cluster.
        duplicate_window: How long the server remembers message ids: longer than the longest retry.
    """

    max_age: Duration = parse_interval("3d")
    max_bytes: ByteCount | None = None
    replicas: int = Field(default=1, ge=1, le=5)
    duplicate_window: Duration = parse_interval("2m")

    @model_validator(mode="after")
    def _window_within_age(self) -> Self:
        if self.duplicate_window.seconds > self.max_age.seconds:
            raise invalid("duplicate_window is longer than max_age", remedy="make it shorter")
        return self


class Transport(NatsSettings):
    """Where the frames go.

    Attributes:
        type: ``nats``; the others are read and refused when the connector starts. ``transport_type`` is its older
            name.
        stream: The JetStream stream.
        subject_prefix: Replaces ``{env}.{feed}`` in front of the subjects.
        create_stream: What to create a missing stream with; ``true`` for the defaults, ``false`` to leave it to an
            administrator.
    """

    type: Literal["nats", "memory", "mqtt"] = Field(validation_alias=AliasChoices("type", "transport_type"))
    stream: StreamName = "MARKETDATA"
    subject_prefix: Text | None = None
    create_stream: CreateStream | None = CreateStream()

    @model_validator(mode="before")
    @classmethod
    def _one_spelling_of_type(cls, value: Any) -> Any:
        if isinstance(value, dict) and {"type", "transport_type"} <= value.keys():
            raise invalid("type and transport_type are the same field", remedy="keep one")
        return value

    @field_validator("create_stream", mode="before")
    @classmethod
    def _flag(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return CreateStream() if value else None
        return value


class Capture(ConfigModel):
    """What of the feed to capture here, where that differs from what the feed's file says.

    Attributes:
        symbols: Symbols (Kalshi's tickers) to subscribe to; ``all`` for every market of Kalshi.
        discover: Which markets to look for over REST instead (Kalshi).
        channels: Channels to subscribe to (Kalshi).
        sockets: Connections that share the markets (Kalshi).
    """

    symbols: SymbolsOrAll | None = None
    discover: Discover | None = None
    channels: tuple[Text, ...] | None = Field(default=None, min_length=1)
    sockets: int | None = Field(default=None, ge=1, le=64)

    @model_validator(mode="after")
    def _listed_or_discovered(self) -> Self:
        if self.symbols and self.discover is not None:
            raise invalid("symbols are listed and discovered", remedy="remove the list, or discover")
        return self


class Storage(ConfigModel):
    """Where files would go; the connector writes none."""

    type: Literal["local", "s3"]
    path: Text | None = None


class Limits(ConfigModel):
    """What the connector holds while NATS is slow or away. When all of it is full, reading stops: a recorded gap.

    Attributes:
        ack_window: Messages sent and not yet acknowledged.
        ack_timeout_s: How long to wait for an acknowledgement before the message is sent again.
        memory_bytes: Frames waiting in memory.
        spool_dir: Folder for frames that do not fit the memory; without one there is no spool.
        spool_bytes: Largest size of the spool.
    """

    ack_window: int = Field(default=4000, ge=1, le=100_000)
    ack_timeout_s: Seconds = 5
    memory_bytes: ByteCount = 64 << 20
    spool_dir: PathName | None = None
    spool_bytes: ByteCount = 1 << 30


class Environment(ConfigModel):
    """An environment file.

    Attributes:
        name: Its name.
        feed: The feed it captures.
        env: First token of the subjects.
        schema_name: The schema of the data in other systems, such as ``trade:v1``; ``schema`` in the file.
        schedule: When a trading day begins and ends.
        keys: Keys by name. Where the section is absent, ``KALSHI_API_KEY`` and ``KALSHI_PRIVATE_KEY`` apply.
        transport: Where the frames go.
        storage: Where files would go.
        endpoint: Connect here instead of the feed's endpoint, as to a simulator.
        rest_endpoint: Look for markets here (Kalshi); beside ``endpoint`` where that is given and this is not.
        capture: What of the feed to capture.
        instance: Name of this connector among those of the feed; the host's name where there is none.
        limits: What is held while NATS is slow or away.
    """

    name: Name
    feed: Name
    env: Name = "dev"
    schema_name: Text | None = Field(default=None, validation_alias="schema")
    schedule: Schedule | None = None
    keys: dict[Text, KeySpec] | None = None
    transport: Transport
    storage: Storage | None = None
    endpoint: Text | None = None
    rest_endpoint: Text | None = None
    capture: Capture = Capture()
    instance: Name | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _prefix_is_literal(self) -> Self:
        try:
            self.subjects()
        except WireError as error:
            raise invalid(f"transport.subject_prefix: {error.problem}", remedy=error.remedy) from None
        return self

    def subjects(self) -> SubjectBuilder:
        """Return the builder of this environment's subjects."""
        return SubjectBuilder(self.env, self.feed, prefix=self.transport.subject_prefix)

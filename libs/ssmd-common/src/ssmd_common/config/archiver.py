"""The archiver's configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, StrictInt, model_validator

from ssmd_common.config.model import (
    ByteCount,
    ConfigModel,
    Duration,
    Name,
    RotationInterval,
    Text,
    checked,
    invalid,
    parse_interval,
    parse_name,
)
from ssmd_common.config.nats import ConsumerName, NatsSettings, StreamName
from ssmd_common.errors import ConfigError, SsmdError
from ssmd_common.service.address import parse_addr
from ssmd_common.subjects import SubjectBuilder, parse_filter

__all__ = ["ArchiveSubjects", "ArchiverConfig", "ArchiverNats", "ArchiverStorage", "Compression", "Rotation"]


class ArchiverNats(NatsSettings):
    """Where the messages come from.

    Attributes:
        stream: The JetStream stream.
        consumer: Name of the durable consumer, this archiver's alone.
        filter: Data subjects to archive: ``{env}.{feed}.json.>``, or narrower after ``json``.
    """

    stream: StreamName = "MARKETDATA"
    consumer: ConsumerName
    filter: Text


_LEVELS = {"igzip": (0, 3), "zlib": (1, 9)}
_DEFAULT_LEVEL = {"igzip": 2, "zlib": 6}


class Compression(ConfigModel):
    """How files are compressed. All are gzip; the codec is what writes them.

    Attributes:
        codec: ``igzip``, several times faster, or ``zlib``, smaller files.
        level: Higher is smaller and slower: 0 to 3 for igzip, 1 to 9 for zlib; 2 and 6 where none is given.
    """

    codec: Literal["igzip", "zlib"] = "igzip"
    level: StrictInt | None = None

    @model_validator(mode="after")
    def _level_is_one_of_the_codecs(self) -> Self:
        lowest, highest = _LEVELS[self.codec]
        if self.level is not None and not lowest <= self.level <= highest:
            raise invalid(
                f"level {self.level} is none of {self.codec}'s",
                remedy=f"use {lowest} to {highest}, or leave it out for {_DEFAULT_LEVEL[self.codec]}",
            )
        return self

    @property
    def effective_level(self) -> int:
        """The level used, where none is given the codec's own."""
        return _DEFAULT_LEVEL[self.codec] if self.level is None else self.level


class ArchiverStorage(ConfigModel):
    """Where the archive lies.

    Attributes:
        path: Its base folder; feeds and days are folders below it.
        compression: How its files are compressed.
    """

    path: Path
    compression: Compression = Compression()


class Rotation(ConfigModel):
    """When a segment ends.

    Attributes:
        interval: Length of a segment's window; windows count from 00:00 UTC.
        max_bytes: Raw bytes after which a segment ends early.
        seal_on_exit: Whether an orderly stop seals the open segment; otherwise the next start resumes it.
        grace: How long after its window's end, by the server's clock, an idle segment is sealed.
    """

    interval: RotationInterval = parse_interval("15m")
    max_bytes: ByteCount | None = None
    seal_on_exit: bool = True
    grace: Duration = parse_interval("5s")


@dataclass(frozen=True, slots=True)
class ArchiveSubjects:
    """Whose messages an archiver takes.

    Attributes:
        env: The environment.
        feed: The feed, which names the archive's folder.
        prefix: What stands before ``json`` and ``capture`` in the subjects.
    """

    env: str
    feed: str
    prefix: str


def _address(text: str) -> str:
    parse_addr(text, option="")
    return text


class ArchiverConfig(ConfigModel):
    """An archiver file.

    Attributes:
        nats: Where the messages come from.
        storage: Where the archive lies.
        rotation: When a segment ends.
        feed: The feed, where the filter's second token is not its name.
        env: The environment, where the filter's first token is not its name.
        flush_interval: How long a block may stay open before it is written durably.
        health_addr: ``HOST:PORT`` of the health and metrics server; none without it.
    """

    nats: ArchiverNats
    storage: ArchiverStorage
    rotation: Rotation = Rotation()
    feed: Name | None = None
    env: Name | None = None
    flush_interval: Duration = parse_interval("5s")
    health_addr: Annotated[str, AfterValidator(checked(_address))] | None = None

    @model_validator(mode="after")
    def _filter_names_one_feed(self) -> Self:
        try:
            self.subjects()
        except SsmdError as error:
            raise invalid(f"nats.filter: {error.problem}", remedy=error.remedy) from None
        return self

    def subjects(self) -> ArchiveSubjects:
        """Return whose messages to take: as configured, else by the filter's literal tokens.

        Raises:
            ConfigError: The filter has no ``json`` token after a literal prefix, or its first tokens are no names.
            WireError: The filter's first tokens do not name environment and feed, and neither does the file.
        """
        tokens = self.nats.filter.split(".")
        at = tokens.index("json", 1) if "json" in tokens[1:] else 0
        if not at or at == len(tokens) - 1:
            raise ConfigError(
                f"{self.nats.filter!r} takes no data subjects", remedy="write it as {env}.{feed}.json.>"
            )
        if self.env is None or self.feed is None:
            env, feed = parse_filter(self.nats.filter)
        env, feed = parse_name(self.env or env), parse_name(self.feed or feed)
        prefix = SubjectBuilder(env, feed, prefix=".".join(tokens[:at])).prefix
        return ArchiveSubjects(env, feed, prefix)

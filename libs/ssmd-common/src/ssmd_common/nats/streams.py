"""JetStream's streams by its raw JSON API: look at one, create a missing one, read a message back by sequence.

The raw API because it tells more than the client's wrappers (``created``, the server's own ``ts``) and answers
errors as they are. A stream that exists is checked and never altered.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import nats.errors
import structlog

from ssmd_common.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nats.aio.client import Client

    from ssmd_common.nats.connection import Waitable

__all__ = [
    "ApiError",
    "StoredMessage",
    "StreamInfo",
    "StreamLimits",
    "api_request",
    "direct_get",
    "ensure_stream",
    "parse_time_ns",
    "stream_definition",
    "stream_info",
    "wait_for_stream",
]

log = structlog.get_logger()

STREAM_NOT_FOUND = 10059
REQUEST_TIMEOUT_S = 5.0
RETRY_S = 2.0
_NS_PER_S = 1_000_000_000
_NO_MESSAGE_FOUND = 10037
_UNFIT = 400
"""Code of a stream that is there and is not what is needed, where waiting is in vain."""


class ApiError(TransportError):
    """JetStream answered a request with an error.

    Attributes:
        code: HTTP-like status, such as 404 or 503.
        err_code: JetStream's own number, such as 10059; 0 where it gave none.
    """

    def __init__(self, problem: str, *, code: int, err_code: int = 0, where: str = "", remedy: str = "") -> None:
        super().__init__(problem, where=where, remedy=remedy)
        self.code = code
        self.err_code = err_code


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a stream is created with; 0 means unlimited, as JetStream has it except for ages in nanoseconds.

    Attributes:
        max_age_s: Oldest message kept.
        max_bytes: Largest size on disk; a full stream refuses new messages (``discard: new``).
        max_msg_size: Largest message, header included.
        duplicate_window_s: How long a message id is remembered.
        replicas: Copies in a cluster.
    """

    max_age_s: float = 0
    max_bytes: int = 0
    max_msg_size: int = 0
    duplicate_window_s: float = 120
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as the server describes it.

    Attributes:
        name: Its name.
        subjects: What it listens to.
        created: When it was made, in the server's own spelling: an identity together with the name.
        server_ns: The server's clock at the answer (0 from a server that does not tell).
        first_seq: Lowest sequence still held.
        last_seq: Highest sequence ever given; 0 in a stream that never held a message.
        last_ns: When the last message was stored; 0 where none was.
        messages: Messages held.
        bytes: Their size on disk.
        deleted: Sequences deleted in between, where asked for with ``deleted_details``.
        lost: What the server says it lost to corruption, or an empty mapping.
        config: The whole configuration.
    """

    name: str
    subjects: tuple[str, ...]
    created: str
    server_ns: int
    first_seq: int
    last_seq: int
    last_ns: int
    messages: int
    bytes: int
    deleted: tuple[int, ...] = ()
    lost: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def max_msg_size(self) -> int:
        """Largest message the stream takes, in bytes; -1 without a limit."""
        return int(self.config.get("max_msg_size", -1))

    @property
    def duplicate_window_s(self) -> float:
        """How long the stream remembers a message id."""
        return int(self.config.get("duplicate_window", 0)) / _NS_PER_S


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as the stream holds it."""

    seq: int
    subject: str
    stored_ns: int
    headers: Mapping[str, str]
    data: bytes


def parse_time_ns(text: str) -> int:
    """Return a server's RFC 3339 time as nanoseconds since the epoch; 0 for its zero time.

    Raises:
        ValueError: It is none.
    """
    if text.startswith("0001-"):
        return 0
    whole, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if rest else ""
    moment = datetime.fromisoformat(whole + zone)
    return int(moment.timestamp()) * _NS_PER_S + int(digits[:9].ljust(9, "0") if digits else 0)


async def api_request(
    nc: Client, request: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = REQUEST_TIMEOUT_S
) -> dict[str, Any]:
    """Ask JetStream's API, ``request`` being the subject after ``$JS.API.``, and return its answer.

    Raises:
        ApiError: It answered with an error, or JetStream is not there (code 503).
        TransportError: It did not answer in time, or the connection is closed.
    """
    subject = f"$JS.API.{request}"
    payload = json.dumps(body).encode() if body is not None else b""
    try:
        message = await nc.request(subject, payload, timeout=timeout_s)
    except nats.errors.NoRespondersError:
        raise ApiError(
            "JetStream does not answer here",
            code=503,
            where=subject,
            remedy="enable JetStream on the server and for this account",
        ) from None
    except nats.errors.TimeoutError:
        violation = getattr(nc, "violation", "")
        raise TransportError(
            f"no answer in {timeout_s:g} s",
            where=subject,
            remedy=violation or "check the connection and the permissions of this user",
        ) from None
    except nats.errors.Error as error:
        raise TransportError(f"NATS connection failed: {error}", where=subject) from None
    answer: dict[str, Any] = json.loads(message.data)
    refusal = answer.get("error")
    if refusal:
        raise ApiError(
            str(refusal.get("description", "refused")),
            code=int(refusal.get("code", 0)),
            err_code=int(refusal.get("err_code", 0)),
            where=subject,
        )
    return answer


async def stream_info(
    nc: Client, stream: str, *, deleted_details: bool = False, timeout_s: float = REQUEST_TIMEOUT_S
) -> StreamInfo:
    """Return what the server says about ``stream``.

    Raises:
        ApiError: There is no such stream (``err_code`` 10059), or no JetStream.
        TransportError: The server did not answer.
    """
    body = {"deleted_details": True} if deleted_details else None
    try:
        return _info(await api_request(nc, f"STREAM.INFO.{stream}", body, timeout_s=timeout_s))
    except ApiError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        raise ApiError(
            f"there is no stream {stream!r}",
            code=error.code,
            err_code=error.err_code,
            remedy="start its connector, or make it by hand: ssmd-connector create-stream",
        ) from None


def _info(answer: Mapping[str, Any]) -> StreamInfo:
    config, state = answer["config"], answer["state"]
    return StreamInfo(
        name=config["name"],
        subjects=tuple(config.get("subjects") or ()),
        created=answer["created"],
        server_ns=parse_time_ns(answer["ts"]) if "ts" in answer else 0,
        first_seq=state["first_seq"],
        last_seq=state["last_seq"],
        last_ns=parse_time_ns(state["last_ts"]),
        messages=state["messages"],
        bytes=state["bytes"],
        deleted=tuple(state.get("deleted") or ()),
        lost=state.get("lost") or {},
        config=config,
    )


async def ensure_stream(
    nc: Client, stream: str, subjects: Sequence[str], *, create: bool, limits: StreamLimits | None = None
) -> StreamInfo:
    """Return ``stream``, created if it is missing and ``create`` says so; an existing one is only checked.

    Raises:
        TransportError: It is missing and may not be created, or does not take ``subjects``, or the server refused.
    """
    try:
        info = await stream_info(nc, stream)
    except ApiError as error:
        if error.err_code != STREAM_NOT_FOUND or not create:
            raise
        info = await _create(nc, stream, subjects, limits or StreamLimits())
    missing = [subject for subject in subjects if not any(_covers(known, subject) for known in info.subjects)]
    if missing:
        taken = ", ".join(info.subjects) or "nothing"
        raise ApiError(
            f"stream {stream!r} does not take {' and '.join(missing)}; it takes {taken}",
            code=_UNFIT,
            remedy="add the subjects to the stream, or set transport.stream or transport.subject_prefix",
        )
    return info


def stream_definition(stream: str, subjects: Sequence[str], limits: StreamLimits) -> dict[str, Any]:
    """Return the configuration of a stream as JetStream's API and its command line take it."""
    return {
        "name": stream,
        "subjects": list(subjects),
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_age": int(limits.max_age_s * _NS_PER_S),
        "max_bytes": limits.max_bytes or -1,
        "max_msg_size": limits.max_msg_size or -1,
        "max_msgs": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": -1,
        "duplicate_window": int(limits.duplicate_window_s * _NS_PER_S),
        "num_replicas": limits.replicas,
        "allow_direct": True,
        "deny_delete": True,
        "deny_purge": True,
    }


async def _create(nc: Client, stream: str, subjects: Sequence[str], limits: StreamLimits) -> StreamInfo:
    try:
        info = _info(await api_request(nc, f"STREAM.CREATE.{stream}", stream_definition(stream, subjects, limits)))
    except ApiError as error:
        raise ApiError(
            f"cannot create stream {stream!r}: {error.problem}",
            code=error.code,
            err_code=error.err_code,
            remedy="have an administrator create it, or change transport.create_stream",
        ) from None
    log.info("stream_created", stream=stream, subjects=list(subjects))
    return info


def _covers(taken: str, subject: str) -> bool:
    """Tell whether every subject matching ``subject`` also matches ``taken`` (both may hold wildcards)."""
    ours, theirs = subject.split("."), taken.split(".")
    for index, part in enumerate(theirs):
        if part == ">":
            return len(ours) > index
        if index >= len(ours) or ours[index] == ">" or part not in ("*", ours[index]):
            return False
    return len(ours) == len(theirs)


async def wait_for_stream(nc: Client, stream: str, *, stop: Waitable | None = None) -> StreamInfo:
    """Return ``stream`` once it exists, saying every few seconds that it does not yet.

    Once ``stop`` is set it is looked for a last time: whoever is asked to stop still takes what has come.

    Raises:
        TransportError: ``stop`` was set and there is none, or JetStream refused for another reason than a missing
            stream or a server that is still starting.
    """
    said, stopping = "", False
    while True:
        try:
            return await stream_info(nc, stream)
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND and error.code != 503:  # noqa: PLR2004 - unavailable
                raise
            text = str(error)
        except TransportError as error:
            if nc.is_closed:
                raise
            text = str(error)
        if text != said:
            log.warning("stream_awaited", stream=stream, reason=text, retrying=True)
            said = text
        if stop is None:
            await asyncio.sleep(RETRY_S)
            continue
        if stopping:
            raise TransportError("stopped while waiting for the stream", where=stream)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await stop.wait()
                stopping = True


async def direct_get(
    nc: Client,
    stream: str,
    *,
    seq: int | None = None,
    next_by_subject: str | None = None,
    last_by_subject: str | None = None,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> StoredMessage | None:
    """Read one stored message; None where the stream holds no such message.

    Args:
        nc: The connection.
        stream: Name of the stream.
        seq: Sequence of the message, or with ``next_by_subject`` the first sequence to look at.
        next_by_subject: Take the first message from ``seq`` on whose subject matches this filter.
        last_by_subject: Take the newest message of this subject.
        timeout_s: How long to wait for the answer.

    Raises:
        TransportError: The server did not answer or refused.
    """
    query: dict[str, Any] = {}
    if seq is not None:
        query["seq"] = seq
    if next_by_subject is not None:
        query["next_by_subj"] = next_by_subject
    if last_by_subject is not None:
        query["last_by_subj"] = last_by_subject
    subject = f"$JS.API.DIRECT.GET.{stream}"
    try:
        message = await nc.request(subject, json.dumps(query).encode(), timeout=timeout_s)
    except nats.errors.NoRespondersError:
        return await _stored_get(nc, stream, query, timeout_s)
    except nats.errors.TimeoutError:
        raise TransportError(
            f"no answer in {timeout_s:g} s",
            where=subject,
            remedy=getattr(nc, "violation", "") or "check the connection and the permissions of this user",
        ) from None
    except nats.errors.Error as error:
        raise TransportError(f"NATS connection failed: {error}", where=subject) from None
    headers = dict(message.headers or {})
    status = headers.get("Status")
    if status == "404":
        return None
    if status is not None:
        raise ApiError(headers.get("Description", "refused"), code=int(status), where=subject)
    return StoredMessage(
        seq=int(headers.pop("Nats-Sequence")),
        subject=headers.pop("Nats-Subject"),
        stored_ns=parse_time_ns(headers.pop("Nats-Time-Stamp")),
        headers={name: value for name, value in headers.items() if name not in _DIRECT_HEADERS},
        data=message.data,
    )


_DIRECT_HEADERS = frozenset({"Nats-Stream", "Nats-Num-Pending", "Nats-Last-Sequence"})


async def _stored_get(nc: Client, stream: str, query: dict[str, Any], timeout_s: float) -> StoredMessage | None:
    """Read a message of a stream that does not allow direct reads, by the slower way."""
    try:
        answer = await api_request(nc, f"STREAM.MSG.GET.{stream}", query, timeout_s=timeout_s)
    except ApiError as error:
        if error.err_code == _NO_MESSAGE_FOUND:
            return None
        raise
    message = answer["message"]
    return StoredMessage(
        seq=message["seq"],
        subject=message["subject"],
        stored_ns=parse_time_ns(message["time"]),
        headers=_headers(base64.b64decode(message.get("hdrs", ""))),
        data=base64.b64decode(message.get("data", "")),
    )


def _headers(block: bytes) -> dict[str, str]:
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}

"""What went wrong in plain words: what happened, what is missing, what can be done; pure.

One table a cause, one a status; a cause this version does not know is explained by its layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssmd_common.archive.manifest import GapEntry
from ssmd_manifest_api.view_text import count

__all__ = ["ANOMALIES", "CAUSES", "LAYERS", "STATUSES", "Explanation", "explain", "missing_words"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is missing.

    Attributes:
        title: It in a few words.
        happened: What happened, a sentence or two.
        remedy: What a user of the data, or who runs the capture, can do.
    """

    title: str
    happened: str
    remedy: str


LAYERS: Mapping[str, str] = {
    "exchange": "lost by the exchange, before it sent",
    "connection": "not received: no socket, or one that broke",
    "stream": "received, then lost in NATS",
    "archive": "in NATS, and not kept by the archive",
}
"""Each layer by what it lost, in the order data passes them."""

_REFETCH = (
    "Nothing brings back what was sent meanwhile; a second connector of another instance name would cover it. "
    "Rebuild the book from the first snapshot after the gap."
)
_RETAIN = "Give the stream a longer age and more bytes, or keep the archiver running: its lag is a metric."
_STREAM_CARE = (
    "Do not delete or restore a stream that is being archived; what the archive holds from before is safe."
)

CAUSES: Mapping[tuple[str, str], Explanation] = {
    ("exchange", "sequence_skipped"): Explanation(
        "The exchange skipped numbers",
        "The exchange numbers its updates, and some numbers never came although the connection stood.",
        "Treat the book as unknown from the gap's start to the next snapshot; the connector asks for one at once.",
    ),
    ("connection", "stopped"): Explanation(
        "The connector was stopped",
        "The connector was told to stop, and was started again later. Nobody was listening meanwhile.",
        "Restart in a quiet hour, or run a second connector beside it. " + _REFETCH,
    ),
    ("connection", "crashed"): Explanation(
        "The connector crashed",
        "The connector ended without a word; the next one found its connection unclosed.",
        "Its log and the machine's tell why. " + _REFETCH,
    ),
    ("connection", "peer_closed"): Explanation(
        "The exchange closed the connection",
        "The exchange ended the connection in order, as some do once a day.",
        _REFETCH,
    ),
    ("connection", "connection_lost"): Explanation(
        "The connection broke", "The TCP connection broke, and the connector dialled again.", _REFETCH
    ),
    ("connection", "closed"): Explanation(
        "The connection was closed", "The connector closed the connection itself and opened another.", _REFETCH
    ),
    ("connection", "ping_unanswered"): Explanation(
        "The exchange stopped answering",
        "A ping was not answered in time, so the connection counted as dead and was opened again.",
        _REFETCH,
    ),
    ("connection", "protocol_error"): Explanation(
        "The exchange broke the protocol",
        "The exchange sent what WebSocket does not allow, so the connection was opened again.",
        _REFETCH,
    ),
    ("connection", "frame_too_large"): Explanation(
        "A frame was too large",
        "A frame was larger than the feed's max_frame_bytes, so the connection was closed on it.",
        "Raise max_frame_bytes in the feed's file, and max_payload of the NATS server with it. " + _REFETCH,
    ),
    ("connection", "silent"): Explanation(
        "The exchange fell silent",
        "No frame came for the feed's silence_limit_s, so the connection was opened again. "
        "If the exchange truly had nothing to say, nothing is missing.",
        "Raise silence_limit_s in the feed's file if the market is that quiet. " + _REFETCH,
    ),
    ("connection", "terminal_error"): Explanation(
        "The exchange ended the subscription",
        "The exchange ended a subscription for good, so the connector connected and subscribed anew.",
        "The connector's log has the exchange's code. " + _REFETCH,
    ),
    ("connection", "subscribe_timeout"): Explanation(
        "The subscription was not answered",
        "The exchange did not answer a subscribe command in time, so the connection was opened again.",
        _REFETCH,
    ),
    ("connection", "subscription_refused"): Explanation(
        "The exchange refused the subscription",
        "The exchange refused what was to be subscribed to; the connector keeps trying.",
        "Check the feed's channels and markets, and the rights of its key. " + _REFETCH,
    ),
    ("connection", "maintenance"): Explanation(
        "The exchange was in maintenance",
        "The exchange let go of the connection in a maintenance window of its calendar, and the connector waited.",
        "Nothing, if the exchange truly was down: then nothing was sent. " + _REFETCH,
    ),
    ("connection", "exchange_closed"): Explanation(
        "The exchange was closed",
        "The exchange let go of the connection outside the trading hours of its calendar.",
        "Nothing, if nothing was traded: then nothing was sent. " + _REFETCH,
    ),
    ("connection", "backlog_full"): Explanation(
        "NATS was away for too long",
        "NATS did not take messages until memory and spool were full, so the connector stopped reading the socket.",
        "Bring NATS back sooner, or give the connector a larger spool. " + _REFETCH,
    ),
    ("connection", "not_kept"): Explanation(
        "Received frames could not be kept",
        "These frames were received, and could neither be published nor spooled before the connection ended.",
        "See to the connector's spool and disk. " + _REFETCH,
    ),
    ("stream", "retention"): Explanation(
        "NATS dropped messages before they were archived",
        "The stream's limits removed these messages while the archiver was away or behind.",
        _RETAIN,
    ),
    ("stream", "deleted"): Explanation(
        "Messages were deleted from the stream",
        "Somebody deleted these messages from the stream, or purged it, before they were archived.",
        "Leave deleting to the stream's limits. " + _STREAM_CARE,
    ),
    ("stream", "lost"): Explanation(
        "NATS lost messages",
        "The stream no longer holds these numbers, and the server says neither limit nor deletion removed them.",
        "Look at the NATS server's log and disk; three replicas survive the loss of one.",
    ),
    ("stream", "frames_missing"): Explanation(
        "Confirmed frames never came out of NATS",
        "NATS confirmed that it stored these frames, and they are not in the stream.",
        "Look at the NATS server's log and disk; sync_interval: always makes a confirmation mean the disk.",
    ),
    ("stream", "stream_recreated"): Explanation(
        "The stream was made anew",
        "The stream was deleted and created again. What it held beyond the archive's position is gone; how much, "
        "nobody can tell.",
        _STREAM_CARE,
    ),
    ("stream", "stream_rolled_back"): Explanation(
        "The stream went back in time",
        "The stream was restored from an older state, as after a power cut or from a backup. What it held beyond "
        "the archive's position is gone; how much, nobody can tell.",
        _STREAM_CARE,
    ),
    ("archive", "left_out"): Explanation(
        "Left out of a replay",
        "This archive is a replay, and it was given the segments before and after, not those between.",
        "Read them in the archive that was replayed, or replay the whole span.",
    ),
}
"""Every cause by its layer, as docs/formats.md lists them."""

_UNKNOWN: Mapping[str, str] = {
    "exchange": "The exchange did not send what its own numbers announce.",
    "connection": "Nothing could be received for a time.",
    "stream": "Messages were received and are not in the stream any more.",
    "archive": "Messages were in the stream and are not in the archive.",
}

STATUSES: Mapping[str, str] = {
    "open": "Still open: its end is not known yet.",
    "resynced": "Resynced: a fresh snapshot made the state whole again; the updates between stay missing.",
    "healed": "Healed: nothing is missing any more; what was skipped came after all, late.",
    "permanent": "Permanent: it has ended, and what is missing stays missing.",
}
"""How a gap stands."""

ANOMALIES: Mapping[str, str] = {
    "late": "stored with an earlier time than a window already closed; it lies in the open one",
    "clock_stepped": "the server's clock went back; a segment of its true window was opened",
    "epoch_opened": "another life of the stream began; its sequences count anew",
}
"""What is unusual and lost nothing."""


def explain(layer: str, cause: str) -> Explanation:
    """Return the explanation of a cause at a layer."""
    known = CAUSES.get((layer, cause))
    if known is not None:
        return known
    return Explanation(
        f"{layer.capitalize()}: {cause.replace('_', ' ')}", _UNKNOWN[layer], "The logs of that time tell more."
    )


def missing_words(gap: GapEntry) -> str:
    """Return how much a gap misses, and of what: ``3 messages``."""
    stored = gap.layer in ("stream", "archive") and not gap.key
    noun = "update" if gap.layer == "exchange" else "message" if stored else "frame"
    if gap.missing_count is None:
        return f"an unknown number of {noun}s"
    return count(gap.missing_count, noun) if gap.missing_count else "nothing"

"""What a jump in the stream's sequences means (pure)."""

from __future__ import annotations

from ssmd_common.archive.gaps import Gap, GapLayer, GapStatus
from ssmd_common.nats.streams import StreamInfo

__all__ = ["jump_gaps"]


def jump_gaps(  # noqa: D417 - the sequences are explained by the gap model
    info: StreamInfo, *, epoch: int, start_seq: int, end_seq: int, start_ns: int, end_ns: int
) -> list[Gap]:
    """Return the gaps of a jump from ``start_seq`` to ``end_seq``, by what the server says became of the messages.

    Args:
        info: The stream, with its deleted sequences.
        start_ns: Server time of the message before the jump.
        end_ns: Server time of the message after it.
    """
    gaps = []
    retained_from = min(max(info.first_seq, start_seq), end_seq)
    if retained_from > start_seq:
        gaps.append(("retention", start_seq, retained_from))
    deleted = set(info.deleted)
    at = retained_from
    while at < end_seq:
        cause = "deleted" if at in deleted else "lost"
        first = at
        while at < end_seq and (at in deleted) == (cause == "deleted"):
            at += 1
        gaps.append((cause, first, at))
    return [
        Gap(
            gap_id=f"{epoch}:{first}",
            layer=GapLayer.STREAM,
            cause=cause,
            status=GapStatus.PERMANENT,
            epoch=epoch,
            start_seq=first,
            end_seq=end,
            start_ns=start_ns,
            end_ns=end_ns,
            missing_count=end - first,
            detected_ns=end_ns,
        )
        for cause, first, end in gaps
    ]

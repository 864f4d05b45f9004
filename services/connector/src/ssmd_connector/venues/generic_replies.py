"""What a feed described as data answers to the exchange's own pings. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ssmd_common.config.outgoing import frame_path
from ssmd_connector.venues.generic import FrameTest, values_at
from ssmd_connector.venues.venue import decode_json

if TYPE_CHECKING:
    from ssmd_common.config.outgoing import Reply

__all__ = ["Replies"]


class Replies:
    """The feed's replies.

    Args:
        replies: As its file has them.
    """

    def __init__(self, replies: tuple[Reply, ...]) -> None:
        self._replies = [
            (reply.to.text, FrameTest(reply.to.match) if reply.to.match else None, reply.send) for reply in replies
        ]

    def to(self, kind: str, frame: bytes) -> str | None:
        """Return what to answer to a control frame of this type; None for nothing."""
        if not self._replies:
            return None
        try:
            root = decode_json(frame)
        except ValueError:
            root = None
        text = frame.strip()
        for named, test, send in self._replies:
            if test.fits(root) if test else named in (kind, text.decode("utf-8", "replace")):
                return send if isinstance(send, str) else _text(send, root)
        return None


def _text(send: Any, root: object) -> str:
    return json.dumps(_filled(send, root), separators=(",", ":"), ensure_ascii=False)


def _filled(value: Any, root: object) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, root) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, root) for item in value]
    path = frame_path(value) if isinstance(value, str) else None
    return value if path is None else next(iter(values_at(root, path)), None)

"""What a replaying exchange answers to commands: enough for a client to go on, and nothing with a seq.

Beside the replayed road: the recorded frames bring their own seqs, so an answer that consumed one would be a
gap in the recording. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmd_simulator import frames
from ssmd_simulator.commands import Command, ErrorCode, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Acks"]


class Acks:
    """The answers of one connection.

    Args:
        sids: The sid each channel had in the recording; channels that are not in it get the next free ones.
    """

    def __init__(self, sids: Mapping[str, int]) -> None:
        self._sids = dict(sids)
        self._subscribed: dict[str, int] = {}

    def answer(self, text: bytes) -> list[bytes]:
        """Return the answer to one message; other exchanges' commands get none."""
        command = decode(text)
        if not isinstance(command, Command):
            return []
        sids = () if command.params is None else command.params.sids
        match command.cmd:
            case "subscribe":
                channels = () if command.params is None else command.params.channels
                return [frames.subscribed(command.id, channel, self._sid(channel)) for channel in channels]
            case "unsubscribe":
                return [frames.unsubscribed(command.id, sid=sid) for sid in sids]
            case "update_subscription":
                return [frames.ok(command.id, msg={})]
            case "list_subscriptions":
                held = [{"channel": channel, "sid": sid} for channel, sid in self._subscribed.items()]
                return [frames.ok(command.id, msg=held)]
            case _:
                return [frames.error(command.id, ErrorCode.UNKNOWN_COMMAND)]

    def _sid(self, channel: str) -> int:
        sid = self._sids.setdefault(channel, max(self._sids.values(), default=0) + 1)
        self._subscribed[channel] = sid
        return sid

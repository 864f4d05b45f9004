"""Which frames have their PubAck: the number behind ``acked_through``. Pure."""

from __future__ import annotations

__all__ = ["Ledger"]


class Ledger:
    """Counts acknowledgements of each connection's frames, in whatever order they come."""

    __slots__ = ("_ahead", "_through")

    def __init__(self) -> None:
        self._through: dict[int, int] = {}
        self._ahead: dict[int, set[int]] = {}

    def opened(self, connection: int) -> None:
        """Begin to count a connection."""
        self._through[connection] = 0
        self._ahead[connection] = set()

    def acked(self, connection: int, frame_no: int) -> None:
        """Take one frame's acknowledgement; one of a connection not counted is ignored."""
        through = self._through.get(connection)
        if through is None or frame_no <= through:
            return
        if frame_no != through + 1:
            self._ahead[connection].add(frame_no)
            return
        ahead = self._ahead[connection]
        through = frame_no
        while ahead and through + 1 in ahead:
            through += 1
            ahead.discard(through)
        self._through[connection] = through

    def through(self, connection: int) -> int:
        """Return the highest number up to which every frame of the connection has its acknowledgement."""
        return self._through.get(connection, 0)

    def count(self, connection: int) -> int:
        """Return how many frames of the connection have their acknowledgement."""
        return self._through.get(connection, 0) + len(self._ahead.get(connection, ()))

    def forget(self, connection: int) -> None:
        """End counting a connection."""
        self._through.pop(connection, None)
        self._ahead.pop(connection, None)

"""Which frames have their PubAck, and which could not be kept: the numbers behind a connection's record. Pure."""

from __future__ import annotations

from ssmd_common.ranges import Range, Ranges

__all__ = ["Ledger"]


class Ledger:
    """Counts acknowledgements of each connection's frames, in whatever order they come, and losses."""

    __slots__ = ("_ahead", "_lost", "_through")

    def __init__(self) -> None:
        self._through: dict[int, int] = {}
        self._ahead: dict[int, set[int]] = {}
        self._lost: dict[int, Ranges] = {}

    def opened(self, connection: int) -> None:
        """Begin to count a connection."""
        self._through[connection] = 0
        self._ahead[connection] = set()
        self._lost[connection] = Ranges()

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

    def lose(self, connection: int, first: int, end: int) -> None:
        """Take note that the frames ``[first, end)`` cannot be kept, where the connection is counted."""
        if connection in self._lost:
            self._lost[connection].add_range(first, end)

    def through(self, connection: int) -> int:
        """Return the highest number up to which every frame of the connection has its acknowledgement."""
        return self._through.get(connection, 0)

    def settled(self, connection: int) -> int:
        """Return how many frames of the connection have their acknowledgement, or are known to be lost."""
        ahead, lost = self._ahead.get(connection, ()), self._lost.get(connection, ())
        return self.through(connection) + len(ahead) + len(lost)

    def lost(self, connection: int) -> list[Range]:
        """Return the half-open ranges of frames that could not be kept."""
        lost = self._lost.get(connection)
        return lost.pairs() if lost is not None else []

    def forget(self, connection: int) -> None:
        """End counting a connection."""
        self._through.pop(connection, None)
        self._ahead.pop(connection, None)
        self._lost.pop(connection, None)

"""What an exchange refuses of a feed described as data, connection by connection: passing, or there to stay. Pure.

One symbol that is listed no more must not cost the capture of all others, and a refusal in a bad moment must not
cost the symbol for as long as the connection lives. So refusals ask for a new connection until the exchange has
given the same ones on :data:`PATIENCE` connections in a row.
"""

from __future__ import annotations

import re

__all__ = ["PATIENCE", "Refusals"]

PATIENCE = 3
"""On so many connections in a row the same refusal is there to stay."""

_MOST = 1000
_WORD = re.compile(r"[\w-]+")


def _sense(text: str) -> str:
    """Return a refusal's words but those with digits: times and ids differ from one connection to the next."""
    return " ".join(word for word in _WORD.findall(text) if not any(map(str.isdigit, word)))


class Refusals:
    """The refusals of one lane: those of the open connection, and on how many before it each came."""

    def __init__(self) -> None:
        self._connections: dict[str, int] = {}
        self._heard: dict[str, str] = {}

    def begin(self) -> None:
        """Begin a new connection. One that ended before the exchange refused anything tells nothing new."""
        if self._heard:
            self._connections = {sense: self._connections[sense] for sense in self._heard}
        self._heard = {}

    def take(self, text: str) -> bool:
        """Take a refusal; True for one that this connection has not heard yet."""
        sense = _sense(text)
        if sense in self._heard or len(self._heard) >= _MOST:
            return False
        self._heard[sense] = text
        self._connections[sense] = self._connections.get(sense, 0) + 1
        return True

    def forget_unheard(self) -> None:
        """Take note that this connection had time enough: what it was not refused is not refused any more."""
        self._connections = {sense: self._connections[sense] for sense in self._heard}

    @property
    def heard(self) -> tuple[str, ...]:
        """The different refusals of this connection, in the exchange's words."""
        return tuple(self._heard.values())

    @property
    def are_to_stay(self) -> bool:
        """Whether connecting anew is not worth it: each of them came on every one of the last connections."""
        return all(self._connections[sense] >= PATIENCE for sense in self._heard)

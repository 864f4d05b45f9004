from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ssmd_common.service.telemetry import Metrics
from ssmd_connector.capture import Message
from ssmd_connector.holding import Entry, Holding
from ssmd_connector.metrics import ConnectorMetrics
from ssmd_connector.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOMY = 1 << 20


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path, max_bytes=ROOMY)
    yield made
    made.close()


def holding(spool: Spool | None, memory_bytes: int = ROOMY) -> Holding:
    return Holding(memory_bytes=memory_bytes, spool=spool, spooled=ConnectorMetrics(Metrics("test")).spooled)


def message(number: int) -> Message:
    return Message(b"s.a", b"NATS/1.0\r\n\r\n", b"x" * 10, 1, number)


def numbers(entries: list[Entry]) -> list[int]:
    return [entry.message.frame_no for entry in entries]


def sent(held: Holding, entries: list[Entry], first_token: int = 1) -> dict[int, Entry]:
    flying = dict(enumerate(entries, first_token))
    for token, entry in flying.items():
        if entry.mark is not None:
            held.sent(token, entry.mark)
    return flying


def test_memory_is_bounded_and_one_message_always_fits() -> None:
    held = holding(None, memory_bytes=1)
    assert held.put(message(1))
    assert not held.put(message(2))
    assert not held.spill(connected=False)


def test_messages_follow_the_spilled_to_disk_and_stay_in_memory_once_all_of_it_was_sent(spool: Spool) -> None:
    held = holding(spool)
    for number in (1, 2):
        held.put(message(number))
    assert held.spill(connected=False)
    held.put(message(3))
    assert (held.memory_used, len(held.waiting)) == (0, 0)
    flying = sent(held, held.take(10))
    assert numbers(list(flying.values())) == [1, 2, 3]
    held.put(message(4))
    assert len(held.waiting) == 1
    assert numbers(held.take(10)) == [4]


def test_the_spool_lets_go_of_what_is_acknowledged_without_a_hole(spool: Spool) -> None:
    held = holding(spool)
    for number in (1, 2, 3):
        held.put(message(number))
    held.spill(connected=False)
    flying = sent(held, held.take(10))
    held.let_go({2: flying[2], 3: flying[3]})
    assert held.is_spooling
    assert numbers(list(flying.values())) == [1, 2, 3]
    held.take_back([flying[2], flying[3]])
    flying = sent(held, held.take(10), 10)
    assert numbers(list(flying.values())) == [2, 3]
    held.let_go({})
    assert held.is_empty


def test_what_was_in_flight_is_sent_again_in_order(spool: Spool) -> None:
    held = holding(spool)
    for number in (1, 2):
        held.put(message(number))
    held.spill(connected=False)
    flying = sent(held, held.take(10))
    held.put(message(3))
    flying |= sent(held, held.take(10), 3)
    held.put(message(4))
    assert held.take_back(flying.values()) == 1
    assert numbers([*held.take(10), *held.take(10)]) == [1, 2, 3, 4]


def test_a_disk_that_refuses_leaves_memory_as_the_only_room(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_messages: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "append", refuse)
    held = holding(spool)
    held.put(message(1))
    assert not held.spill(connected=False)
    assert not held.can_spill
    assert numbers(held.take(10)) == [1]

from __future__ import annotations

from ssmd_connector.pulse import Pulse


def test_a_lost_connection_counts_after_a_second_and_not_before() -> None:
    pulse = Pulse(0.0, ack_timeout_s=5)
    pulse.disconnected(10.0)
    assert not pulse.is_stalled(10.9, is_overdue=False)
    assert pulse.is_stalled(11.0, is_overdue=False)
    pulse.reconnected(12.0)
    assert not pulse.is_stalled(13.0, is_overdue=True)


def test_a_connection_that_stores_nothing_counts_once_a_message_is_overdue() -> None:
    pulse = Pulse(0.0, ack_timeout_s=5)
    assert not pulse.is_stalled(60.0, is_overdue=False)
    assert pulse.is_stalled(60.0, is_overdue=True)
    pulse.stored = True
    pulse.look(60.0)
    assert not pulse.is_stalled(65.0, is_overdue=True)
    # An answer that is a refusal stores nothing.
    pulse.answered = True
    pulse.look(65.1)
    assert pulse.is_stalled(65.1, is_overdue=True)


def test_only_a_long_silence_puts_the_connection_in_doubt_and_each_once() -> None:
    pulse = Pulse(0.0, ack_timeout_s=5)
    assert pulse.silent_s(15.0) is None
    assert pulse.silent_s(15.5) == 15.5
    assert pulse.silent_s(16.0) is None
    pulse.answered = True
    pulse.look(30.0)
    assert pulse.silent_s(31.0) is None

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.config.model import ConfigModel, Interval, parse_bytes, parse_interval, parse_rotation_interval
from ssmd_common.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("15m", 900), ("7h", 25200), ("1d", 86400), ("015m", 900)]
)
def test_an_interval_keeps_its_spelling(text: str, seconds: int) -> None:
    assert parse_rotation_interval(text) == Interval(text, seconds)
    assert str(parse_interval(text)) == text


@pytest.mark.parametrize(
    "text",
    ["0m", "15", "-1h", "15µ", "1.5h", "", "m", "15 m", "15M", "٣m", "15m\n", 15, None, ["1m"], "9" * 5000 + "d"],
)
def test_any_other_form_is_refused_with_the_accepted_ones(text: object) -> None:
    with pytest.raises(ConfigError, match=r"is no length of time \(write a whole number above 0 and s, m, h or d"):
        parse_rotation_interval(text)


def test_a_segment_never_spans_two_days() -> None:
    with pytest.raises(ConfigError, match=r"36h is longer than a day .*at most 1d"):
        parse_rotation_interval("36h")
    assert parse_interval("36h").seconds == 129600


@settings(deadline=None)
@given(st.text() | st.integers() | st.floats() | st.none())
def test_no_value_breaks_the_readers(value: object) -> None:
    for read in (parse_interval, parse_bytes):
        with contextlib.suppress(ConfigError):
            assert read(value)


@pytest.mark.parametrize(
    ("text", "count"), [(1, 1), ("1", 1), ("5B", 5), ("64MB", 64_000_000), ("64 MiB", 64 << 20), ("1GiB", 1 << 30)]
)
def test_bytes_are_read_with_decimal_and_binary_units(text: object, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", [0, "0", "-1", "1.5MB", "64mb", "MB", True, None, "٣"])
def test_other_numbers_of_bytes_are_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="is no number of bytes"):
        parse_bytes(text)


def test_an_address_is_printed_without_the_credentials_in_it() -> None:
    class Place(ConfigModel):
        url: str

    assert repr(Place(url="nats://u:secret@host")) == "Place(url='nats://[redacted]@host')"

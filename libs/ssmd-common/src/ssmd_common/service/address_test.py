from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.errors import ConfigError
from ssmd_common.service.address import Address, parse_addr


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_an_address_reads_and_writes_back(text: str, address: Address) -> None:
    assert parse_addr(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "host:", "host:65536", "host:-1", "::1:80", "host:٣", "host:+1", "h:" + "1" * 5000],
)
def test_a_bad_address_names_its_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--health-addr: .* is no address to listen on \(write HOST:PORT"):
        parse_addr(text)


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_the_address_reader(text: str) -> None:
    try:
        address = parse_addr(text)
    except ConfigError:
        return
    assert parse_addr(str(address)) == address

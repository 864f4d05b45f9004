from __future__ import annotations

import os

import pytest

from ssmd_common.errors import ConfigError
from ssmd_connector.proxies import http_proxy_of, proxy_of

PROXY = "http://user:hidden@proxy:3128"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HTTPS_PROXY", "wss://exchange.example/ws"),
        ("https_proxy", "https://exchange.example/v2"),
        ("ALL_PROXY", "wss://exchange.example/ws"),
        ("HTTP_PROXY", "ws://exchange.example/ws"),
    ],
)
def test_a_proxy_is_the_one_its_variable_names(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    assert proxy_of(url) is None
    monkeypatch.setenv(variable, PROXY)
    assert proxy_of(url) == PROXY
    monkeypatch.setenv("NO_PROXY", "exchange.example")
    assert proxy_of(url) is None


@pytest.mark.parametrize(
    ("exception", "url"),
    [
        ("exchange.example:443", "wss://exchange.example/ws"),
        ("exchange.example:443", "https://exchange.example/v2"),
        ("exchange.example:80", "ws://exchange.example/ws"),
        ("2001:db8::1", "wss://[2001:db8::1]:8443/ws"),
    ],
)
def test_an_exception_may_name_the_port_and_be_an_address(
    monkeypatch: pytest.MonkeyPatch, exception: str, url: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", exception)
    assert proxy_of(url) is None


def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense")
    assert proxy_of("ws://127.0.0.1:8765/ws") is None


@pytest.mark.parametrize(
    "text",
    [
        "hidden",
        "proxy:3128",
        "user:hidden@proxy:3128",
        "ftp://user:hidden@proxy:3128",
        "http://user:hidden@proxy:99999",
        "http://user:hidden@[::1",
        "http://hidden@proxy:3128",
        "http://user:hid/hidden#@proxy:3128",
    ],
)
def test_a_proxy_that_is_none_is_refused_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    for find, url in ((proxy_of, "wss://exchange.example/ws"), (http_proxy_of, "https://exchange.example/v2")):
        with pytest.raises(
            ConfigError, match=r"^HTTPS_PROXY: is no address of a proxy \(write it as http"
        ) as caught:
            find(url)
        assert "hid" not in str(caught.value)


def test_the_rest_interface_is_not_reached_through_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    assert proxy_of("wss://exchange.example/ws") == "socks5://proxy:1080"
    with pytest.raises(ConfigError, match="ALL_PROXY"):
        http_proxy_of("https://exchange.example/v2")

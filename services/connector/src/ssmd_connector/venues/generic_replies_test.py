from __future__ import annotations

from typing import Any

import pytest

from ssmd_common.config.loading import parse_model
from ssmd_common.config.websocket import WebsocketSettings
from ssmd_common.errors import ConfigError
from ssmd_connector.effects import Send
from ssmd_connector.venues.generic import GenericVenue
from ssmd_connector.venues.generic_dialogue import GenericDialogue, GenericWishes
from ssmd_connector.venues.generic_refusals import Refusals
from ssmd_connector.venues.venue import Kind

REPLIES = """
route: {type: [method, topic]}
replies:
  - {to: public/heartbeat, send: {id: "{frame.id}", method: public/respond-heartbeat}}
  - {to: {path: ping}, send: {pong: ["{frame.ping.at}", "{frame.nowhere}"]}}
  - {to: Ping, send: Pong}
"""
SETTINGS = parse_model(REPLIES, WebsocketSettings, file="f.yaml")


def answers(frame: bytes) -> list[Any]:
    """Return what is sent when a frame comes, as the connector lets the dialogue hear it."""
    route = GenericVenue(SETTINGS).route(frame)
    dialogue = GenericDialogue(GenericWishes.of(SETTINGS), Refusals())
    return dialogue.control(route, frame, 0) if route.kind is Kind.CONTROL else []


@pytest.mark.parametrize(
    ("ping", "answer"),
    [
        (
            b'{"id":1587523073344,"method":"public/heartbeat"}',
            '{"id":1587523073344,"method":"public/respond-heartbeat"}',
        ),
        (b'{"ping":{"at":18446744073709551615}}', '{"pong":[18446744073709551615,null]}'),
        (b"Ping\n", "Pong"),
    ],
    ids=["type", "path", "text"],
)
def test_the_exchanges_own_ping_is_control_and_answered_with_what_it_holds(ping: bytes, answer: str) -> None:
    assert answers(ping) == [Send(answer)]


@pytest.mark.parametrize(
    "frame", [b'{"topic":"trades","id":1}', b'{"method":"subscribe"}', b"Pang", b"\xff", b"[]"]
)
def test_nothing_else_is_answered(frame: bytes) -> None:
    assert answers(frame) == []


@pytest.mark.parametrize(
    ("send", "problem"),
    [
        ('{id: "n{frame.id}"}', "{frame.PATH} stands beside other text or in a key"),
        ('{"{frame.id}": 1}', "{frame.PATH} stands beside other text or in a key"),
        ('{id: "{frame.a..b}"}', "'a..b' is no path"),
        ('{id: "{id}"}', "is filled from the frame alone"),
        ('{id: "{frame}"}', "{frame} is nothing to fill in"),
        ("7", "is no frame"),
    ],
)
def test_a_reply_that_would_go_out_unfilled_is_refused(send: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"replies\.0\.send.*{problem}"):
        parse_model(
            f"{{route: {{type: [t]}}, replies: [{{to: ping, send: {send}}}]}}", WebsocketSettings, file="f.yaml"
        )

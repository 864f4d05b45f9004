from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.nats.client import NatsClient

Message = tuple[int, bytes, bytes, bytes | None, bytes]

token = st.text("abcXYZ019_$>-%", min_size=1, max_size=12).map(str.encode)
messages = st.tuples(
    st.sampled_from([1, 2]),
    token,
    st.one_of(st.just(b""), token, st.just(b"17")),
    st.one_of(st.none(), st.just(b"NATS/1.0\r\nA: b\r\n\r\n"), st.just(b"NATS/1.0 503\r\n\r\n")),
    st.binary(max_size=40) | st.just(b"MSG a 1 3\r\nabc\r\n"),
)


class Listener(NatsClient):
    """Raw for subscription 1; what nats-py would be given for the others is noted beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Message] = []
        self._raw[1] = lambda messages: self.heard.extend((1, *message) for message in messages)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        if sid == 1:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            self.heard.append((sid, bytes(subject), bytes(reply), headers, data))


def on_the_wire(message: Message) -> bytes:
    sid, subject, reply, headers, payload = message
    words = [b"HMSG" if headers is not None else b"MSG", subject, b"%d" % sid, *([reply] if reply else [])]
    sizes = [b"%d" % len(headers)] if headers is not None else []
    body = (headers or b"") + payload
    return b" ".join([*words, *sizes, b"%d" % len(body)]) + b"\r\n" + body + b"\r\n"


@settings(deadline=None)
@given(st.lists(messages, max_size=12), st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_messages_arrive_whole_and_in_order_however_the_socket_cuts_them(
    sent: list[Message], cuts: list[int]
) -> None:
    client = Listener()
    data = b"+OK\r\n".join(on_the_wire(message) for message in sent)

    async def feed() -> None:
        rest, turn = data, 0
        while rest:
            cut = cuts[turn % len(cuts)]
            await client._ps.parse(rest[:cut])
            rest, turn = rest[cut:], turn + 1

    asyncio.run(feed())
    assert client.heard == sent


def test_a_read_of_many_messages_is_one_call_and_five_objects_a_message() -> None:
    calls: list[int] = []
    kept: list[object] = []
    client = NatsClient()

    def take(messages: list[Any]) -> None:
        calls.append(len(messages))
        kept.extend(messages)

    client._raw[1] = take
    count = 2_000
    headers = b"NATS/1.0\r\nA: b\r\n\r\n"
    read = count * on_the_wire((1, b"prod.kalshi.json.trade.A", b"$JS.ACK.S.C.1.1.1.1.1", headers, b"{}" * 99))
    gc.collect()
    before = sys.getallocatedblocks()
    asyncio.run(client._ps.parse(read))
    gc.collect()
    assert calls == [count]
    # Subject, reply, headers and payload, and what holds them; a few more for the loop itself.
    assert (sys.getallocatedblocks() - before) / count < 5.5

from __future__ import annotations

import pytest

from ssmd_archiver.epoch import Position, stream_verdict
from ssmd_common.nats.streams import StoredMessage, StreamInfo

POSITION = Position(epoch=1, created="c1", seq=50, stored_ns=7, msg_id="s.1.50", message_seq=50)


def _info(created: str, last_seq: int) -> StreamInfo:
    return StreamInfo(
        name="S",
        subjects=(),
        created=created,
        server_ns=0,
        first_seq=1,
        last_seq=last_seq,
        last_ns=0,
        messages=0,
        bytes=0,
    )


def _stored(stored_ns: int, msg_id: str) -> StoredMessage:
    return StoredMessage(seq=50, subject="", stored_ns=stored_ns, headers={"Nats-Msg-Id": msg_id}, data=b"")


@pytest.mark.parametrize(
    ("info", "stored", "cause"),
    [
        (_info("c1", 60), _stored(7, "s.1.50"), None),
        (_info("c1", 50), None, None),
        (_info("c2", 60), None, "stream_recreated"),
        (_info("c1", 49), None, "stream_rolled_back"),
        (_info("c1", 60), _stored(8, "s.1.50"), "stream_rolled_back"),
        (_info("c1", 60), _stored(7, "s.1.51"), "stream_rolled_back"),
    ],
)
def test_the_stream_is_recognised(info: StreamInfo, stored: StoredMessage | None, cause: str | None) -> None:
    assert stream_verdict(POSITION, info, stored).new_epoch == cause


def test_an_archive_without_position_takes_the_stream_as_it_is() -> None:
    assert stream_verdict(Position(epoch=1, created="c1", seq=None), _info("c1", 0), None).new_epoch is None

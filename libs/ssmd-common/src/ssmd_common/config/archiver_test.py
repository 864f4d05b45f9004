from __future__ import annotations

import pytest

from ssmd_common.config.archiver import ArchiverConfig, Compression
from ssmd_common.config.loading import parse_model
from ssmd_common.errors import ConfigError

ARCHIVER = "nats: {consumer: a, filter: prod.kalshi.json.>}\nstorage: {path: /d, compression: %s}\n"


def _compression(text: str) -> Compression:
    return parse_model(ARCHIVER % text, ArchiverConfig, file="a.yaml").storage.compression


@pytest.mark.parametrize(
    ("text", "codec", "level"),
    [
        ("{}", "igzip", 2),
        ("{level: 0}", "igzip", 0),
        ("{codec: igzip, level: 3}", "igzip", 3),
        ("{codec: zlib}", "zlib", 6),
        ("{codec: zlib, level: 1}", "zlib", 1),
        ("{codec: zlib, level: 9}", "zlib", 9),
    ],
)
def test_codec_and_level_are_configured_and_each_codec_has_its_own_default(
    text: str, codec: str, level: int
) -> None:
    compression = _compression(text)
    assert (compression.codec, compression.effective_level) == (codec, level)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{level: 4}", ": level 4 is none of igzip's (use 0 to 3, or leave it out for 2)"),
        ("{level: -1}", ": level -1 is none of igzip's (use 0 to 3"),
        ("{codec: zlib, level: 0}", ": level 0 is none of zlib's (use 1 to 9, or leave it out for 6)"),
        ("{codec: zlib, level: 10}", ": level 10 is none of zlib's"),
        ("{codec: zstd}", ".codec: 'zstd' is not allowed (use 'igzip' or 'zlib')"),
        ("{level: true}", ".level: True is no whole number"),
        ("{levle: 2}", ".levle: unknown key (did you mean 'level'?"),
    ],
)
def test_a_codec_or_level_that_does_not_exist_is_refused_with_those_that_do(text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _compression(text)
    assert str(caught.value).startswith(f"a.yaml: storage.compression{line}")

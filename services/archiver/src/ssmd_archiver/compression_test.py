from __future__ import annotations

import gzip
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_archiver.compression import Compress, compressor
from ssmd_archiver.testing import DATE, Stream, archive, boundaries, manifest_of, trades, verified
from ssmd_common.config.archiver import Compression

IGZIP = compressor(Compression(codec="igzip", level=1))
ZLIB = compressor(Compression(codec="zlib", level=9))


@pytest.mark.parametrize(
    ("codec", "level"), [*(("igzip", level) for level in range(4)), *(("zlib", level) for level in range(1, 10))]
)
def test_every_level_makes_gzip_whose_header_names_no_time(codec: Literal["igzip", "zlib"], level: int) -> None:
    compress = compressor(Compression(codec=codec, level=level))
    data = b'{"type":"trade","price":"0.1200"}\n' * 500
    assert gzip.decompress(compress(data)) == data
    assert int.from_bytes(compress(data)[4:8], "little") == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([IGZIP, ZLIB]), st.binary(max_size=2000)), max_size=8))
def test_members_of_different_codecs_in_one_file_read_as_one(members: list[tuple[Compress, bytes]]) -> None:
    file = b"".join(compress(data) for compress, data in members)
    assert gzip.decompress(file) == b"".join(data for _, data in members)


async def test_contents_and_boundaries_do_not_depend_on_the_codec(tmp_path: Path) -> None:
    stream = trades(40)
    for name, compress in (("one", IGZIP), ("other", ZLIB)):
        await archive(tmp_path / name, stream, batch=7, commit_every=7, compress=compress)
    assert boundaries(tmp_path / "one") == boundaries(tmp_path / "other")


async def test_a_segment_begun_with_another_codec_is_recovered_and_goes_on(tmp_path: Path) -> None:
    stream = Stream()
    for _ in range(30):
        stream.trade()
    await archive(tmp_path / "one", stream, interval_s=60)
    mixed = tmp_path / "mixed"
    await archive(mixed, stream, interval_s=60, stop_after=9, compress=ZLIB)
    await archive(mixed, stream, interval_s=60, stop_after=9, compress=IGZIP)
    await archive(mixed, stream, interval_s=60, compress=ZLIB)
    assert boundaries(mixed) == boundaries(tmp_path / "one")
    (entry,) = manifest_of(mixed).files
    assert (mixed / "kalshi" / DATE / entry.name).read_bytes()[:10] == ZLIB(b"x")[:10], "the first codec's header"
    verified(mixed)

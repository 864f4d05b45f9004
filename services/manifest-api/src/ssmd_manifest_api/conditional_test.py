from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from ssmd_manifest_api.conditional import ByteRange, Unsatisfiable, not_modified, wanted_range

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x","abc"', True),
        ('"a,b", "abc"', True),
        ("*", True),
        (" * ", True),
        ('"x"', False),
        ("abc", False),
        ("", False),
        ('"abc', False),
    ],
)
def test_what_the_caller_has_is_not_sent_again(header: str | None, *, known: bool) -> None:
    headers = {} if header is None else {"if-none-match": header}
    assert not_modified(headers, ETAG) is known


def test_a_list_in_several_lines_is_one_list() -> None:
    lines = Headers(raw=[(b"if-none-match", b'"x"'), (b"if-none-match", b'"abc"'), (b"if-none-match", b'"y"')])
    assert not_modified(lines, ETAG)
    assert not not_modified(lines, '"z"')


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=5-99", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-" + "9" * 30, (5, 10)),
        ("bytes=-" + "9" * 30, (0, 10)),
        ("bytes=" + "0" * 30 + "5-6", (5, 7)),
        ("bytes=" + "9" * 30 + "-" + "8" * 30, None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("Bytes=1-2", (1, 3)),
        ("bytes=0-1,3-4", None),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("lines=0-1", None),
        ("bytes=0", None),
        ("", None),
    ],
)
def test_one_range_is_cut_and_anything_else_is_the_whole_file(header: str, part: tuple[int, int] | None) -> None:
    found = wanted_range({"range": header}, ETAG, 10)
    assert found == (None if part is None else ByteRange(*part))


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=" + "9" * 4300 + "-", 10)],
)
def test_a_range_without_a_byte_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        wanted_range({"range": header}, ETAG, size)


@pytest.mark.parametrize(
    ("if_range", "partial"),
    [('"abc"', True), ('"x"', False), ('W/"abc"', False), ("Mon, 23 Nov 2026 06:15:00 GMT", False)],
)
def test_a_range_of_another_version_is_the_whole_file(if_range: str, *, partial: bool) -> None:
    found = wanted_range({"range": "bytes=0-0", "if-range": if_range}, ETAG, 10)
    assert (found is not None) is partial
    # Even a range that lies outside: what the caller holds is another file.
    if not partial:
        assert wanted_range({"range": "bytes=99-", "if-range": if_range}, ETAG, 10) is None

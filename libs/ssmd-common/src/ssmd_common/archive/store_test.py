from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.archive.layout import DayKeys, day_paths
from ssmd_common.archive.store import Listing, LocalStore, check_key
from ssmd_common.archive.times import date_of
from ssmd_common.errors import WireError

DATE = date_of(0)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        ".writer.lock",
        "a/.x",
        "a\0",
        "a\n",
        "\u0660",
        "~",
    ],
)
def test_what_could_lead_astray_is_no_key(key: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for ask in (check_key, store.stat, store.read, store.open):
        with pytest.raises(WireError):
            ask(key)


@settings(deadline=None)
@given(st.text(alphabet="ab0_-./\\~\0 ", max_size=12))
def test_every_key_stays_below_the_base(text: str) -> None:
    try:
        key = check_key(text)
    except WireError:
        return
    path = os.path.normpath(f"/base/{key}")
    assert path == f"/base/{key}"


def test_keys_and_paths_name_the_same_places(tmp_path: Path) -> None:
    keys, paths = DayKeys("kalshi", DATE), day_paths(tmp_path, "kalshi", DATE)
    assert tmp_path / keys.folder == paths.folder
    assert tmp_path / keys.manifest == paths.manifest
    for place in ("sealed", "open"):
        key, path = getattr(keys, place)("0615-2"), getattr(paths, place)("0615-2")
        for kind in ("data", "meta", "index"):
            assert tmp_path / getattr(key, kind) == getattr(path, kind)
            check_key(getattr(key, kind))
    with pytest.raises(WireError):
        DayKeys("../etc", DATE)


def test_a_folder_is_listed_and_what_is_not_there_is_empty(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "later")
    assert store.list() == Listing()
    assert "the archiver creates it" in (store.why_not_ready() or "")
    (tmp_path / "later" / "feed").mkdir(parents=True)
    (tmp_path / "later" / "b").write_bytes(b"")
    (tmp_path / "later" / "a").write_bytes(b"")
    assert store.why_not_ready() is None
    assert store.list() == Listing(("a", "b"), ("feed",))
    assert store.list("nothing") == store.list("a") == Listing()
    found = [store.stat("nothing"), store.read("nothing"), store.open("a/b"), store.open("feed")]
    assert found == [None] * 4


def test_ranges_are_read_and_end_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    source = LocalStore(tmp_path).open("a")
    assert source is not None
    with source:
        assert source.stat.size == 10
        assert [source.read(2, 3), source.read(8, 5), source.read(10, 1), source.read(3, 0)] == [
            b"234",
            b"89",
            b"",
            b"",
        ]
    source.close()


def test_what_was_opened_stays_what_it_was(tmp_path: Path) -> None:
    path, fresh = tmp_path / "a", tmp_path / "fresh"
    path.write_bytes(b"old")
    store = LocalStore(tmp_path)
    source = store.open("a")
    assert source is not None
    with source:
        fresh.write_bytes(b"new")
        fresh.rename(path)
        assert source.read(0, 3) == b"old"
        assert source.stat != store.stat("a")
        path.unlink()
        assert source.read(0, 3) == b"old"


def test_links_are_followed_inside_of_the_archive_and_lead_nowhere_else(tmp_path: Path) -> None:
    base, outside = tmp_path / "base", tmp_path / "outside"
    (base / "feed").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (base / "feed" / "a").write_bytes(b"inside")
    (base / "alias").symlink_to(base / "feed")
    (base / "folder").symlink_to(outside)
    (base / "file").symlink_to(outside / "secret")
    (tmp_path / "entry").symlink_to(base)
    for store in (LocalStore(base), LocalStore(tmp_path / "entry")):
        content = store.read("alias/a")
        assert content is not None
        assert content.data == b"inside"
        assert store.read("folder/secret") is None
        assert store.open("file") is None
        assert store.list("folder") == Listing()


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert LocalStore(tmp_path).open("pipe") is None


def test_a_link_anywhere_in_a_key_is_followed_inside_of_the_archive_alone(tmp_path: Path) -> None:
    base, outside = tmp_path / "base", tmp_path / "outside"
    for folder in (base / "feed" / "day" / "_open", outside / "day" / "_open"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"bytes")
    escapes: list[None] = []
    store = LocalStore(base, on_escape=lambda: escapes.append(None))
    (base / "other").mkdir()
    (base / "other" / "day").symlink_to(outside / "day")
    (base / "again").mkdir()
    (base / "again" / "day").symlink_to(base / "feed" / "day")
    assert store.list("other/day/_open") == Listing()
    assert store.read("other/day/_open/file") is None
    assert len(escapes) == 2
    assert store.list("again/day/_open").files == ("file",)
    assert store.list("feed/day/_open").files == ("file",)
    assert store.list("feed/day/none/deeper") == Listing()
    assert len(escapes) == 2

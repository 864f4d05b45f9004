from __future__ import annotations

from pathlib import Path

from ssmd_common.archive.store import Content, LocalStore
from ssmd_manifest_api.cache import FileCache


class Reader:
    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, key: str, content: Content) -> bytes:
        assert content.stat.size == len(content.data)
        self.read.append(key)
        return content.data


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    reader = Reader()
    cache = FileCache(LocalStore(tmp_path), reader, limit=10)
    assert cache.get("a") is None
    (tmp_path / "a").write_bytes(b"one")
    assert [cache.get("a"), cache.get("a")] == [b"one", b"one"]
    assert reader.read == ["a"]
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"two")
    fresh.rename(tmp_path / "a")
    assert cache.get("a") == b"two"
    (tmp_path / "a").unlink()
    assert cache.get("a") is None


def test_the_least_recently_used_is_forgotten_first(tmp_path: Path) -> None:
    reader = Reader()
    cache = FileCache(LocalStore(tmp_path), reader, limit=2)
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
    for name in "abaca":
        cache.get(name)
    assert reader.read == ["a", "b", "c"]
    cache.get("b")
    assert reader.read == ["a", "b", "c", "b"]


def test_what_may_not_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (tmp_path / "outside").write_bytes(b"x")
    (base / "a").symlink_to(tmp_path / "outside")
    reader = Reader()
    assert FileCache(LocalStore(base), reader, limit=2).get("a") is None
    assert reader.read == []

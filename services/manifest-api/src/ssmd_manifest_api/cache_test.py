from __future__ import annotations

from pathlib import Path

from ssmd_manifest_api.cache import FileCache, Stamp


class Reader:
    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, path: Path, data: bytes, stamp: Stamp) -> bytes:
        assert stamp[2] == len(data)
        self.read.append(path.name)
        return data


def anywhere(_path: Path) -> bool:
    return True


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    reader = Reader()
    cache = FileCache(reader, allowed=anywhere, limit=10)
    path = tmp_path / "a"
    assert cache.get(path) is None
    path.write_bytes(b"one")
    assert [cache.get(path), cache.get(path)] == [b"one", b"one"]
    assert reader.read == ["a"]
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"two")
    fresh.rename(path)
    assert cache.get(path) == b"two"
    path.unlink()
    assert cache.get(path) is None


def test_the_least_recently_used_is_forgotten_first(tmp_path: Path) -> None:
    reader = Reader()
    cache = FileCache(reader, allowed=anywhere, limit=2)
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())
    for name in "abaca":
        cache.get(tmp_path / name)
    assert reader.read == ["a", "b", "c"]
    cache.get(tmp_path / "b")
    assert reader.read == ["a", "b", "c", "b"]


def test_what_may_not_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    reader = Reader()
    assert FileCache(reader, allowed=lambda _path: False, limit=2).get(tmp_path / "a") is None
    assert reader.read == []

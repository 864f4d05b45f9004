"""Where the local deployment keeps its things, and where the repository's feeds are; paths alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssmd_common.errors import ConfigError

__all__ = ["RunPaths", "feed_file", "feeds_folder", "local_environment_file"]

_RUN = ".run"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The run folder of an archive: everything that is no archive, beside its feeds.

    Attributes:
        data: The archive's base folder.
    """

    data: Path

    @property
    def folder(self) -> Path:
        """The run folder; no feed can have its name."""
        return self.data / _RUN

    @property
    def logs(self) -> Path:
        """Log files, one a process."""
        return self.folder / "logs"

    @property
    def keys(self) -> Path:
        """The simulator's key pair."""
        return self.folder / "keys"

    @property
    def lock(self) -> Path:
        """Held by the one ``ssmd up`` over this archive."""
        return self.folder / "lock"

    @property
    def state(self) -> Path:
        """Which processes run, for ``ssmd status`` and ``ssmd down``."""
        return self.folder / "state.json"

    def log(self, name: str) -> Path:
        """Return a process's log file."""
        return self.logs / f"{name}.log"


def feeds_folder() -> Path:
    """Return the repository's ``exchanges/feeds``.

    Raises:
        ConfigError: This is not run from a checkout.
    """
    for parent in (*Path(__file__).resolve().parents, *Path.cwd().resolve().parents, Path.cwd().resolve()):
        folder = parent / "exchanges" / "feeds"
        if folder.is_dir():
            return folder
    raise ConfigError("no folder exchanges/feeds", remedy="run ssmd in a checkout of the repository")


def feed_file(folder: Path, feed: str) -> Path:
    """Return the file of a feed by its name.

    Raises:
        ConfigError: There is no such feed; the text names those there are.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if feed not in known:
        raise ConfigError(
            f"no feed {feed!r}", field="--feed", remedy=f"one of {', '.join(known) or 'none: the folder is empty'}"
        )
    return known[feed]


def local_environment_file(feeds: Path, feed: str) -> Path | None:
    """Return the repository's environment file for capturing a feed on this machine; None where it has none."""
    file = feeds.parent / "environments" / f"{feed}-local.yaml"
    return file if file.exists() else None

"""Fetched versions of collections in a local directory, by version and by the hash of what they are made of.

    {database}/lock                                     held for a moment, by whoever changes names here
    {database}/5-0b9d1c2e11114222.3f786850e387550f/     one version, whole: it gets its name last, by a rename
    {database}/.part-0c1e…/                             being fetched, or a draft; rubbish when nobody holds its lock

Readers share a version; an editor takes away one that nobody reads, and works on it. Chroma writes even where it only reads, so
a version is looked at before each use: its files are as they were left, or it is fetched anew. Only the one used last is kept.
Not for network file systems.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from embedpipe.backends.blob_rules import local_errors
from embedpipe.backends.chroma_collection import mapped_errors
from embedpipe.backends.chroma_versions import copy_version
from embedpipe.backends.flock import locked, shared, unshared
from embedpipe.layout import safe_name
from embedpipe.ports import Clock

__all__ = ["SnapshotCache"]

LEFT_FILE: Final = "embedpipe-left.json"
"""In a version's directory: size and time of each file when it was left."""

Fill = Callable[[Path], None]
"""Fetches a version into an empty directory."""


class SnapshotCache:
    """Versions below `root`, a local directory. Opens nothing until it is used."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = Path(root)
        self._clock = clock

    @contextmanager
    def reading(self, database: str, name: str, fill: Fill) -> Iterator[Path]:
        """The version `name`, fetched where it is not here or not whole. Nobody removes it meanwhile."""
        home, held = self._home(database), ExitStack()
        path = home / name
        with _names_of(home):
            here = _whole(path)
            if not here:
                path = self._part(home)
                _evict(home)
                path.mkdir()
            held.enter_context(shared(path))
        try:
            if not here:
                fill(path)
                path = _named(path, name)
            yield path
        finally:
            with _names_of(home):
                held.close()
                _leave(path)

    @contextmanager
    def draft(self, database: str, name: str | None, fill: Fill) -> Iterator[Path]:
        """A directory of one's own with the version `name`, empty where None. Removed at the end unless `keep` named it."""
        home, held = self._home(database), ExitStack()
        path = self._part(home)
        with _names_of(home):
            complete = _begun(path, home / name if name is not None else None, fill, held)
            held.enter_context(shared(path))
        try:
            complete(path)
            yield path
        finally:
            with _names_of(home):
                held.close()
                shutil.rmtree(path, ignore_errors=True)

    def keep(self, path: Path, name: str) -> None:
        """Make a closed draft the version `name`."""
        _named(path, name)

    def _home(self, database: str) -> Path:
        home = self._root / safe_name(database, "database")
        with local_errors(f"Making {home}"):
            home.mkdir(parents=True, exist_ok=True)
        return home

    def _part(self, home: Path) -> Path:
        return home / f".part-{self._clock.new_id()}"


@contextmanager
def _names_of(home: Path) -> Iterator[None]:
    """Nobody else looks at or changes the names in `home` while the block runs."""
    with local_errors(f"Keeping versions in {home}"), locked(home / "lock"):
        yield


def _begun(path: Path, source: Path | None, fill: Fill, held: ExitStack) -> Fill:
    """Make the directory of a draft, and say what is to fill it."""
    if source is not None and _whole(source):
        if _alone(source):
            source.rename(path)
            (path / LEFT_FILE).unlink()
            return _nothing
        held.enter_context(shared(source))
        path.mkdir()
        return lambda target: _copy(source, target)
    _evict(path.parent)
    path.mkdir()
    return fill if source is not None else _nothing


def _nothing(_: Path) -> None:
    return None


def _copy(source: Path, target: Path) -> None:
    with mapped_errors(f"Copying {source}"):
        copy_version(source, target)


def _named(path: Path, name: str) -> Path:
    """Give a filled directory its version's name, unless another has it: then it stays a part of one's own."""
    target = path.with_name(name)
    with _names_of(path.parent):
        _evict(path.parent)
        if target.exists():
            return path
        _note(path)
        return path.rename(target)


def _evict(home: Path) -> None:
    """Remove what nobody uses."""
    for path in home.iterdir():
        if path.is_dir() and _alone(path):
            shutil.rmtree(path)


def _leave(path: Path) -> None:
    """The last reader notes how Chroma left the files, or removes what has no version's name."""
    if not _alone(path):
        return
    if (path / LEFT_FILE).exists():
        _note(path)
    else:
        shutil.rmtree(path)


def _alone(path: Path) -> bool:
    with unshared(path) as alone:
        return alone


def _whole(path: Path) -> bool:
    """Whether a version is here, and its files are as they were left, unless somebody is using them."""
    if not path.is_dir():
        return False
    if not _alone(path):
        return True
    try:
        return bool(json.loads((path / LEFT_FILE).read_bytes()) == _states(path))
    except (FileNotFoundError, ValueError):
        return False


def _note(path: Path) -> None:
    (path / LEFT_FILE).write_text(json.dumps(_states(path)))


def _states(path: Path) -> dict[str, list[int]]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / LEFT_FILE)
    stats = {str(file.relative_to(path)): file.stat() for file in files}
    return {name: [found.st_size, found.st_mtime_ns] for name, found in stats.items()}

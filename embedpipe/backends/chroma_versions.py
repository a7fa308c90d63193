"""The directories of one database: which one is current, making a draft of it, and putting the draft in its place.

Chroma rewrites its index files in place: a process killed while it does so leaves a directory that crashes whoever opens it
(github.com/chroma-core/chroma/issues/7238). So a merge never writes to the current directory. It writes to a draft, which
becomes current by one rename, after everything in it has been synced: whatever happens, `current` is whole.

    {database}/lock          held by the one editor
    {database}/current       symbolic link to the current directory
    {database}/v7/           a Chroma directory; shared by its readers, removed when replaced and no longer read
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from embedpipe.backends.flock import shared, unshared
from embedpipe.errors import CorruptData

SQLITE_FILE: Final = "chroma.sqlite3"
INDEX_READY_FILE: Final = "index_metadata.pickle"
"""Without it Chroma makes an index anew from its log, whatever else is there."""
BUSY_TIMEOUT_S: Final = 60.0
ONCE_CURRENT: Final = "once-current"
"""An empty file beside the versions, from the first commit on: without their link they are not rubbish."""
COPIED_HINT: Final = (
    "Copy the directory again with its symbolic links (cp -a), or link 'current' to its newest v directory."
)

_VERSION: Final = re.compile(r"v([0-9]{1,18})")


def current(home: Path) -> Path | None:
    """The current directory, or None before the first commit."""
    try:
        name = (home / "current").readlink().name
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise CorruptData(f"{home / 'current'} is no symbolic link.", hint=COPIED_HINT) from None
    return home / name


@contextmanager
def held_current(home: Path) -> Iterator[Path | None]:
    """The current directory, which is not removed while the block runs, even when another takes its place."""
    while (path := current(home)) is not None:
        try:
            with shared(path):
                # An editor may have replaced and removed it before the lock was ours.
                if current(home) == path:
                    yield path
                    return
        except FileNotFoundError:
            if current(home) == path:
                raise
    yield None


@contextmanager
def openable(path: Path) -> Iterator[Path]:
    """A directory with the same rows that Chroma can open, which writes even where it only reads.

    It is `path` itself, or a copy for the time of the block where this process may not write there.
    """
    if os.access(path, os.W_OK) and os.access(path / SQLITE_FILE, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="embedpipe-") as folder:
        copy_version(path, Path(folder, path.name))
        yield Path(folder, path.name)


def sweep(home: Path) -> None:
    """Remove drafts of dead editors and versions that nobody reads any more. The caller is the editor."""
    keep = current(home)
    if keep is not None:
        (home / ONCE_CURRENT).touch()
    elif (home / ONCE_CURRENT).exists():
        raise CorruptData(
            f"{home / 'current'} is missing: nothing says which of the versions beside it is the collection.",
            hint=COPIED_HINT,
        )
    for path in home.iterdir():
        if _VERSION.fullmatch(path.name) and path != keep:
            with unshared(path) as alone:
                if alone:
                    shutil.rmtree(path)


def draft_path(home: Path) -> Path:
    """A directory for the next version, not made yet."""
    numbers = [int(found[1]) for path in home.iterdir() if (found := _VERSION.fullmatch(path.name))]
    return home / f"v{max(numbers, default=0) + 1}"


def copy_version(source: Path, target: Path) -> None:
    """Copy a Chroma directory that others may be reading (readers, too, write to its database). `target` may be there."""
    target.mkdir(exist_ok=True)
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}/{SQLITE_FILE}?mode=ro", uri=True)) as origin,
        closing(sqlite3.connect(target / SQLITE_FILE)) as copy,
    ):
        origin.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
        origin.backup(copy)
    for folder in source.iterdir():
        if folder.is_dir() and (folder / INDEX_READY_FILE).exists():
            shutil.copytree(folder, target / folder.name)


def promote(home: Path, path: Path) -> None:
    """Make a closed draft the current version. When this returns, a power cut loses nothing of it."""
    for folder, _, files in os.walk(path):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))
    link = home / ".current.part"
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
    link.replace(home / "current")
    (home / ONCE_CURRENT).touch()
    _sync(home)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

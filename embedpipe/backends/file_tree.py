"""Directories below a root: opened name by name without following links, made durably, and walked in the order of keys.

Knows file names (`file_names`), and nothing of objects' contents or of writers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from embedpipe.backends.file_names import CONTINUED, decode_segment, encode_segment
from embedpipe.model import BlobInfo

__all__ = ["Names", "make_directory", "open_directory", "remove_empty", "walk"]

Names = tuple[bytes, ...]
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


def make_directory(path: Path) -> None:
    """Make it with its parents, so that it is still there after a loss of power."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    parent = os.open(path.parent, _DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


@contextmanager
def open_directory(root: Path, names: Names, *, create: bool = False) -> Iterator[int]:
    """A descriptor of `root/names...`. `FileNotFoundError`, also where a name is a file or a link, unless `create`.

    With `create`, missing directories are made, and a name that is a file or a link is a `NotADirectoryError`.
    """
    current = os.open(root, _DIRECTORY)
    try:
        for name in names:
            child = _open_child(current, name, create=create)
            os.close(current)
            current = child
        yield current
    finally:
        os.close(current)


def _open_child(parent: int, name: bytes, *, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        number = errno.ENOTDIR if create else errno.ENOENT
        raise OSError(number, os.strerror(number)) from None
    try:
        os.mkdir(name, dir_fd=parent)
        os.fsync(parent)
    except FileExistsError:
        pass  # another writer was quicker
    return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def remove_empty(root: Path, names: Names) -> bool:
    """Remove the directory `names` and its parents below the root as far as they are empty; True if it was removed."""
    for depth in range(len(names), 0, -1):
        try:
            with open_directory(root, names[: depth - 1]) as parent:
                os.rmdir(names[depth - 1], dir_fd=parent)
        except OSError:
            return depth < len(names)  # not empty, or gone already
    return True


# --- walking ------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Entry:
    """One file or directory. `name`: its segment of the key, with a slash behind a directory, which gives the order."""

    name: str
    names: Names
    info: os.stat_result | None = attrs.field(eq=False)
    """None for a directory."""


def walk(root: Path, prefix: str, after: str, *, folded: bool) -> Iterator[BlobInfo]:
    """Entries whose key starts with `prefix` and is greater than `after`, by key. Holds one directory of each level.

    Comparing keys as str is comparing their UTF-8 bytes, and sorting a directory under its name with a slash behind it
    puts what it holds in the place that the keys have.
    """
    folder = prefix[: prefix.rfind("/") + 1]
    names = _names_of(folder, folded)
    if names is None:
        return
    stack = [(folder, iter(_entries(root, names, folder, prefix, after, folded)))]
    while stack:
        folder, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
        elif entry.info is None:
            inside = folder + entry.name
            stack.append((inside, iter(_entries(root, entry.names, inside, prefix, after, folded))))
        else:
            yield _info(folder + entry.name, entry.info)


def _names_of(folder: str, folded: bool) -> Names | None:
    """The names of a prefix that ends with a slash, or is empty; None where no key can start so."""
    segments = folder.split("/")[:-1]
    if any(segment in ("", ".", "..") for segment in segments):
        return None
    try:
        return tuple(name for segment in segments for name in encode_segment(segment, folded=folded))
    except UnicodeEncodeError:
        return None


def _info(key: str, info: os.stat_result) -> BlobInfo:
    return BlobInfo(key=key, size_bytes=info.st_size, modified_at=datetime.fromtimestamp(info.st_mtime, UTC))


def _entries(root: Path, names: Names, folder: str, prefix: str, after: str, folded: bool) -> list[_Entry]:
    """The entries of one directory that matter, by key."""

    def matters(name: str) -> bool:
        key = folder + name
        # `after` may lie inside a directory: then its greater half matters.
        return key.startswith(prefix) and (key > after or (name.endswith("/") and after.startswith(key)))

    found: list[_Entry] = []
    pending: list[Names] = [()]
    while pending:
        start = pending.pop()
        for name, info in _scan(root, (*names, *start)):
            if info is None and name.endswith(CONTINUED):
                pending.append((*start, name))
                continue
            segment = decode_segment((*start, name), folded=folded)
            if segment is None:
                continue
            shown = segment if info else f"{segment}/"
            if matters(shown):
                found.append(_Entry(shown, (*names, *start, name), info))
    return sorted(found, key=lambda entry: entry.name)


def _scan(root: Path, names: Names) -> Iterator[tuple[bytes, os.stat_result | None]]:
    """Name and state of each file, name and None for each directory; nothing else counts, nor what has just gone."""
    try:
        with open_directory(root, names) as directory, os.scandir(directory) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    yield os.fsencode(entry.name), None
                elif entry.is_file(follow_symlinks=False):
                    try:
                        yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
    except FileNotFoundError:
        return

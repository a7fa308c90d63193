"""An object store in a directory: one file an object, readable with `ls`, shared by threads and processes of a machine.

The rule: an object is written beside, flushed to disk, and moved to its name under a lock that every writer of that key
holds and that ends with its process. So a crash at any instant leaves the old object or the new one, and no lock.
No path is ever followed through a symbolic link below the root.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import attrs

from embedpipe.backends.blob_rules import (
    check_key,
    etag_of,
    local_errors,
    no_object,
    pieces,
    precondition_failed,
    whole_file,
)
from embedpipe.backends.file_names import encode_segment
from embedpipe.backends.file_tree import Names, make_directory, open_directory, remove_empty, walk
from embedpipe.errors import InvalidKey, Unavailable
from embedpipe.model import Blob, BlobInfo

if TYPE_CHECKING:
    from embedpipe.ports import BlobStore

__all__ = ["FilesBlobStore"]

TEMPORARY: Final = (b"%store", b"tmp")
LOCKS: Final = (b"%store", b"locks")
LOCK_COUNT: Final = 64
"""Writers of different keys seldom wait for each other, and the directory of locks stays small."""
MOVES_MAX: Final = 100
"""Tries to put a file into a directory that deleters of other keys keep removing as empty."""
_temporary_numbers: Final = itertools.count()


@attrs.frozen(kw_only=True)
class _Condition:
    if_none_match: bool = False
    if_match: str | None = None


@attrs.frozen(kw_only=True)
class _Temporary:
    directory: int
    name: str
    handle: BinaryIO


class FilesBlobStore:
    """Objects below `root`, which the first write makes. A missing root is an empty store."""

    def __init__(self, root: Path, bucket: str = "local") -> None:
        self._root = Path(root).absolute()
        self._bucket = bucket
        self._prepared = False
        self._folded: bool | None = None

    @property
    def bucket(self) -> str:
        """The name that references carry."""
        return self._bucket

    def get(self, key: str) -> Blob:
        """The whole object."""
        with self._reading(key) as handle:
            data = handle.read()
        return Blob(data=data, etag=etag_of(data))

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """Write and return the etag. On disk when it returns."""
        return self._write(key, (data,), _Condition(if_none_match=if_none_match, if_match=if_match))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        """Entries by key. Reads one directory at a time."""
        with local_errors(f"Listing {self._root}"):
            yield from walk(self._root, prefix, after or "", folded=self._is_folded())

    def delete(self, key: str) -> None:
        """Remove, with the directories that it leaves empty; quiet where nothing is."""
        names = self._names(key)
        with local_errors(f"Deleting {key!a} in {self._root}"):
            if not self._exists(names):
                return  # also keeps a store that is only read from getting a directory of locks
            with self._lock(key), suppress(FileNotFoundError), open_directory(self._root, names[:-1]) as directory:
                if _is_file(directory, names[-1]):
                    os.unlink(names[-1], dir_fd=directory)
                    os.fsync(directory)
            remove_empty(self._root, names[:-1])

    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        """Write a file's bytes, a megabyte at a time."""
        check_key(key)
        with local_errors(f"Reading {path}"), path.open("rb") as source:
            return self._write(key, pieces(source), _Condition(if_none_match=if_none_match))

    def download(self, key: str, path: Path) -> None:
        """Read into a new file, a megabyte at a time."""
        with self._reading(key) as source, whole_file(path) as target:
            for piece in pieces(source):
                target.write(piece)

    # --- reading --------------------------------------------------------------------------------------------------

    def _is_folded(self) -> bool:
        if self._folded is None:
            with local_errors(f"Reading {self._root}"):
                self._folded = _ignores_case(self._root)
        return self._folded

    def _names(self, key: str) -> Names:
        segments = check_key(key).split("/")
        return tuple(name for segment in segments for name in encode_segment(segment, folded=self._is_folded()))

    @contextmanager
    def _reading(self, key: str) -> Iterator[BufferedReader]:
        names = self._names(key)
        with local_errors(f"Reading {key!a} in {self._root}"):
            handle = self._open(names)
            if handle is None:
                raise no_object(key, self._bucket)
            with handle:
                yield handle

    def _open(self, names: Names) -> BufferedReader | None:
        try:
            with open_directory(self._root, names[:-1]) as directory:
                if not _is_file(directory, names[-1]):
                    return None
                return os.fdopen(os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory), "rb")
        except FileNotFoundError:
            return None

    def _exists(self, names: Names) -> bool:
        try:
            with open_directory(self._root, names[:-1]) as directory:
                return _is_file(directory, names[-1])
        except FileNotFoundError:
            return False

    # --- writing --------------------------------------------------------------------------------------------------

    def _write(self, key: str, data: Iterable[bytes], condition: _Condition) -> str:
        names = self._names(key)
        with local_errors(f"Writing {key!a} in {self._root}"):
            self._check(key, names, condition)  # before the work; what counts is the check under the lock
            self._prepare()
            with self._temporary() as temporary:
                digest = hashlib.sha256()
                for piece in data:
                    digest.update(piece)
                    temporary.handle.write(piece)
                temporary.handle.flush()
                os.fsync(temporary.handle.fileno())
                with self._lock(key):
                    self._check(key, names, condition)
                    self._move(key, temporary, names)
        return f'"{digest.hexdigest()}"'

    def _check(self, key: str, names: Names, condition: _Condition) -> None:
        if condition.if_none_match and self._exists(names):
            raise precondition_failed(key, self._bucket, "exists")
        if condition.if_match is not None:
            found = self._open(names)
            if found is None:
                raise precondition_failed(key, self._bucket, "does not exist")
            with found:
                etag = f'"{hashlib.file_digest(found, "sha256").hexdigest()}"'
            if etag != condition.if_match:
                raise precondition_failed(key, self._bucket, "has changed")

    def _move(self, key: str, temporary: _Temporary, names: Names) -> None:
        for _ in range(MOVES_MAX):
            try:
                with open_directory(self._root, names[:-1], create=True) as directory:
                    os.rename(temporary.name, names[-1], src_dir_fd=temporary.directory, dst_dir_fd=directory)
                    os.fsync(directory)
                    return
            except FileNotFoundError:
                continue  # a deleter removed the directory as empty between our opening it and our moving into it
            except IsADirectoryError:
                if not remove_empty(self._root, names):
                    raise InvalidKey(f"Object key {key!a} is a folder of {self._root}.") from None
            except NotADirectoryError:
                raise InvalidKey(f"Object key {key!a} has a file or a link of {self._root} as its folder.") from None
        raise Unavailable(f"Writing {key!a} in {self._root}: its directory was removed {MOVES_MAX} times.")

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        shard = hashlib.sha256(key.encode()).digest()[0] % LOCK_COUNT
        with open_directory(self._root, LOCKS, create=True) as directory:
            # A new description each time, because flock parts descriptions: so it parts threads too.
            lock = os.open(f"{shard:02}", os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666, dir_fd=directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _temporary(self) -> Iterator[_Temporary]:
        """A file to write, then to move away; removed when the block fails."""
        with open_directory(self._root, TEMPORARY, create=True) as directory:
            name, descriptor = _new_temporary(directory)
            try:
                with os.fdopen(descriptor, "wb") as handle:
                    yield _Temporary(directory=directory, name=name, handle=handle)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
                raise

    def _prepare(self) -> None:
        """Once before the first write: make the root, and remove what writers that were killed left behind."""
        if self._prepared:
            return
        make_directory(self._root)
        with open_directory(self._root, TEMPORARY, create=True) as directory:
            for name in os.listdir(directory):
                _sweep(directory, name)
        self._prepared = True


def _is_file(directory: int, name: bytes) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _new_temporary(directory: int) -> tuple[str, int]:
    """A new file, locked for as long as it is open: `_sweep` knows by that whether its writer lives."""
    while True:
        name = f"{os.getpid()}-{next(_temporary_numbers)}"
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=directory)
        except FileExistsError:
            continue  # of a dead process that had our number
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return name, descriptor
        os.close(descriptor)  # swept between the two calls


def _sweep(directory: int, name: str) -> None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    except OSError:
        return  # moved to its place meanwhile, or not ours to touch
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    except OSError:
        return  # its writer lives, or has moved it meanwhile
    finally:
        os.close(descriptor)


def _ignores_case(root: Path) -> bool:
    """Whether the file system takes `a` and `A` for one name, judged by the root's own name."""
    existing = next((path for path in (root, *root.parents) if path.exists()), root)
    swapped = existing.with_name(existing.name.swapcase()) if existing.name else existing
    return swapped.name != existing.name and swapped.exists() and swapped.samefile(existing)


if TYPE_CHECKING:
    _: type[BlobStore] = FilesBlobStore

"""An object store in memory, with the whole contract of the port.

Every method is one step under one lock, and a listing is one such step for each page of 1,000, as it is in S3.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from embedpipe.backends.blob_rules import (
    check_key,
    etag_of,
    local_errors,
    no_object,
    precondition_failed,
    whole_file,
)
from embedpipe.backends.system import SystemClock
from embedpipe.limits import LIST_PAGE_KEYS
from embedpipe.model import Blob, BlobInfo
from embedpipe.ports import Clock

if TYPE_CHECKING:
    from embedpipe.ports import BlobStore

__all__ = ["MemoryBlobStore"]


@attrs.frozen
class _Stored:
    data: bytes
    etag: str
    modified_at: datetime


class MemoryBlobStore:
    """Objects in a dict. `clock` gives `modified_at`."""

    def __init__(self, bucket: str = "memory", *, clock: Clock | None = None) -> None:
        self._bucket = bucket
        self._clock = clock or SystemClock()
        self._objects: dict[str, _Stored] = {}
        self._keys: list[str] = []  # sorted; the order of str is that of its UTF-8 bytes
        self._lock = threading.RLock()

    @property
    def bucket(self) -> str:
        """The name that references carry."""
        return self._bucket

    def get(self, key: str) -> Blob:
        """The whole object."""
        stored = self._find(check_key(key))
        return Blob(data=stored.data, etag=stored.etag)

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """Write and return the etag."""
        check_key(key)
        stored = _Stored(bytes(data), etag_of(data), self._clock.now())
        with self._lock:
            before = self._objects.get(key)
            if if_none_match and before is not None:
                raise precondition_failed(key, self._bucket, "exists")
            if if_match is not None and (before is None or before.etag != if_match):
                raise precondition_failed(key, self._bucket, "has changed" if before else "does not exist")
            self._set(key, stored)
        return stored.etag

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        """Entries by key."""
        while page := self._page(prefix, after):
            yield from page
            after = page[-1].key

    def delete(self, key: str) -> None:
        """Remove; quiet where nothing is."""
        check_key(key)
        with self._lock:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        """Write a file's bytes."""
        check_key(key)
        with local_errors(f"Reading {path}"):
            data = path.read_bytes()
        return self.put(key, data, if_none_match=if_none_match)

    def download(self, key: str, path: Path) -> None:
        """Read into a new file."""
        stored = self._find(check_key(key))
        with whole_file(path) as handle:
            handle.write(stored.data)

    def contents(self) -> dict[str, bytes]:
        """Every object, by key in order: for tests and the simulator."""
        with self._lock:
            return {key: self._objects[key].data for key in self._keys}

    def write_raw(self, key: str, data: bytes) -> None:
        """Change an object around the port, as another program would: no check, no condition."""
        with self._lock:
            self._set(key, _Stored(data, etag_of(data), self._clock.now()))

    def _find(self, key: str) -> _Stored:
        with self._lock:
            stored = self._objects.get(key)
        if stored is None:
            raise no_object(key, self._bucket)
        return stored

    def _set(self, key: str, stored: _Stored) -> None:
        if key not in self._objects:
            insort(self._keys, key)
        self._objects[key] = stored

    def _page(self, prefix: str, after: str | None) -> tuple[BlobInfo, ...]:
        with self._lock:
            start = bisect_left(self._keys, prefix)
            if after is not None:
                start = max(start, bisect_right(self._keys, after))
            page = [key for key in self._keys[start : start + LIST_PAGE_KEYS] if key.startswith(prefix)]
            return tuple(self._info(key, self._objects[key]) for key in page)

    def _info(self, key: str, stored: _Stored) -> BlobInfo:
        return BlobInfo(key=key, size_bytes=len(stored.data), modified_at=stored.modified_at)


if TYPE_CHECKING:
    _: type[BlobStore] = MemoryBlobStore

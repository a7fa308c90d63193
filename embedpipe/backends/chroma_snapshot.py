"""A Chroma directory as the files of one published version: sent to an object store, and fetched from it, verified.

`collection.json` is written last and names every file with its hash, so a version without it does not exist, and what is
fetched is what was sent. Files are streamed. Knows nothing of pointers, locks or caches.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from embedpipe.backends.blob_rules import check_key, local_errors
from embedpipe.backends.chroma_collection import mapped_errors
from embedpipe.backends.chroma_versions import INDEX_READY_FILE, SQLITE_FILE
from embedpipe.errors import CorruptData, InvalidKey, NotFound
from embedpipe.layout import Layout
from embedpipe.ports import BlobStore
from embedpipe.wire import CollectionFiles, FileHash

__all__ = ["fetch", "files_at", "send"]

RESTORE: Final = "Restore it from a backup, or roll back to an older version."


def send(objects: BlobStore, layout: Layout, prefix: str, folder: Path, *, database: str, collection: str) -> bytes:
    """Store a closed Chroma directory under `prefix`; what `collection.json` says. The database file is made compact first."""
    _vacuum(folder / SQLITE_FILE)
    files = []
    for path in _stored_files(folder):
        name = path.relative_to(folder).as_posix()
        files.append(FileHash(name=name, sha256=_sha256(path), size_bytes=path.stat().st_size))
        objects.upload(f"{prefix}{layout.collection_folder}{name}", path)
    data = CollectionFiles(database=database, collection=collection, files=tuple(files)).dump()
    objects.put(prefix + layout.collection_file, data)
    return data


def files_at(objects: BlobStore, layout: Layout, prefix: str) -> tuple[CollectionFiles, bytes]:
    """What a version is made of, checked, and the bytes that say so. `NotFound`, `CorruptData`."""
    key = prefix + layout.collection_file
    data = objects.get(key).data
    found = CollectionFiles.load(data, key)
    for file in found.files:
        try:
            check_key(file.name)
        except InvalidKey as error:
            raise CorruptData(f"{key}: {error}", hint=RESTORE, key=key) from None
    if SQLITE_FILE not in {file.name for file in found.files}:
        raise CorruptData(f"{key} names no {SQLITE_FILE}.", hint=RESTORE, key=key)
    return found, data


def fetch(objects: BlobStore, layout: Layout, prefix: str, files: CollectionFiles, folder: Path) -> None:
    """Download a version's files into an empty directory, each checked by its hash. `CorruptData`, `StorageFull`."""
    for file in files.files:
        key, path = f"{prefix}{layout.collection_folder}{file.name}", folder / file.name
        with local_errors(f"Making {path.parent}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            objects.download(key, path)
        except NotFound:
            raise CorruptData(f"{key} is missing.", hint=RESTORE, key=key) from None
        if path.stat().st_size != file.size_bytes or _sha256(path) != file.sha256:
            path.unlink()
            raise CorruptData(f"{key} fails its hash.", hint=RESTORE, key=key)


def _stored_files(folder: Path) -> Iterator[Path]:
    """The database and every complete index. An index without its last file is made anew by Chroma, from its log."""
    yield folder / SQLITE_FILE
    for index in sorted(folder.iterdir()):
        if index.is_dir() and (index / INDEX_READY_FILE).exists():
            yield from sorted(path for path in index.iterdir() if path.is_file())


def _vacuum(path: Path) -> None:
    """Give back the pages of rows that were replaced, and of Chroma's log."""
    with mapped_errors(str(path)), closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("VACUUM")


def _sha256(path: Path) -> str:
    with local_errors(f"Reading {path}"), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

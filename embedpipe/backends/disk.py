"""Files that appear whole or not at all, on a local disk. The rule: written beside, synced, then renamed.

A temporary file is named after its target, so a dead writer's rest is overwritten by the next; two writers of one target
need a lock or the same bytes. The disk's errors come out as ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from embedpipe.errors import CHECK_PERMISSIONS, DENIED_ERRNOS, NotFound, ServiceError, Unauthorized, full_disk


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Inside it, `OSError` comes out as `NotFound`, `StorageFull`, `Unauthorized` or `ServiceError` naming `what`."""
    try:
        with full_disk(what):
            yield
    except OSError as error:
        if isinstance(error, ServiceError):
            raise
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"{what} is not there.") from error
        if error.errno in DENIED_ERRNOS:
            raise Unauthorized(f"{what}: {error.strerror}.", hint=CHECK_PERMISSIONS) from error
        raise ServiceError(f"{what}: {error.strerror or error}.") from error


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file `path` when the block ends well; else nothing changes."""
    temporary = path.with_name(f".{path.name}.part")
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Make or replace the file."""
    with written(path) as stream:
        stream.write(data)


def copy_in(source: Path, path: Path) -> None:
    """Make or replace the file with the bytes of another. `NotFound` where `source` is not."""
    with disk_errors(str(source)), source.open("rb") as origin, written(path) as stream:
        shutil.copyfileobj(origin, stream, 1 << 20)


def read_or_none(path: Path) -> bytes | None:
    """The bytes, or None where there is no file."""
    with disk_errors(str(path)):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _sync_directory(path: Path) -> None:
    # Without it a power cut may forget the rename itself.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

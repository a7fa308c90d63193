"""What every object store does alike: which keys it refuses, what an etag is, and how a local file appears whole.

The rule: a bad key is refused before any effect, with the same words everywhere. Knows no store.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from embedpipe.errors import (
    CHECK_PERMISSIONS,
    DENIED_ERRNOS,
    EmbedpipeError,
    InvalidKey,
    NotFound,
    PreconditionFailed,
    ServiceError,
    Unauthorized,
    Unavailable,
    full_disk,
)
from embedpipe.limits import KEY_BYTES_MAX

__all__ = [
    "PIECE_BYTES",
    "check_key",
    "etag_of",
    "local_errors",
    "no_object",
    "pieces",
    "precondition_failed",
    "whole_file",
]

PIECE_BYTES: Final = 1 << 20
"""Bytes held at a time when a file is streamed."""

_parts: Final = itertools.count()


@lru_cache(maxsize=4_096)
def check_key(key: str) -> str:
    """Return `key` if it is one: non-empty segments joined by `/`, none of them `.` or `..`, up to 1,024 UTF-8 bytes.

    >>> check_key("words/delta/1.json")
    'words/delta/1.json'
    >>> check_key("a/../b")
    Traceback (most recent call last):
    embedpipe.errors.InvalidKey: Object key 'a/../b' has the segment '..'.
    """
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"Object key {ascii(key)[:80]} is not valid Unicode (a lone surrogate).") from None
    if size_bytes > KEY_BYTES_MAX:
        raise InvalidKey(
            f"Object key {ascii(key)[:80]}... has {size_bytes} bytes; at most {KEY_BYTES_MAX} are allowed."
        )
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            named = f"the segment '{segment}'" if segment else "an empty segment"
            raise InvalidKey(f"Object key {ascii(key)[:80]} has {named}.")
    return key


def etag_of(data: bytes) -> str:
    """The etag of an object: the quoted SHA-256 of its bytes.

    >>> etag_of(b"")[:9]
    '"e3b0c442'
    """
    return f'"{hashlib.sha256(data).hexdigest()}"'


def no_object(key: str, bucket: str) -> NotFound:
    """The answer where no object is."""
    return NotFound(f"There is no object {ascii(key)[:200]} in {bucket}.", key=key, bucket=bucket)


def precondition_failed(key: str, bucket: str, found: str) -> PreconditionFailed:
    """The answer to a conditional write that met another state; `found` says which."""
    return PreconditionFailed(f"Object {ascii(key)[:200]} in {bucket} {found}; nothing was written.", key=key)


def pieces(handle: BinaryIO) -> Iterator[bytes]:
    """The rest of an open file, in pieces."""
    while piece := handle.read(PIECE_BYTES):
        yield piece


@contextmanager
def local_errors(what: str) -> Iterator[None]:
    """Turn the operating system's errors into ours. `what` names the object and what was done with it."""
    try:
        with full_disk(what):
            yield
    except EmbedpipeError:
        raise  # some of ours are an OSError too
    except OSError as error:
        raise _mapped(error, what) from error


def _mapped(error: OSError, what: str) -> ServiceError:
    why = error.strerror or type(error).__name__
    if error.errno in DENIED_ERRNOS:
        return Unauthorized(f"{what}: {why}.", hint=CHECK_PERMISSIONS)
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return NotFound(f"{what}: {why}.")
    if isinstance(error, FileExistsError):
        return ServiceError(f"{what}: {why}.", hint="A file is where a directory should be; move it away.")
    return Unavailable(f"{what}: {why}.", hint="Look at the system's log for the state of the disk.")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that appears at `path` when the block ends well, and leaves nothing when it does not.

    It is a copy: after a power cut it is made again, so nothing waits for the disk here.
    """
    with local_errors(f"Writing {path}"):
        part = path.with_name(f".part-{os.getpid()}-{next(_parts)}")
        try:
            with part.open("xb") as handle:
                yield handle
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

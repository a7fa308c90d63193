"""A lock between threads and processes of one machine: `flock` on a file or directory, held from `with` to its end.

The rule: a live holder never loses it, and a dead one never keeps it, because the kernel drops it with the process. Each
holder opens the path anew, so threads of one process exclude each other too. Not for network file systems.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for and hold the exclusive lock on a file, made if need be. The file stays when it is released."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with _held(descriptor, fcntl.LOCK_EX):
        yield


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Wait for and hold the exclusive lock on a directory. `FileNotFoundError` where it is not."""
    with _held(os.open(directory, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX):
        yield


@contextmanager
def shared(directory: Path) -> Iterator[None]:
    """Hold a lock on a directory that others may share too. `FileNotFoundError` where it is not."""
    with _held(os.open(directory, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH):
        yield


@contextmanager
def unshared(directory: Path) -> Iterator[bool]:
    """Try to hold a directory alone; False, at once, where somebody shares it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    with _held(descriptor, fcntl.LOCK_EX):
        yield True


@contextmanager
def _held(descriptor: int, operation: int) -> Iterator[None]:
    try:
        fcntl.flock(descriptor, operation)
        try:
            yield
        finally:
            # A forked child has a copy of the descriptor; closing ours alone would leave the lock with it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)

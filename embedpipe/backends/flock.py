"""A lock between threads and processes of one machine: `flock` on a file, held from `with` to its end.

The rule: a live holder never loses it, and a dead one never keeps it, because the kernel drops it with the process. Each
holder opens the file anew, so threads of one process exclude each other too. Not for network file systems.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for and hold the lock; many may share it where all ask for `shared`. The file stays when it is released."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            # A forked child has a copy of the descriptor; closing ours alone would leave the lock with it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)

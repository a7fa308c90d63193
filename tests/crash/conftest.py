"""The server that forks quickly, and a place for its roots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEMORY_DISK = Path("/dev/shm")
"""A killed process loses nothing there, and syncing costs nothing."""

Run = Callable[..., list[int]]


@pytest.fixture(scope="module")
def memory_disk() -> Iterator[Path]:
    """A folder on a disk in memory, where there is one."""
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def run(memory_disk: Path) -> Iterator[Run]:
    """Runs jobs at the same time, each in a process of its own, and returns their exit statuses."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(memory_disk)},  # those who are killed leave their files there
    )
    assert server.stdin is not None
    assert server.stdout is not None
    stdin, stdout = server.stdin, server.stdout

    def run_jobs(*jobs: dict[str, Any]) -> list[int]:
        stdin.write(json.dumps(jobs) + "\n")
        stdin.flush()
        statuses: list[int] = json.loads(stdout.readline())
        return statuses

    with server:
        yield run_jobs
        stdin.close()


@pytest.fixture
def new_root(memory_disk: Path) -> Iterator[Callable[[], Path]]:
    """Makes empty roots."""
    with tempfile.TemporaryDirectory(dir=memory_disk) as folder:
        yield lambda: Path(tempfile.mkdtemp(dir=folder))

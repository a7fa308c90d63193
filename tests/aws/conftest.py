"""Scratch files in memory, where the system has a place for that: each invocation makes some, and there are thousands."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IN_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="package", autouse=True)
def _scratch_in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tmp_path_factory.getbasetemp()  # stays where it is: pytest keeps it for a while
    with pytest.MonkeyPatch.context() as patch:
        if os.access(IN_MEMORY, os.W_OK):
            patch.setattr(tempfile, "tempdir", str(IN_MEMORY))
        yield

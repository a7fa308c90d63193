"""A limit on the size of files is a full disk to whoever writes: every writer says so, and names what it wrote."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedpipe.backends.disk import write_bytes
from embedpipe.backends.files import FilesBlobStore
from embedpipe.backends.sqlite import SqliteBatchTable
from embedpipe.errors import ServiceError, StorageFull
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.vectors import Scratch, write_arrow

LIMIT_BYTES = 100_000


@contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def arrow_file(path: Path) -> None:
    write_arrow(path, pa.schema([pa.field("n", pa.int64(), False)]), [pa.record_batch({"n": np.arange(LIMIT_BYTES)})])


def rows_on_disk(path: Path) -> None:
    with Scratch(path, LIMIT_BYTES) as scratch:
        scratch.append(np.ones(LIMIT_BYTES, np.float32))
        list(scratch.batches(np.array([0])))


WRITERS: dict[str, Callable[[Path], None]] = {
    "arrow": arrow_file,
    "scratch": rows_on_disk,
    "disk": lambda path: write_bytes(path, bytes(2 * LIMIT_BYTES)),
    "objects": lambda path: FilesBlobStore(path.parent).put(path.name, bytes(2 * LIMIT_BYTES)) and None,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_on_files_is_a_full_disk(tmp_path: Path, name: str) -> None:
    with small_files(), pytest.raises(StorageFull, match="target") as caught:
        WRITERS[name](tmp_path / "target")
    assert "Free some space, or raise the limit on it" in caught.value.hint
    assert not (tmp_path / "target").exists()


def test_sqlite_which_cannot_tell_names_the_possibility(tmp_path: Path) -> None:
    table = SqliteBatchTable(tmp_path / "table")
    row = BatchRow(batch_id="b", batch_type="W", status=Status.PENDING, reason="x" * 2 * LIMIT_BYTES)
    with small_files(), pytest.raises(ServiceError, match="limit on the size of files") as caught:
        table.put_new(row)
    assert "disk I/O error" not in str(caught.value)

"""The shipped suites themselves: each promise of a port, broken on purpose in a backend, is caught by the test that names it.

A backend here is right but for one fault. The suites' tests are called by hand, as pytest would call them.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.errors import EmbedpipeError
from tests.contract.broken_batch_tables import FAULTS as TABLE_FAULTS
from tests.contract.broken_blob_stores import FAULTS as BLOB_FAULTS
from verify.contracts import BatchTableContract, BlobStoreContract

CAUGHT: Final = (AssertionError, pytest.fail.Exception, EmbedpipeError, KeyError, RuntimeError, UnicodeError)


class BlobSuite(BlobStoreContract):
    large_bytes = 1 << 20

    def __init__(self, backend: Callable[[], Any] = MemoryBlobStore) -> None:
        self.backend = backend

    def create(self) -> Any:
        return self.backend()

    def connect(self, store: Any) -> Any:
        return store.connection() if hasattr(store, "connection") else store

    def raw_read(self, store: Any, key: str) -> bytes | None:
        return store.contents().get(key)

    def raw_write(self, store: Any, key: str, data: bytes) -> None:
        store.write_raw(key, data)


class TableSuite(BatchTableContract):
    def __init__(self, backend: Callable[[], Any] = MemoryBatchTable) -> None:
        self.backend = backend

    def create(self) -> Any:
        return self.backend()

    def connect(self, store: Any) -> Any:
        return store.connection() if hasattr(store, "connection") else store

    def raw_read(self, store: Any, batch_id: str) -> Mapping[str, Any] | None:
        return store.read_raw(batch_id)

    def raw_write(self, store: Any, batch_id: str, item: Mapping[str, Any]) -> None:
        store.write_raw(item)


def call(suite: Any, name: str, tmp_path: Path) -> None:
    """Run one test of a suite on a fresh store."""
    store = suite.create()
    fixtures = {
        "store": store,
        "port": suite.connect(store),
        "open_port": lambda: suite.connect(store),
        "tmp_path": tmp_path,
    }
    test = getattr(suite, name)
    test(**{parameter: fixtures[parameter] for parameter in inspect.signature(test).parameters})


def names_of(suite: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(suite, inspect.isfunction) if name.startswith("test_")}


@pytest.mark.parametrize(("backend", "name"), BLOB_FAULTS)
def test_a_broken_object_store_is_caught(backend: type[MemoryBlobStore], name: str, tmp_path: Path) -> None:
    with pytest.raises(CAUGHT):
        call(BlobSuite(backend), name, tmp_path)


@pytest.mark.parametrize(("backend", "name"), TABLE_FAULTS)
def test_a_broken_table_is_caught(backend: type[MemoryBatchTable], name: str, tmp_path: Path) -> None:
    with pytest.raises(CAUGHT):
        call(TableSuite(backend), name, tmp_path)


@pytest.mark.parametrize("suite", [BlobSuite, TableSuite])
def test_without_a_fault_all_pass_when_called_in_this_way(suite: type, tmp_path: Path) -> None:
    for name in sorted(names_of(suite)):
        folder = tmp_path / name
        folder.mkdir()
        call(suite(), name, folder)


# --- a suite that is not whole ---------------------------------------------------------------------------------------


def test_a_suite_that_lacks_a_method_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"Half does not define raw_write. It must have: raw_write\(self, store, key, data"
    ):
        type("Half", (BlobStoreContract,), {name: vars(BlobSuite)[name] for name in ("create", "connect", "raw_read")})
    with pytest.raises(TypeError, match="Bare does not define connect, create, raw_read, raw_write"):
        type("Bare", (BatchTableContract,), {})


def test_a_base_of_suites_may_lack_methods_and_what_derives_from_it_may_not() -> None:
    class Base(BatchTableContract, abstract=True):
        def create(self) -> object:
            return object()

    with pytest.raises(TypeError, match="Derived does not define connect, raw_read, raw_write"):
        type("Derived", (Base,), {})


def test_pytest_stops_at_a_suite_that_lacks_a_method(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from verify.contracts import BlobStoreContract\n"
        "class TestMine(BlobStoreContract):\n"
        "    def create(self): return {}\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert found.returncode == pytest.ExitCode.INTERRUPTED
    assert "TestMine does not define connect, raw_read, raw_write." in found.stdout


def test_every_test_of_the_suites_is_failed_by_a_broken_backend() -> None:
    assert {name for _, name in BLOB_FAULTS} == names_of(BlobSuite)
    assert {name for _, name in TABLE_FAULTS} == names_of(TableSuite)

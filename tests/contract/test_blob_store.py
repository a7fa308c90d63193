"""The object stores that are shipped, against the shipped suite, and what is special about each."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from embedpipe.backends.files import FilesBlobStore
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.errors import InvalidKey, NotFound, PreconditionFailed, ServiceError
from tests.contract.processes import finish, run_on_small_disk, start
from verify.contracts import BlobStoreContract


class TestMemoryBlobStore(BlobStoreContract):
    def create(self) -> MemoryBlobStore:
        return MemoryBlobStore()

    def connect(self, store: MemoryBlobStore) -> MemoryBlobStore:
        return store

    def raw_read(self, store: MemoryBlobStore, key: str) -> bytes | None:
        return store.contents().get(key)

    def raw_write(self, store: MemoryBlobStore, key: str, data: bytes) -> None:
        store.write_raw(key, data)


class TestFilesBlobStore(BlobStoreContract):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.root = tmp_path_factory.mktemp("store") / "objects"

    def create(self) -> Path:
        return self.root

    def connect(self, store: Path) -> FilesBlobStore:
        return FilesBlobStore(store)

    def raw_read(self, store: Path, key: str) -> bytes | None:
        path = store / key
        return path.read_bytes() if path.exists() else None

    def raw_write(self, store: Path, key: str, data: bytes) -> None:
        path = store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# --- files: what is special ------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> FilesBlobStore:
    return FilesBlobStore(tmp_path / "objects")


def keys(store: FilesBlobStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def leftovers(root: Path) -> list[Path]:
    return list((root / "%store" / "tmp").iterdir())


COUNT_UP = """
    import sys
    from pathlib import Path
    from embedpipe.backends.files import FilesBlobStore
    from embedpipe.errors import PreconditionFailed

    store, name, moves = FilesBlobStore(Path(sys.argv[1])), sys.argv[2], 0
    while moves < 40:
        blob = store.get("counter")
        try:
            store.put("counter", b"%d" % (int(blob.data) + 1), if_match=blob.etag)
            moves += 1
        except PreconditionFailed:
            pass
    won = 0
    for number in range(100):
        try:
            store.put(f"once/{number}", name.encode(), if_none_match=True)
            won += 1
        except PreconditionFailed:
            pass
    print(won)
"""


def test_conditions_hold_between_processes(store: FilesBlobStore, tmp_path: Path) -> None:
    store.put("counter", b"0")
    processes = [start(COUNT_UP, tmp_path / "objects", name) for name in "abcd"]
    won = [int(finish(process)) for process in processes]
    assert store.get("counter").data == b"160"
    assert sum(won) == 100
    holders = [store.get(f"once/{number}").data.decode() for number in range(100)]
    assert [holders.count(name) for name in "abcd"] == won


PUT_FOR_EVER = """
    import sys
    from pathlib import Path
    from embedpipe.backends.files import FilesBlobStore

    store = FilesBlobStore(Path(sys.argv[1]))
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        data = b"%08d" % number * 25_000
        store.put("object", data)
        store.put(f"new/{number % 20}/object", data)
        store.delete(f"new/{(number + 10) % 20}/object")
"""


def test_a_killed_writer_leaves_whole_objects_and_no_lock(store: FilesBlobStore, tmp_path: Path) -> None:
    etag = store.put("object", b"00000000" * 25_000)
    stale = 0
    for attempt in range(8):
        process = start(PUT_FOR_EVER, tmp_path / "objects")
        assert process.stdout is not None
        process.stdout.readline()
        # Meanwhile, read; and die at another moment each time.
        for _ in range(5 + 7 * attempt):
            data = store.get("object").data
            assert data == data[:8] * 25_000
        process.kill()
        process.communicate()
        for info in store.list(""):
            data = store.get(info.key).data
            assert data == data[:8] * 25_000
        etag = store.put("object", data, if_match=store.get("object").etag)  # would wait for ever on a lock
        stale += len(leftovers(tmp_path / "objects"))
    assert etag
    assert stale, "no writer was killed while it wrote: this test tests nothing"
    FilesBlobStore(tmp_path / "objects").put("other", b"")
    assert leftovers(tmp_path / "objects") == []


def test_a_store_that_is_opened_leaves_living_writers_alone(store: FilesBlobStore, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=store.upload, args=("slow", pipe))
    writer.start()
    with pipe.open("wb") as handle:
        handle.write(bytes(3 << 20))  # more than the pipe holds, so the upload has begun
        FilesBlobStore(tmp_path / "objects").put("quick", b"")
        assert leftovers(tmp_path / "objects") != []
    writer.join()
    assert keys(store) == ["quick", "slow"]
    assert leftovers(tmp_path / "objects") == []


FILL_OBJECTS = """
    import sys
    from pathlib import Path
    from embedpipe.backends.files import FilesBlobStore
    from embedpipe.errors import StorageFull

    store = FilesBlobStore(Path(sys.argv[1]) / "objects")
    store.put("object", b"old")
    try:
        store.put("object", bytes(2 << 20))
    except StorageFull as error:
        print(error)
    store.put("object", store.get("object").data + b", and there is room again")
    print(store.get("object").data.decode(), [info.key for info in store.list("")])
"""


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    error, after = run_on_small_disk(FILL_OBJECTS, tmp_path, tmp_path).splitlines()
    assert "No space left" in error
    assert "Free some space" in error
    assert after == "old, and there is room again ['object']"


WITHOUT_RIGHTS = """
    import os, sys
    from pathlib import Path
    from embedpipe.backends.files import FilesBlobStore
    from embedpipe.backends.sqlite import SqliteBatchTable
    from embedpipe.errors import Unauthorized
    from embedpipe.lifecycle import Status
    from embedpipe.model import BatchRow

    if os.getuid() == 0:
        os.setuid(65534)  # no rights stop root
    root = Path(sys.argv[1])
    row = BatchRow(batch_id="b", batch_type="WORD_EMBEDDING", status=Status.PENDING)
    for call in (
        lambda: FilesBlobStore(root).put("object", b""),
        lambda: FilesBlobStore(root / "folder").put("object", b""),
        lambda: SqliteBatchTable(root / "table").put_new(row),
        lambda: SqliteBatchTable(root / "folder" / "table").put_new(row),
    ):
        try:
            call()
        except Unauthorized as error:
            print(error.code, bool(error.hint))
"""


def test_missing_rights_are_said(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert finish(start(WITHOUT_RIGHTS, locked)).splitlines() == ["unauthorized True"] * 4


def test_keys_are_readable_with_ls(store: FilesBlobStore, tmp_path: Path) -> None:
    store.put("words/delta/words/receipt_words/0b5c-1/delta.json", b"{}")
    store.put("odd/50% é.", b"")
    assert (tmp_path / "objects/words/delta/words/receipt_words/0b5c-1/delta.json").read_bytes() == b"{}"
    assert [path.name for path in (tmp_path / "objects/odd").iterdir()] == ["50%25 é%2E"]


def test_no_link_is_followed(store: FilesBlobStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.put("inside/object", b"1")
    root = tmp_path / "objects"
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "inside" / "loop").symlink_to(root)
    assert keys(store) == ["inside/object"]
    assert keys(store, "folder/") == []
    for key in ("folder/secret", "file", "inside/loop/inside/object"):
        with pytest.raises(NotFound):
            store.get(key)
        store.delete(key)
    with pytest.raises(InvalidKey):
        store.put("folder/new", b"2")
    store.put("file", b"3")
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}
    assert store.get("file").data == b"3"


def test_reading_a_store_that_nobody_wrote_makes_nothing(store: FilesBlobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.get("object")
    with pytest.raises(PreconditionFailed):
        store.put("object", b"", if_match='"0"')
    store.delete("object")
    assert keys(store) == []
    assert not (tmp_path / "objects").exists()


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = FilesBlobStore(tmp_path / "file")
    with pytest.raises(ServiceError):
        store.put("object", b"")
    with pytest.raises(ServiceError):
        store.get("object")


def test_an_empty_folder_that_a_killed_writer_left_is_not_in_the_way(store: FilesBlobStore, tmp_path: Path) -> None:
    (tmp_path / "objects" / "folder").mkdir(parents=True)
    store.put("folder", b"1")
    assert (store.get("folder").data, keys(store)) == (b"1", ["folder"])


def test_files_that_no_key_would_have_are_left_alone(store: FilesBlobStore, tmp_path: Path) -> None:
    store.put("object", b"")
    for name in ("100%", "%41", "trailing.", "%store2"):
        (tmp_path / "objects" / name).write_bytes(b"theirs")
    os.mkfifo(tmp_path / "objects" / "pipe")
    assert keys(store) == ["object"]
    with pytest.raises(NotFound):
        store.get("pipe")


def test_streams_hold_little_memory(store: FilesBlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as handle:
        handle.truncate(64 << 20)
    tracemalloc.start()
    try:
        store.upload("object", source)
        store.download("object", tmp_path / "target")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 << 20


def test_memory_store_takes_its_time_from_the_clock() -> None:
    clock = MemoryClock()
    store = MemoryBlobStore("bucket", clock=clock)
    clock.sleep(60)
    store.put("object", b"")
    assert [info.modified_at for info in store.list("")] == [clock.now()]
    assert store.bucket == "bucket"

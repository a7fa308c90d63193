"""The suite of `embedpipe.ports.BlobStore`: whole objects, conditions that hold under races, keys and listings."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from embedpipe.errors import EmbedpipeError, NotFound, PreconditionFailed, WriteConflict
from embedpipe.ports import BlobStore
from verify.contracts._base import CONNECTIONS, patiently, race, until_won
from verify.contracts.blob_keys import BlobKeysContract, keys_of

__all__ = ["BlobStoreContract"]

LOST = (PreconditionFailed, WriteConflict)
OpenPort = Callable[[], BlobStore]


class BlobStoreContract(BlobKeysContract, abstract=True):
    """Define `create`, `connect`, `raw_read` and `raw_write`. A slow store may lower the class's numbers."""

    large_bytes: ClassVar[int] = 32 << 20
    """Size of the one large object."""
    overwrites: ClassVar[int] = 60
    """How often an object of a quarter of a megabyte is replaced under the eyes of readers."""
    increments: ClassVar[int] = 4
    """How often each of the sixteen writers moves a counter."""

    # --- whole objects ---------------------------------------------------------------------------------------------

    def test_what_is_put_is_got_and_lies_in_the_store(self, store: Any, port: BlobStore) -> None:
        data = bytes(range(256)) * 5
        etag = port.put("folder/object", data)
        assert port.get("folder/object").data == data
        assert port.get("folder/object").etag == etag
        assert self.raw_read(store, "folder/object") == data
        assert port.bucket

    def test_an_object_may_be_empty(self, store: Any, port: BlobStore) -> None:
        etag = port.put("empty", b"")
        assert (port.get("empty").data, port.get("empty").etag) == (b"", etag)
        assert self.raw_read(store, "empty") == b""

    def test_what_others_write_is_got(self, store: Any, port: BlobStore) -> None:
        etag = port.put("shared", b"ours")
        assert port.get("shared").data == b"ours"  # so that a store which remembers has something to remember
        self.raw_write(store, "shared", b"theirs")
        found = port.get("shared")
        assert (found.data, found.etag != etag) == (b"theirs", True)

    def test_etags_are_equal_where_the_bytes_are(self, port: BlobStore) -> None:
        first = port.put("object", b"one")
        second = port.put("object", b"two")
        assert first != second
        assert port.put("object", b"one") == first
        assert port.put("other", b"one") == first

    def test_a_second_connection_sees_every_change_at_once(self, open_port: OpenPort) -> None:
        writer, reader = open_port(), open_port()
        for round_ in range(20):
            data = f"{round_}".encode()
            etag = writer.put("object", data)
            assert (reader.get("object").data, reader.get("object").etag) == (data, etag)
            assert keys_of(reader) == ["object"]
            writer.delete("object")
            assert keys_of(reader) == []

    def test_what_is_missing_is_not_found(self, port: BlobStore, tmp_path: Path) -> None:
        port.put("folder/object", b"")
        for key in ("missing", "folder", "folder/other", "folder/object/inside", "fold"):
            with pytest.raises(NotFound):
                port.get(key)
            with pytest.raises(NotFound):
                port.download(key, tmp_path / "target")
        assert list(tmp_path.iterdir()) == []

    def test_delete_is_quiet_where_nothing_is(self, store: Any, port: BlobStore) -> None:
        port.put("folder/object", b"1")
        for key in ("missing", "folder", "folder/other", "folder/object/inside"):
            port.delete(key)
        assert keys_of(port) == ["folder/object"]
        port.delete("folder/object")
        port.delete("folder/object")
        assert self.raw_read(store, "folder/object") is None
        with pytest.raises(NotFound):
            port.get("folder/object")

    def test_a_reader_sees_the_old_object_or_the_new_one(self, open_port: OpenPort) -> None:
        versions = [bytes([index]) * (1 << 18) for index in range(3)]
        writer, readers = open_port(), [open_port() for _ in range(3)]
        etags = {writer.put("object", version): version for version in versions}
        done = threading.Event()

        def overwrite() -> None:
            try:
                for round_ in range(self.overwrites):
                    writer.put("object", versions[round_ % 3])
            finally:
                done.set()

        def read(reader: BlobStore) -> None:
            while not done.is_set():
                found = reader.get("object")
                assert etags.get(found.etag) == found.data, "a reader saw a mix of two objects, or another's etag"
                (entry,) = reader.list("obj")
                assert entry.size_bytes == 1 << 18

        works: list[Callable[[], None]] = [overwrite, *(partial(read, reader) for reader in readers)]
        assert race(works) == [None] * 4

    # --- conditions ------------------------------------------------------------------------------------------------

    def test_if_none_match_writes_only_where_nothing_is(self, port: BlobStore) -> None:
        etag = port.put("object", b"first", if_none_match=True)
        with pytest.raises(PreconditionFailed):
            port.put("object", b"second", if_none_match=True)
        assert (port.get("object").data, port.get("object").etag) == (b"first", etag)
        port.delete("object")
        port.put("object", b"third", if_none_match=True)
        assert port.get("object").data == b"third"

    def test_if_match_writes_only_over_that_etag(self, store: Any, port: BlobStore) -> None:
        first = port.put("object", b"first")
        second = port.put("object", b"second", if_match=first)
        with pytest.raises(PreconditionFailed):
            port.put("object", b"third", if_match=first)
        assert port.get("object").data == b"second"
        self.raw_write(store, "object", b"theirs")
        with pytest.raises(PreconditionFailed):
            port.put("object", b"third", if_match=second)
        port.put("object", b"third", if_match=port.get("object").etag)
        assert self.raw_read(store, "object") == b"third"

    def test_if_match_writes_nothing_where_nothing_is(self, port: BlobStore) -> None:
        etag = port.put("object", b"first")
        port.delete("object")
        for key in ("object", "never/was"):
            with pytest.raises(PreconditionFailed):
                port.put(key, b"second", if_match=etag)
        assert keys_of(port) == []

    def test_of_sixteen_creators_one_wins(self, open_port: OpenPort) -> None:
        ports = [open_port() for _ in range(CONNECTIONS)]
        for round_ in range(5):
            key = f"folder-{round_}/object"
            works = [partial(port.put, key, b"%d" % index, if_none_match=True) for index, port in enumerate(ports)]
            self._one_wins(race(works), ports[0].get(key).data)

    def test_of_sixteen_replacers_one_wins(self, open_port: OpenPort) -> None:
        ports = [open_port() for _ in range(CONNECTIONS)]
        etag = ports[0].put("object", b"first")
        for _ in range(5):
            # Each writes bytes that were never there, so that no old etag comes back.
            data = [f"{index}:{etag}".encode() for index in range(CONNECTIONS)]
            works = [partial(port.put, "object", data[index], if_match=etag) for index, port in enumerate(ports)]
            found = race(works)
            self._one_wins(found, ports[0].get("object").data.partition(b":")[0])
            etag = ports[0].get("object").etag

    @staticmethod
    def _one_wins(results: list[Any], stored: bytes) -> None:
        winners = [index for index, result in enumerate(results) if isinstance(result, str)]
        assert len(winners) == 1, f"{len(winners)} writers with one condition were told that they won"
        assert stored == f"{winners[0]}".encode()
        assert all(isinstance(result, LOST) for index, result in enumerate(results) if index != winners[0])

    def test_a_counter_moved_by_if_match_loses_no_step(self, open_port: OpenPort) -> None:
        ports = [open_port() for _ in range(CONNECTIONS)]
        ports[0].put("counter", b"0")
        results = race([partial(self._count, port) for port in ports])
        assert results == [self.increments] * CONNECTIONS
        assert int(ports[0].get("counter").data) == self.increments * CONNECTIONS

    def _count(self, port: BlobStore) -> int:
        moved = 0
        while moved < self.increments:
            blob = patiently(lambda: port.get("counter"))
            try:
                until_won(lambda: port.put("counter", b"%d" % (int(blob.data) + 1), if_match=blob.etag))  # noqa: B023  called at once
            except PreconditionFailed:
                continue
            moved += 1
        return moved

    def test_one_connection_serves_many_threads(self, port: BlobStore) -> None:
        def work(index: int) -> bool:
            key, data = f"deep/folder/{index:02}", bytes([index]) * 50_000
            for _ in range(10):
                port.put(key, data)
                if port.get(key).data != data or keys_of(port, key) != [key]:
                    return False
                port.delete(key)  # the folder, too, comes and goes
            return True

        assert race([partial(work, index) for index in range(CONNECTIONS)]) == [True] * CONNECTIONS
        assert keys_of(port) == []

    # --- files -----------------------------------------------------------------------------------------------------

    def test_a_large_object_goes_up_and_comes_down(self, store: Any, port: BlobStore, tmp_path: Path) -> None:
        data = random.Random(0).randbytes(self.large_bytes)
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(data)
        etag = port.upload("large/object", source)
        port.download("large/object", target)
        assert target.read_bytes() == data
        found = port.get("large/object")
        assert (found.data == data, found.etag) == (True, etag)
        assert self.raw_read(store, "large/object") == data
        assert [info.size_bytes for info in port.list("large/")] == [len(data)]

    def test_upload_is_put(self, port: BlobStore, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"data")
        assert port.upload("object", source) == port.put("object", b"data")
        with pytest.raises(PreconditionFailed):
            port.upload("object", source, if_none_match=True)
        assert isinstance(port.upload("other", source, if_none_match=True), str)
        assert port.get("other").data == b"data"

    def test_uploading_what_is_not_there_changes_nothing(self, port: BlobStore, tmp_path: Path) -> None:
        port.put("object", b"before")
        with pytest.raises(EmbedpipeError):
            port.upload("object", tmp_path / "missing")
        with pytest.raises(EmbedpipeError):
            port.upload("other", tmp_path)
        assert (keys_of(port), port.get("object").data) == (["object"], b"before")

    def test_a_download_appears_whole_or_not_at_all(self, port: BlobStore, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.write_bytes(b"older and longer")
        with pytest.raises(NotFound):
            port.download("object", target)
        assert target.read_bytes() == b"older and longer"
        port.put("object", b"newer")
        port.download("object", target)
        assert target.read_bytes() == b"newer"
        with pytest.raises(EmbedpipeError):
            port.download("object", tmp_path / "no folder" / "target")
        assert list(tmp_path.iterdir()) == [target]

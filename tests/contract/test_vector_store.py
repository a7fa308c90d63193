"""The vector stores that are shipped, against the shipped suite, and what is special about Chroma."""

from __future__ import annotations

import socket
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import chromadb
import numpy as np
import pytest

import embedpipe.backends.memory.vectors as memory_vectors
from embedpipe.backends.chroma import ChromaVectorStore
from embedpipe.backends.chroma_client import open_below
from embedpipe.backends.memory.vectors import MemoryCollection, MemoryVectorStore, Row
from embedpipe.backends.system import SystemClock
from embedpipe.errors import CollectionMismatch, CorruptData, EmbedpipeError, InvalidInput, NotFound
from embedpipe.model import Hit, Metadata
from embedpipe.ports import VectorRows
from tests.contract.processes import finish, run_on_small_disk, start
from verify.contracts import VectorStoreContract
from verify.contracts.vector_versions import Versions

if TYPE_CHECKING:
    from embedpipe.ports import Vectors


def plain_chroma(path: Path) -> Any:
    """Chroma as everybody uses it; its type does not tell that it can be closed."""
    return chromadb.PersistentClient(path)


class TestMemoryVectorStore(VectorStoreContract):
    def create(self) -> MemoryVectorStore:
        return MemoryVectorStore()

    def connect(self, store: MemoryVectorStore) -> MemoryVectorStore:
        return store

    def raw_read(self, store: MemoryVectorStore, database: str, collection: str, record_id: str) -> Any:
        row = store.stored(database, collection).rows.get(record_id)
        return row and {"vector": row.vector, "document": row.document, "metadata": row.metadata}

    def raw_write(
        self, store: MemoryVectorStore, database: str, collection: str, record_id: str, row: Mapping[str, Any]
    ) -> None:
        made = Row(np.array(row["vector"], np.float32), row["document"], row["metadata"])
        store.stored(database, collection).rows[record_id] = made


class TestChromaVectorStore(VectorStoreContract):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.root = tmp_path_factory.mktemp("chroma")

    def create(self) -> Path:
        return self.root

    def connect(self, store: Path) -> ChromaVectorStore:
        return ChromaVectorStore(store)

    def raw_read(self, store: Path, database: str, collection: str, record_id: str) -> Any:
        with plain_chroma(store / database / "current") as client:
            found = client.get_collection(collection, embedding_function=None).get(
                ids=[record_id], include=["embeddings", "documents", "metadatas"]
            )
        if not found["ids"]:
            return None
        names = {"vector": "embeddings", "document": "documents", "metadata": "metadatas"}
        return {name: found[column][0] for name, column in names.items()}

    def raw_write(self, store: Path, database: str, collection: str, record_id: str, row: Mapping[str, Any]) -> None:
        with plain_chroma(store / database / "current") as client:
            client.get_collection(collection, embedding_function=None).upsert(
                ids=[record_id],
                embeddings=[list(row["vector"])],
                documents=[row["document"]],
                metadatas=[row["metadata"]],
            )


# --- the suite catches what is broken ----------------------------------------------------------------------------------


class Merging(MemoryCollection):
    """Keeps metadata that a new row lacks."""

    def upsert(self, rows: VectorRows) -> None:
        olds = [self.rows.get(row_id) for row_id in rows.ids]
        merged = [{**(old.metadata if old else {}), **new} for old, new in zip(olds, rows.metadatas, strict=True)]
        super().upsert(attrs.evolve(rows, metadatas=merged))


class Truncating(MemoryCollection):
    """Takes the first 5,461 rows of a call."""

    def upsert(self, rows: VectorRows) -> None:
        first = slice(0, 5_461)
        super().upsert(
            VectorRows(
                ids=rows.ids[first],
                vectors=rows.vectors[first],
                documents=rows.documents[first],
                metadatas=rows.metadatas[first],
            )
        )


class Sorting(MemoryCollection):
    """Answers in its own order."""

    def get(self, ids: Sequence[str]) -> VectorRows:
        return super().get(sorted(ids))


class Utf16(MemoryCollection):
    """Orders ids as other languages do."""

    def ids(self, *, after: str = "") -> Iterator[str]:
        yield from sorted(super().ids(after=after), key=lambda row_id: row_id.encode("utf-16-be"))


class Farthest(MemoryCollection):
    """Searches the wrong end."""

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        return super().search(-vector, k)


class Floats(MemoryCollection):
    """Turns whole numbers into floats."""

    def get(self, ids: Sequence[str]) -> VectorRows:
        found = super().get(ids)
        floats = [
            {name: float(value) if type(value) is int else value for name, value in metadata.items()}
            for metadata in found.metadatas
        ]
        return attrs.evolve(found, metadatas=floats)


class Folding(MemoryCollection):
    """Takes ids that look alike for one."""

    def upsert(self, rows: VectorRows) -> None:
        super().upsert(attrs.evolve(rows, ids=[unicodedata.normalize("NFC", row_id) for row_id in rows.ids]))


class Few(MemoryCollection):
    """Finds at most a hundred."""

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        return super().search(vector, min(k, 100))


class Careless(MemoryCollection):
    """Writes good rows of a bad call."""

    def upsert(self, rows: VectorRows) -> None:
        for at in range(min(len(rows.ids), len(rows.vectors), len(rows.documents), len(rows.metadatas))):
            one = slice(at, at + 1)
            super().upsert(
                VectorRows(
                    ids=rows.ids[one],
                    vectors=rows.vectors[one],
                    documents=rows.documents[one],
                    metadatas=rows.metadatas[one],
                )
            )


class Patient(MemoryCollection):
    """Correct, and slow enough for two editors to meet."""

    def get(self, ids: Sequence[str]) -> VectorRows:
        SystemClock().sleep(0.01)
        return super().get(ids)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Merging, "test_a_row_is_replaced_wholly"),
        (Truncating, "test_one_upsert_takes_any_number_of_rows"),
        (Sorting, "test_get_answers_in_the_order_asked_without_the_missing"),
        (Utf16, "test_ids_ascend_by_bytes_and_go_on_after_any"),
        (Farthest, "test_search_finds_the_nearest_first"),
        (Floats, "test_metadata_keeps_its_names_values_and_types"),
        (Folding, "test_any_id_is_an_id"),
        (Few, "test_many_equal_vectors_hide_nobody"),
        (Careless, "test_bad_rows_are_refused_before_any_effect"),
    ],
)
def test_the_suite_catches(broken: type[MemoryCollection], test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = TestMemoryVectorStore()
    getattr(suite, test)(MemoryVectorStore(), Versions())
    monkeypatch.setattr(memory_vectors, "MemoryCollection", broken)
    with pytest.raises((AssertionError, pytest.fail.Exception, EmbedpipeError)):
        getattr(suite, test)(MemoryVectorStore(), Versions())


def test_the_suite_catches_two_editors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_vectors, "MemoryCollection", Patient)
    suite = TestMemoryVectorStore()
    locking = MemoryVectorStore()
    suite.test_one_editor_at_a_time(lambda: locking, Versions())
    lockless = MemoryVectorStore(new_lock=nullcontext)
    with pytest.raises(AssertionError, match="two editors"):
        suite.test_one_editor_at_a_time(lambda: lockless, Versions())


# --- Chroma: what is special ---------------------------------------------------------------------------------------------


def rows(ids: Iterable[str], seed: int = 0, dimensions: int = 8) -> VectorRows:
    named = list(ids)
    return VectorRows(
        ids=named,
        vectors=np.random.default_rng(seed).standard_normal((len(named), dimensions)).astype(np.float32),
        documents=["text"] * len(named),
        metadatas=[{"n": at} for at in range(len(named))],
    )


def write(store: ChromaVectorStore, *ids: str, seed: int = 0) -> None:
    with store.editing("words", "receipt_words", version=None, dimensions=8) as edition:
        edition.collection.upsert(rows(ids, seed))


def ids_in(store: ChromaVectorStore) -> list[str]:
    with store.reading("words", "receipt_words", version="") as collection:
        return list(collection.ids())


EDIT = """
    import sys
    from pathlib import Path
    import numpy as np
    from embedpipe.backends.chroma import ChromaVectorStore
    from embedpipe.ports import VectorRows

    store = ChromaVectorStore(Path(sys.argv[1]))
    for _ in range(5):
        with store.editing("words", "receipt_words", version=None, dimensions=8) as edition:
            found = edition.collection.get(["counter"])
            count = found.metadatas[0]["n"] if found.ids else 0
            edition.collection.upsert(
                VectorRows(ids=["counter"], vectors=np.ones((1, 8)), documents=[None], metadatas=[{"n": count + 1}])
            )
"""


def test_processes_edit_one_after_another(tmp_path: Path) -> None:
    processes = [start(EDIT, tmp_path) for _ in range(2)]
    for process in processes:
        finish(process)
    with ChromaVectorStore(tmp_path).reading("words", "receipt_words", version="") as collection:
        assert collection.get(["counter"]).metadatas == [{"n": 10}]


WRITE_FOR_EVER = """
    import sys
    from pathlib import Path
    import numpy as np
    from embedpipe.backends.chroma import ChromaVectorStore
    from embedpipe.ports import VectorRows

    store, number = ChromaVectorStore(Path(sys.argv[1])), 0
    while True:
        with store.editing("words", "receipt_words", version=None, dimensions=64) as edition:
            for _ in range(3):
                vectors = np.random.default_rng(number).standard_normal((400, 64)).astype(np.float32)
                ids = [f"{number}-{at}" for at in range(400)]
                edition.collection.upsert(
                    VectorRows(ids=ids, vectors=vectors, documents=ids, metadatas=[{"n": number}] * 400)
                )
                number += 1
        print(number, flush=True)
"""


def test_a_killed_editor_leaves_whole_editions_and_no_lock(tmp_path: Path) -> None:
    drafts = 0
    for attempt in range(3):
        process = start(WRITE_FOR_EVER, tmp_path)
        assert process.stdout is not None
        said = int(process.stdout.readline())
        SystemClock().sleep(0.2 * attempt)
        process.kill()
        said = max([said, *(int(line) for line in process.communicate()[0].split())])
        with ChromaVectorStore(tmp_path).reading("words", "receipt_words", version="") as collection:
            ids = list(collection.ids())
            assert len(ids) == len(collection.get(ids).ids) == collection.count()
            assert len(collection.search(np.ones(64, np.float32), 50)) == 50
            assert {f"{number}-{at}" for number in range(said) for at in range(400)} <= set(ids)
            assert len(ids) % 1_200 == 0, "an edition shows in part"
        versions = [path for path in (tmp_path / "words").iterdir() if path.name.startswith("v")]
        drafts += len(versions) > 1
        with ChromaVectorStore(tmp_path).editing("words", "receipt_words", version=None, dimensions=64) as edition:
            assert edition.collection.count() == len(ids)
    assert drafts, "no editor was killed while it wrote: this test tests nothing"


def test_readers_keep_what_they_opened(tmp_path: Path) -> None:
    store = ChromaVectorStore(tmp_path)
    write(store, "a")
    first = (tmp_path / "words/current").resolve()
    with store.reading("words", "receipt_words", version="") as before:
        write(store, "b", seed=1)
        write(store, "c", seed=2)
        assert list(before.ids()) == ["a"]
        assert before.get(["a"]).documents == ["text"]
        assert ids_in(store) == ["a", "b", "c"]
        assert first.exists()
    write(store, "d", seed=3)
    versions = [path.name for path in (tmp_path / "words").iterdir() if path.name.startswith("v")]
    assert versions == [(tmp_path / "words/current").readlink().name]


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        ids_in(ChromaVectorStore(tmp_path / "chroma"))
    assert not (tmp_path / "chroma").exists()


def test_an_edition_without_writes_makes_no_copy(tmp_path: Path) -> None:
    store = ChromaVectorStore(tmp_path)
    write(store, "a")
    before = (tmp_path / "words/current").readlink()
    with store.editing("words", "receipt_words", version=None, dimensions=8) as edition:
        assert edition.collection.get(["a"]).ids == ["a"]
    assert (tmp_path / "words/current").readlink() == before


def test_an_empty_collection_binds_nobody(tmp_path: Path) -> None:
    store = ChromaVectorStore(tmp_path)
    write(store)
    with store.editing("words", "receipt_words", version=None, dimensions=3) as edition:
        edition.collection.upsert(rows(["a"], dimensions=3))
    assert ids_in(store) == ["a"]


def test_one_database_holds_one_collection(tmp_path: Path) -> None:
    store = ChromaVectorStore(tmp_path)
    write(store, "a")
    with (
        pytest.raises(CollectionMismatch, match="holds collection receipt_words, not other"),
        store.editing("words", "other", version=None, dimensions=8),
    ):
        pass
    assert ids_in(store) == ["a"]


def test_a_collection_that_others_made_is_read(tmp_path: Path) -> None:
    path = tmp_path / "words" / "v1"
    path.mkdir(parents=True)
    (tmp_path / "words/current").symlink_to("v1")
    with plain_chroma(path) as client:
        made = client.create_collection(
            "receipt_words", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )
        made.add(ids=["theirs"], embeddings=[[1.0] * 8])
        client.create_collection("distances", embedding_function=None, configuration={"hnsw": {"space": "l2"}})
    store = ChromaVectorStore(tmp_path)
    assert ids_in(store) == ["theirs"]
    write(store, "a")
    assert ids_in(store) == ["a", "theirs"]
    with pytest.raises(CollectionMismatch, match="l2"), store.reading("words", "distances", version=""):
        pass


def test_numbers_that_chroma_would_round_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="64 bits"):
        write_metadata(ChromaVectorStore(tmp_path), {"n": 2**63})


def write_metadata(store: ChromaVectorStore, metadata: Metadata) -> None:
    with store.editing("words", "receipt_words", version=None, dimensions=8) as edition:
        edition.collection.upsert(attrs.evolve(rows(["a"]), metadatas=[metadata]))


@pytest.mark.parametrize("damage", [b"no database" * 99, b"SQLite format 3\x00" + b"\xff" * 20_000])
def test_a_damaged_database_is_said_and_does_not_stick(tmp_path: Path, damage: bytes) -> None:
    store = ChromaVectorStore(tmp_path)
    write(store, "a")
    file = tmp_path / "words/current/chroma.sqlite3"
    good = file.read_bytes()
    file.write_bytes(damage)
    for _ in range(2):
        with pytest.raises(CorruptData, match=r"Chroma directory .*words"):
            ids_in(store)
        with pytest.raises(CorruptData):
            write(store, "b")
    file.write_bytes(good)
    assert ids_in(store) == ["a"]


def test_a_damaged_index_is_said(tmp_path: Path) -> None:
    store = ChromaVectorStore(tmp_path)
    write(store, *(f"r{number}" for number in range(1_500)))
    index = next((tmp_path / "words/current").glob("*/index_metadata.pickle"))
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(CorruptData, match="damaged"):
        ids_in(store)


FILL_DISK = """
    import os, sys
    from pathlib import Path
    import numpy as np
    from embedpipe.backends.chroma import ChromaVectorStore
    from embedpipe.errors import StorageFull
    from embedpipe.ports import VectorRows

    store = ChromaVectorStore(Path(sys.argv[1]) / "chroma")

    def write(count):
        with store.editing("words", "receipt_words", version=None, dimensions=8) as edition:
            ids = [f"r{at}" for at in range(count)]
            edition.collection.upsert(
                VectorRows(ids=ids, vectors=np.ones((count, 8)), documents=ids, metadatas=[{}] * count)
            )

    write(1)
    try:
        write(20_000)
    except StorageFull as error:
        print(error.code, error.hint)
    with store.reading("words", "receipt_words", version="") as collection:
        print(list(collection.ids()))
"""


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    said, after = run_on_small_disk(FILL_DISK, tmp_path, tmp_path).splitlines()
    assert said == "storage_full Free some space, or raise the limit on it, and run the same command again."
    assert after == "['r0']"


def test_no_network_and_no_settings_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"MIGRATIONS=\xff")
    monkeypatch.setenv("MIGRATIONS", "validate")
    monkeypatch.setenv("CHROMA_API_IMPL", "chromadb.api.fastapi.FastAPI")

    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    store = ChromaVectorStore(tmp_path / "chroma")
    write(store, "a")
    assert ids_in(store) == ["a"]


def test_nothing_stays_open(tmp_path: Path) -> None:
    store = ChromaVectorStore(tmp_path)
    write(store, *(f"r{number}" for number in range(1_500)))
    ids_in(store)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("only Linux tells which files are open")
    assert not open_below(tmp_path)
    with store.reading("words", "receipt_words", version=""):
        assert open_below(tmp_path)

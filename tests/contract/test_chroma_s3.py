"""Chroma snapshots in an object store, against the shipped suite, and what is special about them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from embedpipe.assembly import close
from embedpipe.backends.chroma_client import open_below
from embedpipe.backends.chroma_s3 import ChromaSnapshotStore
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config, build
from embedpipe.errors import CorruptData, NotFound, Unauthorized
from embedpipe.layout import SEED
from embedpipe.ports import BlobStore
from embedpipe.wire import Lease
from tests.contract.aws import Cloud, in_process, over_http
from tests.contract.processes import run_on_small_disk
from tests.contract.test_vector_store import plain_chroma
from tests.harness import Faults, crash, dies, lose_answer, refuse_own_write
from tests.protocol.scenes import QUICK, records, texts
from tests.worlds import SmallWorld
from verify.contracts import VectorStoreContract
from verify.contracts.vector_versions import DATABASE, NAME, Row, Versions, rows_of, stored, vector

POINTER = "/latest.json"


@attrs.frozen
class Place:
    """An object store, and where the local copies are."""

    objects: Any
    folder: Path

    def store(self, cache: str = "cache", **options: Any) -> ChromaSnapshotStore:
        return ChromaSnapshotStore(self.objects, SystemClock(), cache=self.folder / cache, **options)


def newest(objects: BlobStore, database: str) -> str:
    """Prefix of the version with the greatest number."""
    start = f"{database}/snapshot/"
    keys = [info.key for info in objects.list(start) if info.key.endswith("/collection.json")]
    newest = max(keys, key=lambda key: int(key.removeprefix(start).partition("-")[0]))
    return newest.removesuffix("collection.json")


def fetched(objects: BlobStore, prefix: str, folder: Path) -> None:
    for file in json.loads(objects.get(prefix + "collection.json").data)["files"]:
        (folder / file["name"]).parent.mkdir(parents=True, exist_ok=True)
        objects.download(f"{prefix}collection/{file['name']}", folder / file["name"])


class SnapshotContract(VectorStoreContract, abstract=True):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("chroma")

    def connect(self, store: Place) -> ChromaSnapshotStore:
        return store.store()

    def raw_read(self, store: Place, database: str, collection: str, record_id: str) -> Any:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            fetched(store.objects, newest(store.objects, database), Path(folder))
            with plain_chroma(Path(folder)) as client:
                found = client.get_collection(collection, embedding_function=None).get(
                    ids=[record_id], include=["embeddings", "documents", "metadatas"]
                )
        if not found["ids"]:
            return None
        names = {"vector": "embeddings", "document": "documents", "metadata": "metadatas"}
        return {name: found[column][0] for name, column in names.items()}

    def raw_write(self, store: Place, database: str, collection: str, record_id: str, row: Mapping[str, Any]) -> None:
        prefix = newest(store.objects, database)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            fetched(store.objects, prefix, Path(folder))
            with plain_chroma(Path(folder)) as client:
                client.get_collection(collection, embedding_function=None).upsert(
                    ids=[record_id],
                    embeddings=[list(row["vector"])],
                    documents=[row["document"]],
                    metadatas=[row["metadata"]],
                )
            described = json.loads(store.objects.get(prefix + "collection.json").data)
            for file in described["files"]:
                data = (Path(folder) / file["name"]).read_bytes()
                file.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
                store.objects.put(f"{prefix}collection/{file['name']}", data)
            store.objects.put(prefix + "collection.json", json.dumps(described).encode())


class TestSnapshotsInMemory(SnapshotContract):
    def create(self) -> Place:
        return Place(MemoryBlobStore(), self.folder)


class TestSnapshotsInS3(SnapshotContract):
    """Its objects are those of the suite in memory; here, that they fit S3."""

    test_one_upsert_takes_any_number_of_rows = None
    test_many_equal_vectors_hide_nobody = None

    @pytest.fixture(scope="class")
    @classmethod
    def cloud(cls) -> Iterator[Cloud]:
        with in_process() as cloud:
            yield cloud

    @pytest.fixture(autouse=True)
    def _cloud(self, cloud: Cloud) -> None:
        self.aws = cloud

    def create(self) -> Place:
        return Place(S3BlobStore(self.aws.new_bucket(), session=self.aws.session, **self.aws.where), self.folder)


# --- what is special -------------------------------------------------------------------------------------------------


class Counted(MemoryBlobStore):
    """Remembers what was downloaded and written; may refuse to write, or do something before a call."""

    def __init__(self) -> None:
        super().__init__()
        self.downloads: list[str] = []
        self.writes: list[str] = []
        self.read_only = False

    def download(self, key: str, path: Path) -> None:
        self.downloads.append(key)
        super().download(key, path)

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        self._written(key)
        return super().put(key, data, **conditions)

    def upload(self, key: str, path: Path, **conditions: Any) -> str:
        self._written(key)
        return super().upload(key, path, **conditions)

    def delete(self, key: str) -> None:
        self._written(key)
        super().delete(key)

    def _written(self, key: str) -> None:
        if self.read_only:
            raise Unauthorized(f"Nobody may write {key}.")
        self.writes.append(key)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(Counted(), tmp_path)


def ids(store: ChromaSnapshotStore, version: str) -> list[str]:
    with store.reading(DATABASE, NAME, version=version) as collection:
        return list(collection.ids())


def test_a_version_is_fetched_once(place: Place) -> None:
    versions = Versions()
    versions.write(place.store("editor"), *(Row(f"r{at}", vector(at)) for at in range(1_200)))
    for _ in range(3):
        assert len(ids(place.store(), "1-test")) == 1_200
    names = sorted(key.rpartition("/")[2] for key in place.objects.downloads)
    assert names == [
        "chroma.sqlite3",
        "data_level0.bin",
        "header.bin",
        "index_metadata.pickle",
        "length.bin",
        "link_lists.bin",
    ]
    versions.write(place.store(), Row("new", vector(1)))
    versions.write(place.store(), Row("newer", vector(2)))
    assert len(place.objects.downloads) == 6, "who has a version, edits it, and has the next one"
    assert len(ids(place.store(), "3-test")) == 1_202
    assert len(place.objects.downloads) == 6


def test_old_versions_stay_and_can_be_read(place: Place) -> None:
    versions = Versions()
    for name in "abc":
        versions.write(place.store(), Row(name, vector(1)))
    with place.store().reading(DATABASE, NAME, version="1-test") as first:
        versions.write(place.store(), Row("d", vector(2)))
        assert ids(place.store(), "4-test") == list("abcd")
        assert stored(first, ["a", "b"]) == [Row("a", vector(1))], "who reads a version goes on reading it"
    assert [ids(place.store(), f"{n}-test") for n in (1, 2, 3)] == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_only_what_was_used_last_stays_on_the_disk(place: Place) -> None:
    versions = Versions()
    for name in "abc":
        versions.write(place.store(), Row(name, vector(1)))
        ids(place.store(), versions.latest[DATABASE])
    (place.folder / "cache" / DATABASE / ".part-of-a-dead-editor").mkdir()
    ids(place.store(), "1-test")
    left = [path.name for path in (place.folder / "cache" / DATABASE).iterdir() if path.is_dir()]
    assert [name.partition(".")[0] for name in left] == ["1-test"]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], None]] = [truncated, flipped, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["chroma.sqlite3", "data_level0.bin"])
def test_a_damaged_copy_is_fetched_again(place: Place, damage: Callable[[Path], None], name: str) -> None:
    versions = Versions()
    versions.write(place.store("editor"), *(Row(f"r{at}", vector(at)) for at in range(1_200)))
    ids(place.store(), "1-test")
    [path] = (place.folder / "cache").rglob(name)
    damage(path)
    assert len(ids(place.store(), "1-test")) == 1_200
    assert len(place.objects.downloads) == 12
    [path] = (place.folder / "cache").rglob(name)
    damage(path)
    versions.write(place.store(), Row("new", vector(1)))
    assert len(place.objects.downloads) == 18
    assert len(ids(place.store(), "2-test")) == 1_201


@pytest.mark.parametrize("damage", ["flipped", "missing", "not described", "outside"])
def test_a_damaged_version_is_said_and_not_kept(place: Place, damage: str) -> None:
    versions = Versions()
    versions.write(place.store("editor"), Row("a", vector(1)))
    prefix = SEED.snapshot_prefix(DATABASE, "1-test")
    key, described = f"{prefix}collection/chroma.sqlite3", f"{prefix}collection.json"
    whole = dict(place.objects.contents())
    if damage == "missing":
        place.objects.delete(key)
    elif damage == "flipped":
        data = whole[key]
        place.objects.write_raw(key, data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif damage == "not described":
        place.objects.write_raw(described, whole[described].replace(b"chroma.sqlite3", b"other"))
    else:
        said = json.loads(whole[described])
        data = b"no place of ours"
        said["files"].append({"name": "../../x", "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)})
        place.objects.write_raw(described, json.dumps(said).encode())
    for work in (lambda: ids(place.store(), "1-test"), lambda: versions.write(place.store(), Row("b", vector(2)))):
        with pytest.raises(CorruptData, match="1-test/collection"):
            work()
    assert [path.name for path in (place.folder / "cache").rglob("*") if path.is_file()] in ([], ["lock"])
    assert not (place.folder / "x").exists()
    for name, data in whole.items():
        place.objects.write_raw(name, data)
    assert ids(place.store(), "1-test") == ["a"]


def test_reading_writes_nothing(place: Place) -> None:
    Versions().write(place.store("editor"), Row("a", vector(1), "text"))
    place.objects.read_only = True
    with place.store().reading(DATABASE, NAME, version="1-test") as collection:
        assert [hit.id for hit in collection.search(rows_of([Row("", vector(1))]).vectors[0], 3)] == ["a"]
    with pytest.raises(NotFound, match="2-test"):
        ids(place.store(), "2-test")
    with pytest.raises(Unauthorized):
        Versions().write(place.store(), Row("b", vector(1)))


def test_the_files_are_compact_and_closed(place: Place) -> None:
    """What was replaced many times takes no room in the next version."""
    versions = Versions()
    long = [Row(f"r{at:04d}", vector(at), "x" * 2_000) for at in range(1_100)]
    versions.write(place.store(), *long)
    versions.write(place.store(), *(attrs.evolve(row, document="short") for row in long))
    sizes = [len(place.objects.get(f"words/snapshot/{n}-test/collection/chroma.sqlite3").data) for n in (1, 2)]
    assert sizes[1] < sizes[0] / 3
    assert not open_below(place.folder)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    assert run_on_small_disk(FILL_DISK, tmp_path, tmp_path).splitlines() == ["storage_full", "['r0']"]


FILL_DISK = """
    import sys
    from pathlib import Path
    import numpy as np
    from embedpipe.backends.chroma_s3 import ChromaSnapshotStore
    from embedpipe.backends.memory.objects import MemoryBlobStore
    from embedpipe.backends.system import SystemClock
    from embedpipe.errors import StorageFull
    from embedpipe.ports import VectorRows

    store = ChromaSnapshotStore(MemoryBlobStore(), SystemClock(), cache=Path(sys.argv[1]) / "cache")

    def write(version, base, count):
        with store.editing("words", "receipt_words", version=base, dimensions=8) as edition:
            ids = [f"r{at}" for at in range(count)]
            edition.collection.upsert(
                VectorRows(ids=ids, vectors=np.ones((count, 8)), documents=ids, metadatas=[{}] * count)
            )
            edition.seal(f"words/snapshot/{version}/")

    write("1-test", None, 1)
    try:
        write("2-test", "1-test", 20_000)
    except StorageFull as error:
        print(error.code)
    with store.reading("words", "receipt_words", version="1-test") as collection:
        print(list(collection.ids()))
"""


# --- whole pipelines -------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> SmallWorld:
    made = SmallWorld(QUICK)
    made.vectors = ChromaSnapshotStore(made.objects, made.clock, cache=tmp_path)
    made.pipeline().run(records("a", "1"))
    return made


def settled(world: SmallWorld, expected: Mapping[str, str]) -> None:
    pipe = world.pipeline()
    for _ in range(10):
        if not pipe.open_rows():
            break
        pipe.ingest()
    seen = world.observe()
    assert world.violations(settled=True) == []
    assert seen.collection == expected


def test_the_loser_of_a_race_merges_again(world: SmallWorld) -> None:
    """Both build version 2 on version 1, and the other one is published first; the lease was lost long ago."""
    world.pipeline().submit(records("b", "1"))
    versions: dict[str, bytes] = {}

    def overtake() -> None:
        world.pipeline().submit(records("c", "1"))
        world.pipeline().ingest()
        versions.update({key: data for key, data in world.objects.contents().items() if "/snapshot/2-" in key})

    faults = Faults().before("objects.put", overtake, on=POINTER)
    faults.pipeline(world).ingest()
    faults.assert_struck()
    settled(world, texts("a b c", "1"))
    assert {len([key for key in versions if key.endswith("/snapshot.json")])} == {2}
    assert all(world.objects.get(key).data == data for key, data in versions.items()), "none wrote to the other's"


@pytest.mark.parametrize("on", ["/collection.json", "/snapshot.json", POINTER])
def test_a_crash_before_the_pointer_moves_leaves_the_old_version(world: SmallWorld, on: str) -> None:
    world.pipeline().submit(records("b", "1"))
    store = world.vectors
    if on == "/collection.json":
        world.vectors = ChromaSnapshotStore(Crashing(world.objects, on), world.clock, cache=store._cache._root)
    faults = Faults().before("objects.put", crash, on=on)
    assert dies(faults.pipeline(world).ingest)
    world.vectors = store
    assert world.observe().collection == texts("a", "1")
    settled(world, texts("a b", "1"))


class Crashing:
    """The process ends where it would write a key with this ending."""

    def __init__(self, inner: BlobStore, ending: str) -> None:
        self._inner = inner
        self._ending = ending

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        if key.endswith(self._ending):
            crash()
        return self._inner.put(key, data, **conditions)


@pytest.mark.parametrize("answer", [refuse_own_write, lose_answer], ids=["412", "lost"])
def test_a_winner_whose_answer_is_lost_recognises_itself(world: SmallWorld, answer: Callable[[], object]) -> None:
    world.pipeline().submit(records("b", "1"))
    faults = Faults().after("objects.put", answer, on=POINTER)
    assert faults.pipeline(world).ingest().marked == 1
    faults.assert_struck()
    settled(world, texts("a b", "1"))
    assert len([key for key in world.objects.contents() if key.endswith("/snapshot.json")]) == 2


@pytest.mark.parametrize("lease_s", [60.0, 1e9])
def test_a_dead_editor_delays_and_stops_nobody(world: SmallWorld, lease_s: float) -> None:
    """With a lease that never ends, an editor goes on without one when its patience is at an end."""
    world.pipeline().submit(records("b", "1"))
    lease = Lease(holder="dead", lease_s=lease_s, renewed_at="2026-01-01T00:00:00Z")
    world.objects.put("notes/snapshot/lease.json", lease.dump())
    began = world.clock.monotonic_s()
    assert world.pipeline().ingest().marked == 1
    assert world.clock.monotonic_s() - began < 400
    settled(world, texts("a b", "1"))


def test_who_waited_for_another_starts_from_its_version(world: SmallWorld) -> None:
    """Else a merge of ten minutes would be thrown away."""
    world.pipeline().submit(records("b", "1"))
    store, passed = world.vectors, world.clock.sleep

    def publish(seconds: float) -> None:
        world.clock.sleep = passed
        world.objects.delete("notes/snapshot/lease.json")
        world.pipeline().submit(records("c", "1"))
        world.pipeline().ingest()
        passed(seconds)

    lease = Lease(holder="busy", lease_s=60.0, renewed_at="2026-01-01T00:00:00Z")
    world.objects.put("notes/snapshot/lease.json", lease.dump())
    world.clock.sleep = publish
    world.pipeline().ingest()
    assert world.vectors is store
    settled(world, texts("a b c", "1"))
    sealed = [key for key in world.objects.contents() if key.endswith("/collection.json")]
    assert len(sealed) == 2, "nobody built a version for nothing"


def test_over_http_and_from_a_configuration(tmp_path: Path) -> None:
    with over_http() as cloud:
        flags = {
            "objects.backend": "s3",
            "objects.bucket": cloud.new_bucket(),
            **{f"objects.{name}": value for name, value in cloud.where.items()},
            "vectors.backend": "chroma_s3",
        }
        backends = build(Config.load(tmp_path, flags=flags, env={}), clock=SystemClock())
        versions = Versions()
        versions.write(backends.vectors, *(Row(f"r{at}", vector(at)) for at in range(1_200)))
        versions.write(backends.vectors, Row("new", vector(2)))
        assert (tmp_path / "chroma-cache" / DATABASE).is_dir()
        again = ChromaSnapshotStore(backends.objects, SystemClock(), cache=tmp_path / "another")
        assert versions.count(again) == 1_201
        close(backends.objects)

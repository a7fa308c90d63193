"""A root made by a real run, copied for each fault that is planted in it by hand."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from embedpipe.backends.batch_files import EXPIRED
from embedpipe.backends.memory.behaviour import GOOD, Behaviour
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.memory.vectors import MemoryCollection, MemoryVectorStore
from embedpipe.errors import NotFound
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, ProviderBatch, Record
from embedpipe.ports import VectorRows
from tests.protocol.scenes import SERVER_ERROR
from tests.worlds import KIND, SmallWorld
from verify.observation import World
from verify.strategies import ITEM_ERRORS

NOW = attrs.evolve(GOOD, running=())
BEHAVIOURS = {
    "r0": GOOD,
    "r3": attrs.evolve(NOW, fates={"r3": ITEM_ERRORS[0], "r4": SERVER_ERROR}),
    "r6": attrs.evolve(NOW, outcome="expired", fates={"r6": EXPIRED}),
    "r9": attrs.evolve(NOW, outcome="expired", fates=dict.fromkeys(("r9", "s0", "s1"), EXPIRED)),
}
"""By a record of the batch: good, one rejected and one to retry, one expired in part, one wholly."""


@cache
def grown() -> SmallWorld:
    """The root that faults are planted in: two submissions merged, retries, an expired batch, and two batches open."""
    later = NOW

    def behaviour(_: int, metadata: Mapping[str, str]) -> Behaviour:
        key = world.config.layout.requests_key(metadata["batch_id"])
        requests = world.objects.get(key).data
        row = world.table.get_many([metadata["batch_id"]])[metadata["batch_id"]]
        known = [made for name, made in BEHAVIOURS.items() if f'"custom_id":"{name}"'.encode() in requests]
        return known[0] if known and row.attempt == 1 else later

    world = SmallWorld(behaviour)
    world.objects = MemoryBlobStore(clock=world.clock)
    names = [f"r{number}" for number in range(10)] + ["s0", "s1"]
    world.pipeline().run([Record(id=name, text=f"text of {name}") for name in names])
    world.pipeline().run([Record(id=name, text=f"later text of {name}") for name in ("r1", "r5")])
    later = attrs.evolve(GOOD, outcome=None)
    world.pipeline().submit([Record(id=f"t{number}", text="open") for number in range(5)])
    world.pipeline().ingest()
    assert world.violations() == []
    return world


@cache
def seen() -> World:
    """What that root holds."""
    return grown().observe()


class ProviderView:
    """The provider of that root with another answer here and there."""

    def __init__(self, inner: MemoryProvider) -> None:
        self._inner = inner
        self.changes: dict[str, dict[str, Any]] = {}
        self.hidden: set[str] = set()
        self.extra: list[ProviderBatch] = []
        self.files: dict[str, bytes] = {}

    def change(self, provider_batch_id: str | None, **changes: Any) -> ProviderBatch:
        """Let it say something else of one batch; what it said before."""
        assert provider_batch_id is not None
        self.changes[provider_batch_id] = changes
        return next(batch for batch in self._inner.list() if batch.id == provider_batch_id)

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        yield from self.extra
        for batch in self._inner.list(after=after):
            if batch.id not in self.hidden:
                yield attrs.evolve(batch, **self.changes.get(batch.id, {}))

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        for batch in self.list():
            if batch.id == provider_batch_id:
                return batch
        raise NotFound(f"There is no batch {provider_batch_id}.")

    def content(self, file_id: str) -> Iterator[bytes]:
        return iter([self.files[file_id]]) if file_id in self.files else self._inner.content(file_id)


class Plant:
    """A copy of that root, and the words to damage it with. `seed` chooses which batch is hit."""

    def __init__(self, seed: int = 0) -> None:
        original = grown()
        self.random = random.Random(seed)
        self.world = SmallWorld(seed="planted")
        self.world.clock = original.clock
        self.world.provider = original.provider
        self.provider = ProviderView(original.provider)
        self.world.objects = MemoryBlobStore(clock=original.clock)
        for key, data in original.objects.contents().items():
            self.world.objects.write_raw(key, data)
        self.world.table = MemoryBatchTable()
        for row in seen().rows.values():
            item = original.table.read_raw(row.batch_id)
            assert item is not None
            self.world.table.write_raw(item)
        self.world.vectors = MemoryVectorStore()
        with (
            original.vectors.reading(KIND.database, KIND.collection, version="") as old,
            self.world.vectors.editing(KIND.database, KIND.collection, version=None, dimensions=8) as new,
        ):
            new.collection.upsert(old.get(list(old.ids())))
        self.layout = self.world.config.layout
        self.rows = seen().rows
        self.touched: set[str] = set()
        """What was chosen to be damaged: batches and their retries, executions, the collection."""

    # --- choosing --------------------------------------------------------------------------------------------------

    def some(self, *statuses: Status, where: Callable[[BatchRow], bool] = lambda _: True) -> BatchRow:
        """One of the rows in these statuses, by the seed."""
        found = [row for row in self.rows.values() if row.status in statuses and where(row)]
        assert found, f"no row in {statuses}"
        chosen = self.random.choice(sorted(found, key=lambda row: row.batch_id))
        self.touched |= {chosen.batch_id, *chosen.retry_batch_ids}
        return chosen

    def merged(self) -> BatchRow:
        """A completed batch all of whose vectors are in the catalog under its own claim."""
        return self.some(Status.COMPLETED, where=lambda row: bool(self.held(row)))

    def held(self, row: BatchRow) -> list[str]:
        """Ids that the catalog holds under the claim of this batch."""
        world = seen()
        own = {record.id: record.claim for record in world.records[row.batch_id]}
        return sorted(name for name, entry in world.catalog.items() if own.get(name) == entry.claim)

    def some_execution(self) -> str:
        """One that listed a batch and ended."""
        chosen = self.random.choice(self.executions())
        self.touched.add(chosen)
        return chosen

    def execution_of(self, row: BatchRow) -> str:
        """The execution that ended it."""
        assert row.completed_by is not None
        self.touched.add(row.completed_by)
        return row.completed_by

    def executions(self) -> list[str]:
        """Those that listed a batch and ended."""
        world = seen()
        return sorted(name for name, results in world.poll_results.items() if results and name in world.marked)

    # --- objects ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        return self.world.objects.get(key).data

    def put(self, key: str, data: bytes) -> None:
        """Write around every rule."""
        self.world.objects.write_raw(key, data)

    def json(self, key: str) -> Any:
        """An object as JSON."""
        return json.loads(self.get(key))

    def put_json(self, key: str, value: Any) -> None:
        """Write JSON."""
        self.put(key, json.dumps(value).encode())

    def edit(self, key: str, **changes: Any) -> None:
        """Change fields of a JSON object."""
        self.put_json(key, {**self.json(key), **changes})

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.world.objects.delete(key)

    def quote(self, row: BatchRow) -> None:
        """Let every execution quote the register as it is now."""
        for execution in self.executions():
            key = self.layout.poll_results_key(execution)
            now = self.json(self.result_key(row))
            self.put_json(
                key,
                [now if one["batch_id"] == row.batch_id and one["action"] != "wait" else one for one in self.json(key)],
            )

    def result_key(self, row: BatchRow) -> str:
        return self.layout.result_key(row.batch_id)

    def delta_key(self, row: BatchRow) -> str:
        key = self.json(self.result_key(row))["delta_key"]
        assert key
        return str(key)

    # --- rows ------------------------------------------------------------------------------------------------------

    def item(self, batch_id: str) -> dict[str, Any]:
        """A raw item."""
        found = self.world.table.read_raw(batch_id)
        assert found is not None
        return dict(found)

    def write_row(self, batch_id: str, **changes: Any) -> None:
        """Change attributes of an item; None removes one. Its index keys follow a change of status."""
        item = {**self.item(batch_id), **changes}
        if "status" in changes and "GSI1PK" not in changes:
            item["GSI1PK"] = f"STATUS#{changes['status']}"
        self.world.table.write_raw({name: value for name, value in item.items() if value is not None})

    def drop_row(self, batch_id: str) -> None:
        """Remove an item."""
        table = MemoryBatchTable()
        for item in list(self.world.table._items.values()):
            if item["PK"] != f"BATCH#{batch_id}":
                table.write_raw(item)
        self.world.table = table

    # --- catalog and collection ------------------------------------------------------------------------------------

    @property
    def pointer(self) -> dict[str, Any]:
        self.touched.add("collection")
        return dict(self.json(self.layout.latest_key(KIND.database)))

    @property
    def snapshot_prefix(self) -> str:
        return self.layout.snapshot_prefix(KIND.database, self.pointer["version"])

    @property
    def collection(self) -> MemoryCollection:
        """The collection itself."""
        self.touched.add("collection")
        return self.world.vectors.stored(KIND.database, KIND.collection)

    def change_catalog(self, change: Callable[[Any], Any]) -> None:
        """Rewrite the published catalog, with every hash along with it."""
        key = self.snapshot_prefix + self.layout.catalog_file
        data = rewritten(self.get(key), change)
        self.put(key, data)
        self.seal(catalog_sha256=hashlib.sha256(data).hexdigest(), count=rows_in(data))

    def seal(self, **changes: Any) -> None:
        """Change the published snapshot, and the pointer's hash along with it."""
        key = self.snapshot_prefix + self.layout.snapshot_file
        self.edit(key, **changes)
        self.edit(self.layout.latest_key(KIND.database), sha256=hashlib.sha256(self.get(key)).hexdigest())

    def drop_from_catalog(self, ids: list[str]) -> None:
        """Lose some ids, in catalog and collection alike, and leave every hash right."""
        self.change_catalog(lambda rows: without(rows, ids))
        self.collection.delete(ids)

    def change_delta(self, row: BatchRow, change: Callable[[Any], Any]) -> None:
        """Rewrite the vectors of a delta, with its hash and counts, and those of its register."""
        prefix = self.delta_key(row)
        data = rewritten(self.get(prefix + self.layout.vectors_file), change)
        self.put(prefix + self.layout.vectors_file, data)
        key = prefix + self.layout.delta_file
        delta = self.json(key)
        for entry in delta["files"]:
            if entry["name"] == self.layout.vectors_file:
                entry.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        self.put_json(key, {**delta, "embedding_count": rows_in(data)})
        self.edit(self.result_key(row), delta_sha256=hashlib.sha256(self.get(key)).hexdigest())

    def upsert(self, record_id: str, vector: list[float]) -> None:
        """A row of the collection."""
        import numpy as np

        self.collection.upsert(
            VectorRows(ids=[record_id], vectors=np.array([vector], np.float32), documents=[None], metadatas=[{}])
        )


def without(rows: Any, ids: list[str]) -> Any:
    """A table without some ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return rows.filter(pc.invert(pc.is_in(rows.column("id"), value_set=pa.array(ids, pa.string()))))


def rewritten(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """An Arrow file with its table changed."""
    from embedpipe.vectors import open_arrow, write_arrow

    with _file(data) as path:
        with open_arrow(path) as file:
            table = change(file.table())
            schema = file.schema
        other = path.with_name("other")
        write_arrow(other, schema, table.to_batches())
        return other.read_bytes()


def rows_in(data: bytes) -> int:
    """Rows of an Arrow file."""
    from embedpipe.vectors import open_arrow

    with _file(data) as path, open_arrow(path) as file:
        return file.rows


def _file(data: bytes) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Iterator[Path]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "one"
            path.write_bytes(data)
            yield path

    return opened()

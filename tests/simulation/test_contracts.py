"""The simulated services pass the suites that the real ones pass, from inside: every call is an effect of an actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from embedpipe.backends.memory.vectors import MemoryVectorStore, Row
from embedpipe.ports import VectorStore
from simulator.ports import SimulatedObjects, SimulatedProvider, SimulatedTable
from simulator.versions import Versions
from simulator.world import World
from tests.simulation.inside import Inside
from verify.contracts.batch_provider import BatchProviderContract
from verify.contracts.batch_table import BatchTableContract
from verify.contracts.blob_store import BlobStoreContract
from verify.contracts.vector_store import VectorStoreContract
from verify.contracts.vector_versions import NAME


class TestSimulatedObjects(Inside, BlobStoreContract):
    large_bytes = 1 << 20

    def connect(self, store: World) -> SimulatedObjects:
        return store.objects

    def raw_read(self, store: World, key: str) -> bytes | None:
        return store.stores.objects.contents().get(key)

    def raw_write(self, store: World, key: str, data: bytes) -> None:
        store.stores.objects.write_raw(key, data)


class TestSimulatedTable(Inside, BatchTableContract):
    def connect(self, store: World) -> SimulatedTable:
        return store.table

    def raw_read(self, store: World, batch_id: str) -> Mapping[str, Any] | None:
        return store.stores.table.read_raw(batch_id)

    def raw_write(self, store: World, batch_id: str, item: Mapping[str, Any]) -> None:
        store.stores.table.write_raw(item)


class TestSimulatedProvider(Inside, BatchProviderContract):
    model = "any"
    dimensions = 8
    shorter = 4
    bad_text = None
    embeds_online = False

    def connect(self, store: World) -> SimulatedProvider:
        return store.provider

    def raw_read(self, store: World, file_id: str) -> bytes | None:
        return store.stores.provider.bytes_of(file_id)

    def raw_write(self, store: World, data: bytes) -> str:
        store.stores.provider.files["file-theirs"] = data
        return "file-theirs"


class SimulatedVectorsSuite(Inside, VectorStoreContract, abstract=True):
    def connect(self, store: World) -> VectorStore:
        return store.vectors

    def raw_read(self, store: World, database: str, collection: str, record_id: str) -> Any:
        row = self.rows(store, database).get(record_id)
        return row and {"vector": row.vector, "document": row.document, "metadata": row.metadata}

    def raw_write(self, store: World, database: str, collection: str, record_id: str, row: Mapping[str, Any]) -> None:
        made = Row(np.array(row["vector"], np.float32), row["document"], row["metadata"])
        self.rows(store, database)[record_id] = made

    def rows(self, store: World, database: str) -> dict[str, Row]:
        raise NotImplementedError


class TestSimulatedVersions(SimulatedVectorsSuite):
    in_place = False

    def rows(self, store: World, database: str) -> dict[str, Row]:
        assert isinstance(store.stores.vectors, Versions)
        found = reversed(store.stores.vectors.stored.items())
        return next(collection.rows for (name, _), collection in found if name == database)


class TestSimulatedVectors(SimulatedVectorsSuite):
    def rows(self, store: World, database: str) -> dict[str, Row]:
        assert isinstance(store.stores.vectors, MemoryVectorStore)
        return store.stores.vectors.stored(database, NAME).rows

"""The simulated services pass the suites that the real ones pass. Outside of all actors no time passes and nothing strikes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from embedpipe.backends.memory.vectors import Row
from simulator.ports import SimulatedObjects, SimulatedTable
from simulator.versions import SimulatedVersions, Versions
from simulator.world import World
from verify.contracts.batch_table import BatchTableContract
from verify.contracts.blob_store import BlobStoreContract
from verify.contracts.vector_store import VectorStoreContract


class TestSimulatedObjects(BlobStoreContract):
    large_bytes = 1 << 20

    @pytest.fixture(autouse=True)
    def _world(self) -> Iterator[None]:
        with World(1) as self.world:
            yield

    def create(self) -> World:
        return self.world

    def connect(self, store: World) -> SimulatedObjects:
        return store.objects

    def raw_read(self, store: World, key: str) -> bytes | None:
        return store.stores.objects.contents().get(key)

    def raw_write(self, store: World, key: str, data: bytes) -> None:
        store.stores.objects.write_raw(key, data)


class TestSimulatedTable(BatchTableContract):
    @pytest.fixture(autouse=True)
    def _world(self) -> Iterator[None]:
        with World(1) as self.world:
            yield

    def create(self) -> World:
        return self.world

    def connect(self, store: World) -> SimulatedTable:
        return store.table

    def raw_read(self, store: World, batch_id: str) -> Mapping[str, Any] | None:
        return store.stores.table.read_raw(batch_id)

    def raw_write(self, store: World, batch_id: str, item: Mapping[str, Any]) -> None:
        store.stores.table.write_raw(item)


class TestSimulatedVersions(VectorStoreContract):
    @pytest.fixture(autouse=True)
    def _world(self) -> Iterator[None]:
        with World(1, in_place=False) as self.world:
            yield

    def create(self) -> Versions:
        stored = self.world.stores.vectors
        assert isinstance(stored, Versions)
        return stored

    def connect(self, store: Versions) -> SimulatedVersions:
        return SimulatedVersions(store, self.world.effects)

    def raw_read(self, store: Versions, database: str, collection: str, record_id: str) -> Any:
        row = self._newest(store, database).get(record_id)
        return row and {"vector": row.vector, "document": row.document, "metadata": row.metadata}

    def raw_write(
        self, store: Versions, database: str, collection: str, record_id: str, row: Mapping[str, Any]
    ) -> None:
        made = Row(np.array(row["vector"], np.float32), row["document"], row["metadata"])
        self._newest(store, database)[record_id] = made

    def _newest(self, store: Versions, database: str) -> dict[str, Row]:
        return next(found.rows for (name, _), found in reversed(store.stored.items()) if name == database)

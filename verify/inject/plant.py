"""The words that faults are planted with: choosing what is hit, by a seed, and changing objects, rows and vectors.

What is changed is written down, so that a person can be told. What was chosen is read from a world that was observed before the
first change. Nothing here knows a code.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.ports import VectorRows
from embedpipe.wire import format_time
from verify.inject.arrow import rewritten, rows_in, without
from verify.inject.ground import CannotPlant, Ground, ProviderEdits, VectorEdits
from verify.observation import SubmittedRecord, World

__all__ = ["Plant"]


class Plant:
    """Stores, and the words to damage them with. `seed` chooses which batch is hit."""

    def __init__(self, ground: Ground, seen: World, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.kind, self.layout, self.dimensions = ground.kind, ground.layout, ground.dimensions
        self.clock, self.objects, self.table = ground.clock, ground.objects, ground.table
        self._ground = ground
        self._seen = seen
        self.rows = seen.rows
        self.touched: set[str] = set()
        """What was chosen to be damaged: batches and their retries, executions, the collection."""
        self.changed: dict[str, None] = {}
        """What was changed, in order: `objects:KEY`, `row:BATCH_ID`, `vectors:DATABASE/COLLECTION`, `provider`."""

    # --- choosing --------------------------------------------------------------------------------------------------

    def some(self, *statuses: Status, where: Callable[[BatchRow], bool] = lambda _: True) -> BatchRow:
        """One of the rows in these statuses, by the seed. `CannotPlant` where there is none."""
        found = [row for row in self.rows.values() if row.status in statuses and where(row)]
        if not found:
            words = " or ".join(status.value for status in statuses)
            raise CannotPlant(f"It takes a batch that is {words} and fits, and this root has none.")
        chosen = self.random.choice(sorted(found, key=lambda row: row.batch_id))
        self.touched |= {chosen.batch_id, *chosen.retry_batch_ids}
        return chosen

    def merged(self) -> BatchRow:
        """A completed batch all of whose vectors are in the catalog under its own claim."""
        return self.some(Status.COMPLETED, where=lambda row: bool(self.held(row)))

    def held(self, row: BatchRow) -> list[str]:
        """Ids that the catalog holds under the claim of this batch."""
        own = {record.id: record.claim for record in self.records(row)}
        return sorted(name for name, entry in self._seen.catalog.items() if own.get(name) == entry.claim)

    def records(self, row: BatchRow) -> tuple[SubmittedRecord, ...]:
        """What was submitted with a batch."""
        return self._seen.records.get(row.batch_id, ())

    def some_execution(self) -> str:
        """One that listed a batch and ended."""
        found = self.executions()
        if not found:
            raise CannotPlant("It takes an execution that listed a batch and ended, and this root has none.")
        chosen = self.random.choice(found)
        self.touched.add(chosen)
        return chosen

    def execution_of(self, row: BatchRow) -> str:
        """The execution that ended it."""
        if row.completed_by is None:
            raise CannotPlant(f"No execution says that it has ended batch {row.batch_id}.")
        self.touched.add(row.completed_by)
        return row.completed_by

    def executions(self) -> list[str]:
        """Those that listed a batch and ended."""
        seen = self._seen
        return sorted(name for name, results in seen.poll_results.items() if results and name in seen.marked)

    def ago(self, **how_long: float) -> str:
        """A time before now, as objects spell it."""
        return format_time(self.clock.now() - timedelta(**how_long))

    # --- objects ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """The bytes of an object. `NotFound`."""
        return self.objects.get(key).data

    def put(self, key: str, data: bytes) -> None:
        """Write without a condition."""
        self.changed[f"objects:{key}"] = None
        self.objects.put(key, data)

    def json(self, key: str) -> Any:
        """An object as JSON. `NotFound`."""
        return json.loads(self.get(key))

    def put_json(self, key: str, value: Any) -> None:
        """Write JSON."""
        self.put(key, json.dumps(value).encode())

    def edit(self, key: str, **changes: Any) -> None:
        """Change fields of a JSON object. `NotFound`."""
        self.put_json(key, {**self.json(key), **changes})

    def delete(self, key: str) -> None:
        """Remove an object. `NotFound`: a fault that changes nothing is none."""
        self.get(key)
        self.changed[f"objects:{key}"] = None
        self.objects.delete(key)

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
        """Where its register is."""
        return self.layout.result_key(row.batch_id)

    def delta_key(self, row: BatchRow) -> str:
        """Where its delta is. `CannotPlant` where its register names none."""
        key = self.json(self.result_key(row)).get("delta_key")
        if not key:
            raise CannotPlant(f"It takes a batch with a delta, and {row.batch_id} has none.")
        return str(key)

    # --- rows ------------------------------------------------------------------------------------------------------

    def item(self, batch_id: str) -> dict[str, Any]:
        """A raw item."""
        found = self.table.read_raw(batch_id)
        if found is None:
            raise CannotPlant(f"Batch {batch_id} has no row.")
        return dict(found)

    def write_item(self, item: dict[str, Any], batch_id: str) -> None:
        """Put a whole item."""
        self.changed[f"row:{batch_id}"] = None
        self.table.write_raw(item)

    def write_row(self, batch_id: str, **changes: Any) -> None:
        """Change attributes of an item by the names of `BatchRow`; None removes one. Index keys follow a change of status."""
        layout = self.layout
        named = {layout.attributes.get(name, name): value for name, value in changes.items()}
        item = {**self.item(batch_id), **named}
        if "status" in changes:
            item[layout.index_pk] = layout.index_pk_value.format(status=changes["status"])
        self.write_item({name: value for name, value in item.items() if value is not None}, batch_id)

    def write_index(self, batch_id: str, status: str | None) -> None:
        """Let the index have a row under another status, or not at all."""
        layout = self.layout
        kept = {name: value for name, value in self.item(batch_id).items() if name != layout.index_pk}
        if status is None:
            kept.pop(layout.index_sk, None)
        else:
            kept[layout.index_pk] = layout.index_pk_value.format(status=status)
        self.write_item(kept, batch_id)

    def drop_row(self, batch_id: str) -> None:
        """Remove an item."""
        self.item(batch_id)
        self.changed[f"row:{batch_id}"] = None
        self.table.delete_raw(batch_id)

    # --- catalog and collection ------------------------------------------------------------------------------------

    @property
    def pointer(self) -> dict[str, Any]:
        """What is published. `CannotPlant` where nothing is."""
        self.touched.add("collection")
        if self._seen.latest is None:
            raise CannotPlant("It takes a published collection, and this root has none yet.")
        return dict(self.json(self.layout.latest_key(self.kind.database)))

    @property
    def snapshot_prefix(self) -> str:
        """Where the published version is."""
        return self.layout.snapshot_prefix(self.kind.database, self.pointer["version"])

    @property
    def collection(self) -> VectorEdits:
        """The collection itself. `CannotPlant` where it is nowhere that a copy has it."""
        self.touched.add("collection")
        if self._ground.vectors is None:
            raise CannotPlant("Its collection is not a part of the root, so a copy of the root has none.")
        self.changed[f"vectors:{self.kind.database}/{self.kind.collection}"] = None
        return self._ground.vectors

    @property
    def provider(self) -> ProviderEdits:
        """What the provider says. `CannotPlant` where that is not a part of the root."""
        if self._ground.provider is None:
            raise CannotPlant("Its provider is elsewhere, so what the provider says can't be changed in a copy.")
        self.changed["provider"] = None
        return self._ground.provider

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
        self.edit(self.layout.latest_key(self.kind.database), sha256=hashlib.sha256(self.get(key)).hexdigest())

    def drop_from_catalog(self, ids: list[str]) -> None:
        """Lose some ids, in catalog and collection alike, and leave every hash right."""
        collection = self.collection
        self.change_catalog(lambda rows: without(rows, ids))
        collection.delete(ids)

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
        self.trust_delta(row, key)

    def trust_delta(self, row: BatchRow, key: str) -> None:
        """Let its register, and whoever quotes that, have the hash of the delta as it is now."""
        self.edit(self.result_key(row), delta_sha256=hashlib.sha256(self.get(key)).hexdigest())
        self.quote(row)

    def upsert(self, record_id: str, vector: list[float]) -> None:
        """A row of the collection, without a document; the numbers are repeated up to its dimensions."""
        import numpy as np

        data = np.resize(np.array(vector, np.float32), (1, self.dimensions))
        self.collection.write(VectorRows(ids=[record_id], vectors=data, documents=[None], metadatas=[{}]))

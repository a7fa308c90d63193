"""A root of any size that is never stored: ports that make each row, object and vector from its number when it is asked for.

Healthy by construction: every batch completed, every record of it in the catalog and in the collection. Ids of a batch lie
spread over the whole collection, so that joining them is as hard as it gets. Only the catalog is a file, made once.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from heapq import merge
from pathlib import Path
from shutil import copyfile
from typing import Any

import attrs

from embedpipe import Kind
from embedpipe.backends.system import SystemClock
from embedpipe.errors import NotFound
from embedpipe.layout import SEED
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, Blob, BlobInfo, Hit
from embedpipe.ports import Collection, VectorRows
from embedpipe.wire import Head, Latest, Snapshot
from verify.audit.sources import Source

KIND = Kind("bench")
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
CREATED_AT = "2026-01-01T00:00:00Z"
VERSION = "1-bench"
BATCHES_PER_EXECUTION = 1_000
CATALOG_BATCH_ROWS = 4_096
DIMENSIONS = 8


@attrs.frozen(kw_only=True)
class Shape:
    """How large a root is."""

    batches: int
    rows: int = 0
    """Records of one batch."""
    dimensions: int = DIMENSIONS

    @property
    def executions(self) -> int:
        """Each lists a thousand batches, the last one fewer."""
        return -(-self.batches // BATCHES_PER_EXECUTION)

    @property
    def records(self) -> int:
        """Of all batches."""
        return self.batches * self.rows


def batch_name(number: int) -> str:
    """The `batch_id` of a batch."""
    return f"b-{number:07d}"


def batch_number(name: str) -> int:
    """Inverse of `batch_name`."""
    return int(name[2:])


def execution_name(number: int) -> str:
    """The `execution_id` of an execution."""
    return f"e-{number:05d}"


# --- records, as columns of their numbers --------------------------------------------------------------------------


def ids_of(numbers: Any) -> Any:
    """Ids that sort as their numbers do."""
    import pyarrow as pa
    import pyarrow.compute as pc

    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise("r", digits, "-")


def numbers_of(ids: Sequence[str]) -> Any:
    """Inverse of `ids_of`."""
    import numpy as np

    return np.fromiter((int(name[2:]) for name in ids), np.int64, len(ids))


def vectors_of(numbers: Any, dimensions: int) -> Any:
    """Shape (n, dimensions): a vector for each number, no two alike."""
    import numpy as np

    steps = np.arange(1, dimensions + 1, dtype=np.float64)
    return np.cos(numbers[:, None] * (0.1 + 0.618 * steps)).astype(np.float32)


def key_columns(numbers: Any) -> list[Any]:
    """id, seq, attempt and content hash."""
    import numpy as np
    import pyarrow as pa

    hashes = np.stack([numbers, numbers ^ 0x5BF03635], axis=1).astype(np.int64)
    return [
        ids_of(numbers),
        pa.repeat(pa.scalar(1, pa.int64()), len(numbers)),
        pa.repeat(pa.scalar(1, pa.int32()), len(numbers)),
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(numbers), [None, pa.py_buffer(hashes)]),
    ]


def arrow_file(path: Path, batches: Iterator[Any]) -> None:
    """Record batches as a file."""
    import pyarrow as pa

    first = next(batches)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- objects -------------------------------------------------------------------------------------------------------


class Objects:
    """A `BlobStore` to read from. `folder` holds the catalog, and one delta at a time."""

    bucket = "bench"

    def __init__(self, shape: Shape, folder: Path) -> None:
        self._shape = shape
        self._folder = folder
        self._delta = lru_cache(maxsize=1)(self._delta_of)
        self._results = lru_cache(maxsize=1)(self._results_of)

    # --- what there is -----------------------------------------------------------------------------------------

    @cached_property
    def _few(self) -> list[str]:
        """Keys that are no batch's, sorted."""
        names = [execution_name(number) for number in range(self._shape.executions)]
        kinds = (SEED.manifest_key, SEED.items_key, SEED.poll_results_key, SEED.marked_key, SEED.chunks_key)
        prefix = SEED.snapshot_prefix(KIND.database, VERSION)
        fixed = [SEED.head_key(KIND.database, KIND.collection), SEED.latest_key(KIND.database)]
        fixed += [prefix + SEED.snapshot_file, prefix + SEED.catalog_file]
        return sorted([*fixed, *(key(name) for key in kinds for name in names)])

    def _registers(self, prefix: str, after: str) -> Iterator[str]:
        stem = SEED.result.partition("{")[0]
        if not (prefix.startswith(stem) or stem.startswith(prefix)):
            return
        first = bisect_left(range(self._shape.batches), after, key=lambda at: SEED.result_key(batch_name(at)))
        for number in range(first, self._shape.batches):
            yield SEED.result_key(batch_name(number))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        """Registers are listed from their numbers."""
        after = after or ""
        start = bisect_left(self._few, max(prefix, after))
        few = (self._few[at] for at in range(start, len(self._few)))
        for key in merge(few, self._registers(prefix, after)):
            if key > after and key.startswith(prefix):
                yield BlobInfo(key=key, size_bytes=500, modified_at=WHEN)
            elif not key.startswith(prefix) and key > prefix:
                return

    def get(self, key: str) -> Blob:
        """One object of JSON, made now."""
        return Blob(data=self._made(key), etag="made")

    def _made(self, key: str) -> bytes:
        parts = key.split("/")
        if key == SEED.head_key(KIND.database, KIND.collection):
            return Head(database=KIND.database, collection=KIND.collection, seq=1).dump()
        if key == SEED.latest_key(KIND.database):
            return Latest(version=VERSION, n=1, sha256=hashlib.sha256(self.snapshot).hexdigest()).dump()
        if parts[-1] == SEED.snapshot_file:
            return self.snapshot
        if parts[-1] == SEED.delta_file:
            return self._delta(int(parts[-2]))[SEED.delta_file]
        if parts[0] in ("manifests", "poll_results", "chunks") and parts[1].startswith("e-"):
            return self._of_execution(parts[-1], parts[1])
        if parts[-1] == "result.json" and parts[1].startswith("b-"):
            return json.dumps(self._result(batch_number(parts[1]))).encode()
        raise NotFound(f"There is no object {key}.")

    # --- an execution ------------------------------------------------------------------------------------------

    def _listed(self, execution: str) -> range:
        first = int(execution[2:]) * BATCHES_PER_EXECUTION
        return range(first, min(first + BATCHES_PER_EXECUTION, self._shape.batches))

    def _of_execution(self, file: str, execution: str) -> bytes:
        numbers = self._listed(execution)
        listed = [
            {"index": at, "batch_id": batch_name(number), "openai_batch_id": f"batch_{number}"}
            for at, number in enumerate(numbers)
        ]
        whole = {"execution_id": execution, "created_at": CREATED_AT, "total_batches": len(listed), "batches": listed}
        made: Mapping[str, Any] = {
            "batches.json": whole | {"batch_type": KIND.batch_type, "schema": 1},
            "items.json": listed,
            "poll_results.json": [],
            "chunks.json": [],
            "marked.json": {},
        }
        if file == "poll_results.json":
            return self._results(execution)
        if file == "chunks.json":
            refs = [{"batch_id": batch_name(at), "delta_key": delta_key(at)} for at in numbers]
            return json.dumps([{"index": 0, "chunk_id": "0", "execution_id": execution, "deltas": refs}]).encode()
        return json.dumps(made[file]).encode()

    def _results_of(self, execution: str) -> bytes:
        return json.dumps([self._result(number) for number in self._listed(execution)]).encode()

    def _result(self, number: int) -> dict[str, Any]:
        return {
            "batch_id": batch_name(number),
            "openai_batch_id": f"batch_{number}",
            "batch_status": "completed",
            "action": "process_results",
            "results_count": self._shape.rows,
            "delta_id": f"{number}",
            "delta_key": delta_key(number),
            "embedding_count": self._shape.rows,
            "storage": "s3_delta",
            "collection": KIND.collection,
            "database": KIND.database,
            "rejected_count": 0,
            "retry_count": 0,
            "execution_id": execution_name(number // BATCHES_PER_EXECUTION),
            "schema": 1,
        }

    # --- files -------------------------------------------------------------------------------------------------

    def numbers(self, batch: int) -> Any:
        """Those of a batch's records."""
        import numpy as np

        return np.arange(batch, self._shape.records, self._shape.batches, dtype=np.int64)

    def download(self, key: str, path: Path) -> None:
        """The catalog is there; records and deltas are made now."""
        import pyarrow as pa

        parts = key.split("/")
        if parts[-1] == SEED.catalog_file:
            copyfile(self.catalog, path)
        elif parts[-1] == "records.arrow":
            columns = key_columns(self.numbers(batch_number(parts[1])))
            arrow_file(path, iter([pa.record_batch(columns, names=["id", "seq", "attempt", "content_hash"])]))
        else:
            self._delta(int(parts[-2]))
            copyfile(self._folder / parts[-1], path)

    def _delta_of(self, batch: int) -> dict[str, bytes]:
        import pyarrow as pa

        numbers = self.numbers(batch)
        names = ["id", "seq", "attempt", "content_hash", "vector"]
        files: list[dict[str, Any]] = []
        for name in (SEED.vectors_file, SEED.rejected_file, SEED.retry_file):
            path = self._folder / name
            path.write_bytes(b"")
            if name == SEED.vectors_file:
                flat = pa.array(vectors_of(numbers, self._shape.dimensions).reshape(-1))
                vectors = pa.FixedSizeListArray.from_arrays(flat, self._shape.dimensions)
                arrow_file(path, iter([pa.record_batch([*key_columns(numbers), vectors], names=names)]))
            files.append({"name": name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size})
        found = {
            "delta_id": f"{batch}",
            "batch_id": batch_name(batch),
            "database": KIND.database,
            "collection": KIND.collection,
            "model": "bench",
            "dimensions": self._shape.dimensions,
            "batch_status": "completed",
            "embedding_count": self._shape.rows,
            "rejected_count": 0,
            "retry_count": 0,
            "files": files,
            "created_at": CREATED_AT,
            "schema": 1,
        }
        return {SEED.delta_file: json.dumps(found).encode()}

    @cached_property
    def catalog(self) -> Path:
        """The catalog's file."""
        import numpy as np
        import pyarrow as pa

        path, names = self._folder / "catalog", ["id", "seq", "attempt", "content_hash"]
        starts = range(0, max(1, self._shape.records), CATALOG_BATCH_ROWS)
        ends = (min(start + CATALOG_BATCH_ROWS, self._shape.records) for start in starts)
        ranges = (np.arange(start, end, dtype=np.int64) for start, end in zip(starts, ends, strict=True))
        arrow_file(path, (pa.record_batch(key_columns(numbers), names=names) for numbers in ranges))
        return path

    @cached_property
    def snapshot(self) -> bytes:
        """`snapshot.json`."""
        return Snapshot(
            version=VERSION,
            n=1,
            ancestors=(),
            database=KIND.database,
            collection=KIND.collection,
            model="bench",
            dimensions=self._shape.dimensions,
            count=self._shape.records,
            catalog_sha256=sha256_of(self.catalog) if self._shape.rows else "",
            in_place=True,
            execution_id=execution_name(0),
            created_at=CREATED_AT,
        ).dump()


def delta_key(number: int) -> str:
    """The prefix of a batch's delta."""
    return SEED.delta_prefix(KIND.database, KIND.collection, str(number))


# --- table and collection ------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Table:
    """A `BatchTable` to read from."""

    shape: Shape

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """All that are asked for, apart from names that are no batch's."""
        return {name: self._row(batch_number(name)) for name in batch_ids if name.startswith("b-")}

    def _row(self, number: int) -> BatchRow:
        return BatchRow(
            batch_id=batch_name(number),
            batch_type=KIND.batch_type,
            status=Status.COMPLETED,
            provider_batch_id=f"batch_{number}",
            submitted_at=WHEN,
            request_count=self.shape.rows,
            seq=1,
            collection=KIND.collection,
            database=KIND.database,
            model="bench",
            dimensions=self.shape.dimensions,
            completed_by=execution_name(number // BATCHES_PER_EXECUTION),
            snapshot_version=VERSION,
            revision=4,
        )

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        """All are completed."""
        if (batch_type, status) == (KIND.batch_type, Status.COMPLETED):
            start = bisect_left(range(self.shape.batches), after, key=batch_name)
            yield from (name for at in range(start, self.shape.batches) if (name := batch_name(at)) > after)


class Vectors:
    """A `VectorStore` and its only collection, to read from."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._last = ""

    @contextmanager
    def reading(self, database: str, collection: str, *, version: str) -> Iterator[Collection]:
        """The collection; there is only one."""
        del database, collection, version
        open_one: Any = self  # of the port, only what reads
        yield open_one

    def ids(self, *, after: str = "") -> Iterator[str]:
        """Every id, in blocks of numbers."""
        import numpy as np

        assert not after
        for start in range(0, self._shape.records, 4_096):
            yield from ids_of(np.arange(start, min(start + 4_096, self._shape.records))).to_pylist()

    def get(self, ids: Sequence[str]) -> VectorRows:
        """The rows of these ids."""
        self._last = ids[0]
        vectors = vectors_of(numbers_of(ids), self._shape.dimensions)
        return VectorRows(ids=ids, vectors=vectors, documents=[None] * len(ids), metadatas=[{}] * len(ids))

    def count(self) -> int:
        """How many."""
        return self._shape.records

    def search(self, vector: Any, k: int) -> list[Hit]:
        """What was read last is what is asked for."""
        del vector, k
        return [Hit(id=self._last, distance=0.0)]


def source(shape: Shape, folder: Path) -> Source:
    """That root as an audit reads it."""
    ports: dict[str, Any] = {"objects": Objects(shape, folder), "table": Table(shape=shape)}  # of each, what reads
    if shape.rows:
        ports["vectors"] = Vectors(shape)
    return Source.over("bench", clock=SystemClock(), **ports)

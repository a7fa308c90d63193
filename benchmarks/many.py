"""A table with very many batches: `status` and one `ingest` grow no faster than the table does.

One batch in twenty is open, stands in the ledger and is running at the provider; the others ended long ago.

    python -m benchmarks.many
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import attrs

from benchmarks.measure import Figure, cpu_s
from embedpipe import Kind, Pipeline
from embedpipe.backends.sqlite import SqliteBatchTable
from embedpipe.config import Config
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow, ProviderBatch
from embedpipe.wire import Head, OpenRoot, row_to_item

KIND = Kind("bench")
MODEL = Config.load(env={}, flags={}).model
OPEN_EVERY = 20
SUBMITTED_AT = "2026-01-01T00:00:00Z"
NAMESPACE = UUID(int=0)


class RunningProvider:
    """A provider at which every batch is running, and nothing can be created."""

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """It is running."""
        return ProviderBatch(id=provider_batch_id, status="in_progress")

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """Nothing: no row is looked for."""
        del after
        return iter(())


def rows(count: int) -> list[BatchRow]:
    """The rows of the table."""
    return [
        BatchRow(
            batch_id=str(uuid5(NAMESPACE, str(at))),
            batch_type=KIND.batch_type,
            status=Status.COMPLETED if at % OPEN_EVERY else Status.PENDING,
            provider_batch_id=f"batch_{at}",
            submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
            request_count=1_000,
            seq=at + 1,
            collection=KIND.collection,
            database=KIND.database,
            model=MODEL.name,
            dimensions=MODEL.dimensions,
        )
        for at in range(count)
    ]


def fill(pipe: Pipeline, path: Path, table: Sequence[BatchRow]) -> None:
    """Put the rows into the table in one transaction, and the open ones into the ledger."""
    ctx = pipe.context
    ctx.table.put_new(table[0])  # makes the file
    layout, names = ctx.layout, "pk, sk, index_pk, index_sk, status, revision, item"
    with sqlite3.connect(path) as connection:
        connection.executemany(
            f"INSERT OR IGNORE INTO items ({names}) VALUES (?, ?, ?, ?, ?, ?, ?)", _values(ctx.table, table)
        )
    connection.close()
    head = Head(
        database=KIND.database,
        collection=KIND.collection,
        seq=len(table),
        open=tuple(_root(row) for row in table if row.status is Status.PENDING),
    )
    ctx.objects.put(layout.head_key(KIND.database, KIND.collection), head.dump())


def _root(row: BatchRow) -> OpenRoot:
    return OpenRoot(
        batch_id=row.batch_id,
        seq=row.seq or 0,
        part=0,
        request_sha256="0" * 64,
        records_sha256="0" * 64,
        request_count=row.request_count or 0,
        model=MODEL.name,
        dimensions=MODEL.dimensions,
        submitted_at=SUBMITTED_AT,
    )


def _values(table: object, found: Sequence[BatchRow]) -> Iterator[tuple[object, ...]]:
    assert isinstance(table, SqliteBatchTable)
    return (table._columns(row_to_item(row, table._layout)) for row in found)


def spent(count: int) -> Mapping[str, float]:
    """CPU seconds of each verb over a table of `count` batches."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        config = Config.load(root)
        config = attrs.evolve(config, run=attrs.evolve(config.run, threads=1))
        with Pipeline.open(root, kind=KIND, config=config) as local:
            provider: Any = RunningProvider()  # of the port, only what is called here
            backends = attrs.evolve(local._backends, provider=provider)
            pipe = Pipeline(backends, config, kind=KIND)
            fill(pipe, root / "table.sqlite3", rows(count))
            return {
                "ingest": cpu_s(pipe.ingest),
                "status": cpu_s(pipe.status),
            }


def run(few: int = 10_000, many: int = 100_000) -> list[Figure]:
    """CPU a batch of the long table over that of the short one: 1 is linear, less where fixed costs weigh."""
    small, large = spent(few), spent(many)
    return [
        Figure(
            f"{verb} with {many:,} batches over {few:,}, per batch",
            large[verb] / many / (small[verb] / few),
            1.5,
            note=f"{small[verb]:.2f} s and {large[verb]:.2f} s",
        )
        for verb in small
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)

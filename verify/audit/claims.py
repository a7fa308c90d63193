"""Every submitted record with its claim and what became of it, sorted by id beside the catalog: the proof, record by record.

External sort and merge of Arrow batches: memory is a few batches, whatever the number of records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from embedpipe.errors import CorruptData, full_disk, missing_extra
from embedpipe.lifecycle import OPEN, Status
from embedpipe.model import BatchRow
from verify.audit.deltas import DeltaSeen
from verify.audit.objects import Unreadable
from verify.audit.rows import Batch

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

from embedpipe.model import CONTENT_HASH_BYTES
from embedpipe.vectors import arrow_source, release_memory
from verify.audit.signatures import DIRECTIONS, SIGNATURE

__all__ = ["CLAIMS_SCHEMA", "Claims", "Ended", "Fate", "claims_of", "windows"]

RUN_ROWS: Final = 100_000
"""[ours] Claims sorted in memory at once: about 10 MB."""
BATCH_ROWS: Final = 256
"""[ours] Of each run, in memory while runs are merged: a hundred runs, so ten million claims, hold a few MB."""
SORT_PIECE_ROWS: Final = 8_192
RUNS_MAX: Final = 128
"""[ours] Runs of one size before they are merged into one: bounds open files, and memory beyond ten million claims."""
WINDOW_ROWS: Final = 8_192
"""[ours] Rows of a stream that are read ahead, so that a window is worth its overhead."""


class Fate(IntEnum):
    """What the batch of a record says became of it."""

    ON_ITS_WAY = 0
    VECTOR = 1
    REJECTED = 2
    RETRY = 3
    NOWHERE = 4  # the delta could be read and does not mention it
    UNKNOWN = 5  # its delta is damaged or gone
    UNSEEN = 6  # the audit could not look


class Ended(IntEnum):
    """How its batch ended."""

    OPEN = 0
    COMPLETED = 1
    OTHERWISE = 2


CLAIMS_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("seq", pa.int64()),
        ("attempt", pa.int32()),
        ("content_hash", pa.binary(CONTENT_HASH_BYTES)),
        ("batch", pa.int32()),
        ("fate", pa.int8()),
        ("ended", pa.int8()),
        ("signature", SIGNATURE),
    ]
)


# --- from a batch to its claims ------------------------------------------------------------------------------------


def ended_of(row: BatchRow) -> Ended:
    """How a row ended."""
    if row.status in OPEN:
        return Ended.OPEN
    return Ended.COMPLETED if row.status is Status.COMPLETED else Ended.OTHERWISE


def claims_of(batch: Batch, number: int) -> Any:
    """The claims of one batch as a table, by its record file, else by its delta; None where it has neither."""
    row = batch.known_row
    if row is None:
        return None
    seen = batch.delta if isinstance(batch.delta, DeltaSeen) else None
    keys = batch.records if isinstance(batch.records, pa.Table) else seen.keys if seen is not None else None
    if keys is None:
        return None
    ended = ended_of(row)
    fates = _fates(keys, seen) if seen is not None and seen.whole else _hidden(batch, ended, keys.num_rows)
    columns = [*(keys.column(name).combine_chunks() for name in ("id", "seq", "attempt", "content_hash"))]
    columns += [
        _all(number, keys.num_rows, pa.int32()),
        pa.array(fates, pa.int8()),
        _all(ended, keys.num_rows, pa.int8()),
    ]
    return pa.table([*columns, _signatures(keys, seen)], schema=CLAIMS_SCHEMA)


def _all(value: int, count: int, kind: Any) -> Any:
    return pa.repeat(pa.scalar(int(value), kind), count)


def _hidden(batch: Batch, ended: Ended, count: int) -> Any:
    """Why a batch has no delta that says what became of its records: all of them alike."""
    if ended is Ended.OPEN:
        return np.full(count, Fate.ON_ITS_WAY, np.int8)
    parts = [batch.register, batch.delta, *(batch.delta.problems if isinstance(batch.delta, DeltaSeen) else ())]
    denied = any(isinstance(part, Unreadable) and not part.is_fault for part in parts)
    return np.full(count, Fate.UNSEEN if denied else Fate.UNKNOWN, np.int8)


def _fates(keys: Any, seen: DeltaSeen) -> Any:
    fates = np.full(keys.num_rows, Fate.NOWHERE, np.int8)
    parts = {
        Fate.RETRY: pa.array([entry.id for entry in seen.retry or ()], pa.string()),
        Fate.REJECTED: pa.array([entry.id for entry in seen.rejected or ()], pa.string()),
        Fate.VECTOR: seen.keys.column("id"),
    }
    for fate, ids in parts.items():
        fates[_is_in(keys.column("id"), ids)] = fate
    return fates


def _is_in(ids: Any, among: Any) -> Any:
    among = among.combine_chunks() if isinstance(among, pa.ChunkedArray) else among
    return np.asarray(pc.is_in(ids, value_set=among))


def _signatures(keys: Any, seen: DeltaSeen | None) -> Any:
    if seen is None or seen.keys is None or "signature" not in seen.keys.schema.names:
        return pa.nulls(keys.num_rows, SIGNATURE)
    at = pc.index_in(keys.column("id"), value_set=seen.keys.column("id").combine_chunks())
    at = at.combine_chunks() if isinstance(at, pa.ChunkedArray) else at
    return seen.keys.column("signature").combine_chunks().take(at)


# --- sorting -------------------------------------------------------------------------------------------------------


class Claims:
    """Claims of all batches of one collection, added in any order and read sorted by id. For one thread."""

    def __init__(self, folder: Path, name: str, *, run_rows: int = RUN_ROWS, runs_max: int = RUNS_MAX) -> None:
        self._folder = folder
        self._name = name
        self._run_rows = run_rows
        self._runs_max = runs_max
        self._held: list[Any] = []
        self._held_rows = 0
        self._runs: list[Path] = []
        self._merged: list[Path] = []
        """Runs of `RUNS_MAX` runs each."""
        self._old: list[Path] = []
        self._old_batches = 0
        self.obsolete: list[Path] = []
        """Runs that were merged, to be removed once nobody counts on them."""
        self._made = 0
        self.batches: list[str] = []
        """The batch behind each number."""
        self.rows = 0

    def restore(self, files: Sequence[str], batches: int) -> None:
        """Begin with the runs of an interrupted audit; of their `batches` numbers only those count that `keep` names."""
        self._old = [self._folder / name for name in files]
        self._old_batches = batches
        self._made = max((int(path.stem.rpartition("-")[2]) for path in self._old), default=0)
        self.batches = [""] * batches

    def keep(self, number: int, batch_id: str) -> None:
        """The claims of this batch stand as they were."""
        self.batches[number] = batch_id

    @property
    def files(self) -> list[str]:
        """All that was taken in, as files of its folder. `StorageFull`."""
        if self._held:
            self._spill()
        return [path.name for path in (*self._old, *self._merged, *self._runs)]

    def add(self, batch: Batch) -> int:
        """Take in one batch; the number it has, -1 where it has no claims. `StorageFull`."""
        table = claims_of(batch, len(self.batches))
        if table is None:
            return -1
        self.batches.append(batch.batch_id)
        self._held.append(table)
        self._held_rows += table.num_rows
        self.rows += table.num_rows
        if self._held_rows >= self._run_rows:
            self._spill()
        return len(self.batches) - 1

    def streams(self) -> list[Iterator[Any]]:
        """Sorted runs as streams of batches; may be read again."""
        if self._held:
            self._spill()
        return [*map(self._kept, self._old), *map(_read, (*self._merged, *self._runs))]

    def _kept(self, path: Path) -> Iterator[Any]:
        kept = np.array([bool(name) for name in self.batches[: self._old_batches]])
        return (batch.filter(pa.array(kept[np.asarray(batch.column("batch"))])) for batch in _read(path))

    def _spill(self) -> None:
        table = pa.concat_tables(self._held)
        self._runs.append(self._write(_in_order(table)))
        self._held, self._held_rows = [], 0  # last: who is interrupted still holds all that was taken in
        size_bytes = table.nbytes
        del table
        release_memory(size_bytes)  # else the allocator keeps a run's memory while others are joined
        if len(self._runs) >= self._runs_max:
            self._merged.append(self._write(merged([_read(path) for path in self._runs])))
            self.obsolete += self._runs
            self._runs = []

    def _write(self, batches: Iterable[Any]) -> Path:
        self._made += 1
        path = self._folder / f"{self._name}-{self._made:06d}.arrow"
        with full_disk(str(path)), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, CLAIMS_SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return path


def _in_order(table: Any) -> Iterator[Any]:
    """The rows of a table sorted by id, copied a piece at a time."""
    order = pc.sort_indices(table.column("id"))
    for start in range(0, table.num_rows, SORT_PIECE_ROWS):
        piece = table.take(order.slice(start, SORT_PIECE_ROWS)).combine_chunks()
        yield from piece.to_batches(BATCH_ROWS)


def _read(path: Path) -> Iterator[Any]:
    with pa.OSFile(str(path), "rb") as file:
        reader = pa.ipc.open_file(arrow_source(file))
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


# --- merging -------------------------------------------------------------------------------------------------------


class _Front:
    """What was read of one sorted stream and not yet given on: at least `ahead` rows, while there are that many."""

    def __init__(self, stream: Iterable[Any], name: str, ahead: int) -> None:
        self._more = iter(stream)
        self._name = name
        self._ahead = ahead
        self._parts: list[Any] = []
        self._rows = 0
        self.last = ""
        """The greatest id that was read."""
        self.done = False

    def fill(self) -> None:
        """Read as far ahead as is wanted."""
        while self._rows < self._ahead and not self.done:
            self.read()

    def read(self) -> None:
        """One more batch that is not empty."""
        for batch in self._more:
            if batch.num_rows:
                ids = batch.column("id")
                if ids[0].as_py() < self.last:
                    raise CorruptData(f"{self._name} is not sorted by id.")
                self.last = str(ids[len(ids) - 1].as_py())
                self._parts.append(batch)
                self._rows += batch.num_rows
                return
        self.done = True

    def below(self, horizon: str | None) -> list[Any]:
        """Take the rows below the horizon, all where it is None."""
        taken: list[Any] = []
        while self._parts:
            batch = self._parts[0]
            end = batch.num_rows if horizon is None else _count_below(batch.column("id"), horizon)
            taken += [batch.slice(0, end)] if end else []
            self._rows -= end
            if end < batch.num_rows:
                self._parts[0] = batch.slice(end)
                return taken
            self._parts.pop(0)
        return taken


def _count_below(ids: Any, horizon: str) -> int:
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if ids[middle].as_py() < horizon:
            low = middle + 1
        else:
            high = middle
    return low


def windows(
    streams: Sequence[Iterable[Any]], names: Sequence[str], *, side_by_side: int = 1
) -> Iterator[list[list[Any]]]:
    """Cut sorted streams at common ids: of each stream the batches of one range. Equal ids are never parted.

    The last `side_by_side` streams are runs of one whole, so each of them is read less far ahead. `CorruptData` names a
    stream that is not sorted.
    """
    alone = len(streams) - side_by_side
    share = 2 * WINDOW_ROWS // max(1, side_by_side)
    ahead = [WINDOW_ROWS if at < alone else share for at in range(len(streams))]
    fronts = [_Front(*given) for given in zip(streams, names, ahead, strict=True)]
    while True:
        for front in fronts:
            front.fill()
        running = [front for front in fronts if not front.done]
        horizon = min((front.last for front in running), default=None)
        parts = [front.below(horizon) for front in fronts]
        if any(parts):
            yield parts
        elif horizon is not None:
            for front in running:  # one id fills all that was read of it
                if front.last == horizon:
                    front.read()
        if horizon is None:
            return


def merged(runs: Sequence[Iterable[Any]]) -> Iterator[Any]:
    """Sorted runs of claims as one sorted stream of batches."""
    for parts in windows(runs, ["claims"] * len(runs), side_by_side=len(runs)):
        table = pa.Table.from_batches([batch for part in parts for batch in part], schema=CLAIMS_SCHEMA)
        yield from _in_order(table)


def matrix(column: Any) -> Any:
    """A column of signatures, shape (n, DIRECTIONS); NaN where there is none."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    found = np.full((len(column), DIRECTIONS), np.nan, np.float32)
    present = np.asarray(column.is_valid())
    if present.any():
        found[present] = np.asarray(column.drop_null().flatten()).reshape(-1, DIRECTIONS)
    return found

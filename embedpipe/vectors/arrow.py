"""Arrow files of records, vectors and catalogs: written in one pass, read memory-mapped and checked.

The rule kept here: what `open_arrow` gives has the schema asked for and is safe to compute on; any other file is
`CorruptData` that names it. Nothing here knows where a file comes from or what its rows mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embedpipe.errors import CorruptData, InvalidInput, NotFound, full_disk, missing_extra
from embedpipe.model import CONTENT_HASH_BYTES

try:
    import numpy as np
    import pyarrow as pa
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray


SMALL_BYTES: Final = 64 * 1024
"""[ours] A file up to this size is not worth to be read in parts."""

# --- schemas -------------------------------------------------------------------------------------------------------


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _claim_fields() -> list[pa.Field]:
    return [_field("id", pa.string()), _field("seq", pa.int64()), _field("attempt", pa.int32())]


def _hash_field() -> pa.Field:
    return _field("content_hash", pa.binary(CONTENT_HASH_BYTES))


def records_schema() -> pa.Schema:
    """A batch's records, in the order of its input file: id, seq, attempt, tries, content_hash, document, metadata.

    `metadata` is canonical JSON, or the empty string.
    """
    return pa.schema(
        [
            *_claim_fields(),
            _field("tries", pa.int32()),
            _hash_field(),
            _field("document", pa.string()),
            _field("metadata", pa.string()),
        ]
    )


def vectors_schema(dimensions: int) -> pa.Schema:
    """A delta: id, seq, attempt, content_hash, vector (float32, `dimensions` long), document, metadata.

    The last two are null in the delta of a batch that has no record files.

    >>> vectors_schema(3).names
    ['id', 'seq', 'attempt', 'content_hash', 'vector', 'document', 'metadata']
    """
    return pa.schema(
        [
            *_claim_fields(),
            _hash_field(),
            _field("vector", pa.list_(pa.float32(), dimensions)),
            pa.field("document", pa.string()),
            pa.field("metadata", pa.string()),
        ]
    )


def catalog_schema() -> pa.Schema:
    """What a collection holds: id, seq, attempt, content_hash."""
    return pa.schema([*_claim_fields(), _hash_field()])


# --- vectors as a column -------------------------------------------------------------------------------------------


def vector_column(matrix: NDArray[np.float32]) -> pa.Array:
    """A `vector` column over a C-contiguous float32 matrix of shape (n, dimensions), without a copy.

    >>> vector_column(np.eye(2, dtype=np.float32)).to_pylist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def vector_matrix(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float32]:
    """Inverse of `vector_column`: shape (n, dimensions), read-only, a copy only where the column has several chunks."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    matrix: NDArray[np.float32] = np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return matrix


# --- writing -------------------------------------------------------------------------------------------------------


class ArrowWriter:
    """An open Arrow file. `rows` counts what was written."""

    def __init__(self, writer: pa.RecordBatchFileWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append. Columns go by name, extra ones are left out; `InvalidInput` where one is missing or does not fit."""
        odd = _misfit(batch.schema, self._schema)
        if odd:
            raise InvalidInput(f"The rows do not fit the file: {odd}.")
        fitting = _conform(batch, self._schema)
        odd = _null_column(fitting)
        if odd:
            raise InvalidInput(f"The rows do not fit the file: {odd}.")
        self._writer.write_batch(fitting)
        self.rows += batch.num_rows


@contextmanager
def arrow_writer(path: Path, schema: pa.Schema) -> Iterator[ArrowWriter]:
    """Write an Arrow IPC file batch by batch. After an error nothing is at `path`. `StorageFull`."""
    try:
        with full_disk(str(path)), pa.OSFile(str(path), "wb") as sink:
            writer = pa.ipc.new_file(sink, schema)
            yield ArrowWriter(writer, schema)
            writer.close()  # writes the footer; a file without one is refused by every reader
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write an Arrow IPC file in one pass; the number of rows. As `arrow_writer`."""
    with arrow_writer(path, schema) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.rows


# --- reading -------------------------------------------------------------------------------------------------------


class ArrowFile:
    """An open, memory-mapped Arrow file. What it gives stays valid after it is closed."""

    def __init__(self, reader: pa.RecordBatchFileReader, schema: pa.Schema, path: Path) -> None:
        self._reader = reader
        self._path = path
        self.schema = schema
        """What was asked for, or what the file has."""
        self.rows: int = sum(self._read(index).num_rows for index in range(reader.num_record_batches))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its record batches, checked, without a copy. `CorruptData`."""
        for index in range(self._reader.num_record_batches):
            batch = self._read(index)
            try:
                # Offsets and UTF-8 come from outside: unchecked ones would read beyond the map.
                batch.validate(full=True)
            except (pa.ArrowException, ValueError) as error:
                raise _corrupt(self._path, str(error)) from None
            odd = _null_column(batch)
            if odd:
                raise _corrupt(self._path, odd)
            yield batch

    def table(self) -> pa.Table:
        """All rows, checked, without a copy. `CorruptData`."""
        return pa.Table.from_batches(self.batches(), schema=self.schema)

    def _read(self, index: int) -> pa.RecordBatch:
        try:
            return _conform(self._reader.get_batch(index), self.schema)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _corrupt(self._path, str(error)) from None


@contextmanager
def open_arrow(path: Path, schema: pa.Schema | None = None) -> Iterator[ArrowFile]:
    """Open an Arrow IPC file. With a schema, the file must have its columns (order and others do not matter).

    `CorruptData` where it is truncated, no Arrow file or has another schema; `NotFound`.
    """
    with _mapped(path) as source:
        try:
            # From the map as a buffer: a file is read by threads of Arrow's, which costs a tenth of a millisecond each time.
            reader = pa.ipc.open_file(source.read_buffer())
        except (pa.ArrowException, OSError) as error:
            raise _corrupt(path, str(error)) from None
        odd = schema is not None and _misfit(reader.schema, schema)
        if odd:
            raise _corrupt(path, odd)
        yield ArrowFile(reader, reader.schema if schema is None else schema, path)


@contextmanager
def _mapped(path: Path) -> Iterator[pa.NativeFile]:
    try:
        source = pa.memory_map(str(path))
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.", path=str(path)) from None
    with source:
        yield source


def _corrupt(path: Path, why: str) -> CorruptData:
    return CorruptData(f"{path} is not the Arrow file that was written: {why[:300]}.", path=str(path))


def _misfit(found: pa.Schema, wanted: pa.Schema) -> str:
    """What `found` lacks of `wanted`, in words; empty where it lacks nothing."""
    if found is wanted:
        return ""
    for field in wanted:
        index = found.get_field_index(field.name)  # -1 also for a doubled name
        if index < 0:
            return f"column {field.name!r} is missing"
        if found.field(index).type != field.type:
            return f"column {field.name!r} is {found.field(index).type}, not {field.type}"
    return ""


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    return pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)


def _null_column(batch: pa.RecordBatch) -> str:
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not field.nullable and column.null_count:
            return f"column {field.name!r} has nulls"
    return ""


def arrow_source(file: pa.NativeFile) -> pa.NativeFile | pa.Buffer:
    """What to open an Arrow file from where it is not mapped: a small one is read at once, which spares Arrow's threads."""
    return file.read_buffer() if file.size() <= SMALL_BYTES else file


RELEASE_BYTES: Final = 1024 * 1024
"""[ours] What is smaller is not worth a tenth of a millisecond: the allocator takes it for what comes next."""


def release_memory(size_bytes: int) -> None:
    """Give back to the system what Arrow's allocator still holds of tables of so many bytes, which nobody needs any more."""
    if size_bytes >= RELEASE_BYTES:
        pa.default_memory_pool().release_unused()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, streamed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""One delta, read and hashed: its keys column by column, what it rejected, what it left to retry, and what is wrong with it.

Arrow files are read batch by batch, never mapped, so that memory is one batch and the keys of one provider batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from embedpipe.errors import CorruptData, missing_extra
from embedpipe.layout import Layout
from embedpipe.model import CONTENT_HASH_BYTES
from embedpipe.ports import BlobStore
from embedpipe.wire import Delta, Rejected, Result, Retry
from verify.audit.objects import Unreadable, Why, guarded

__all__ = ["DeltaSeen", "arrow_batches", "downloaded", "key_columns", "read_delta", "sha256_of"]

KEY_COLUMNS: Final = ("id", "seq", "attempt", "content_hash")
HASH_PIECE_BYTES: Final = 1 << 20

L = TypeVar("L", Rejected, Retry)


@attrs.frozen(kw_only=True, eq=False)
class DeltaSeen:
    """What a delta holds. A part that can't be read is None, and `problems` says why."""

    key: str
    delta: Delta
    keys: Any = None
    """Arrow table of `KEY_COLUMNS`, and `signature` where vectors are compared."""
    rejected: tuple[Rejected, ...] | None = None
    retry: tuple[Retry, ...] | None = None
    problems: tuple[Unreadable, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all of it could be read."""
        return not self.problems


def read_delta(
    objects: BlobStore, layout: Layout, result: Result, folder: Path, *, signed: bool
) -> DeltaSeen | Unreadable:
    """The delta that a result names. `signed`: sum up each vector, so that it can be compared later."""
    key = result.delta_key or ""
    found = guarded(key + layout.delta_file, lambda: _delta_file(objects, key + layout.delta_file, result))
    if isinstance(found, Unreadable):
        return _foreign(objects, key, result) if found.why is Why.MISSING else found
    problems: list[Unreadable] = []

    def part(name: str, parse: Any) -> Any:
        read = guarded(key + name, lambda: _checked(objects, key, found, name, folder, parse))
        if isinstance(read, Unreadable):
            problems.append(read)
            return None
        return read

    dimensions = found.dimensions if signed else None
    return DeltaSeen(
        key=key,
        delta=found,
        keys=part(layout.vectors_file, lambda path: key_columns(path, dimensions=dimensions)),
        rejected=part(layout.rejected_file, lambda path: _lines(path, Rejected)),
        retry=part(layout.retry_file, lambda path: _lines(path, Retry)),
        problems=tuple(problems),
    )


def _delta_file(objects: BlobStore, key: str, result: Result) -> Delta:
    data = objects.get(key).data
    ours = hashlib.sha256(data).hexdigest()
    if result.delta_sha256 is not None and ours != result.delta_sha256:
        raise CorruptData(f"{key} has SHA-256 {ours}, and its result says {result.delta_sha256}.")
    return Delta.load(data, key)


def _foreign(objects: BlobStore, key: str, result: Result) -> Unreadable:
    """Why there is no delta.json: the delta is not there, or it is of a pipeline that writes none."""
    if result.delta_sha256 is None and next(iter(objects.list(key)), None) is not None:
        return Unreadable(key=key, why=Why.NEWER, reason=f"{key} is a delta of another format.")
    return Unreadable(key=key, why=Why.MISSING, reason=f"{key} holds no delta.")


def _checked(objects: BlobStore, prefix: str, delta: Delta, name: str, folder: Path, parse: Any) -> Any:
    entry = next((file for file in delta.files if file.name == name), None)
    if entry is None:
        raise CorruptData(f"{prefix} does not name its {name}.")
    with downloaded(objects, prefix + name, folder) as path:
        ours = sha256_of(path)
        if ours != entry.sha256:
            raise CorruptData(f"{prefix}{name} has SHA-256 {ours}, and its delta.json says {entry.sha256}.")
        return parse(path)


@contextmanager
def downloaded(objects: BlobStore, key: str, folder: Path) -> Iterator[Path]:
    """An object as a local file while the block runs."""
    path = folder / "object"
    path.unlink(missing_ok=True)
    objects.download(key, path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, streamed."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(HASH_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _lines(path: Path, kind: type[L]) -> tuple[L, ...]:
    with path.open("rb") as stream:
        return tuple(kind.load(line, f"line {number}") for number, line in enumerate(stream, 1) if line.strip())


def arrow_batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Checked record batches of an Arrow file, those columns only. `CorruptData`."""
    try:
        import pyarrow as pa

        from embedpipe.vectors import arrow_source
    except ImportError as error:
        raise missing_extra("vectors", error.name or "pyarrow") from None

    try:
        with pa.OSFile(str(path), "rb") as file:
            source = arrow_source(file)
            reader = pa.ipc.open_file(source)
            missing = [name for name in columns if reader.schema.get_field_index(name) < 0]
            if missing:
                raise CorruptData(f"an Arrow file without columns {missing}")
            # Read again with these columns alone: the others are then not even read from the file.
            wanted = [reader.schema.get_field_index(name) for name in columns]
            reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=wanted))
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index).select(list(columns))
                batch.validate(full=True)
                yield pa.RecordBatch.from_arrays(batch.columns, names=list(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptData(f"not the Arrow file that was written: {str(error)[:200]}") from None


def keys_schema() -> Any:
    """The columns that records are joined by."""
    import pyarrow as pa

    kinds = (pa.string(), pa.int64(), pa.int32(), pa.binary(CONTENT_HASH_BYTES))
    return pa.schema(list(zip(KEY_COLUMNS, kinds, strict=True)))


def key_columns(path: Path, *, dimensions: int | None = None) -> Any:
    """The key columns of a file of records or vectors as a table; with `dimensions`, a signature of each vector too."""
    import pyarrow as pa

    from verify.audit.signatures import SIGNATURE, signatures

    wanted = (*KEY_COLUMNS, "vector") if dimensions else KEY_COLUMNS
    schema = keys_schema().append(pa.field("signature", SIGNATURE)) if dimensions else keys_schema()
    parts = []
    for batch in arrow_batches(path, wanted):
        columns = [batch.column(name).cast(schema.field(name).type) for name in KEY_COLUMNS]
        if dimensions:
            columns.append(signatures(batch.column("vector"), dimensions))
        parts.append(pa.record_batch(columns, schema=schema))
    return pa.Table.from_batches(parts, schema=schema)

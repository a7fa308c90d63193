"""The proof of completeness: is each record of a batch in the catalog, under its claim or a greater one?"""

from __future__ import annotations

from typing import Final

from embedpipe.errors import missing_extra
from embedpipe.stages.streams import Stream, table, windows

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

NEEDED_SCHEMA: Final = pa.schema(
    [("id", pa.string()), ("seq", pa.int64()), ("attempt", pa.int32()), ("batch", pa.int32())]
)
"""A record that has to be in the catalog, and the index of the batch that needs it."""


def unproven(catalog: Stream, needed: Stream, *, batches: int, catalog_schema: pa.Schema) -> list[int]:
    """For each of `batches` batches, how many of its records the catalog does not prove. Both streams sorted by id."""
    lacking = np.zeros(batches, np.int64)
    for held_parts, needed_parts in windows([catalog, needed]):
        if needed_parts:
            held, wanted = table(held_parts, catalog_schema), table(needed_parts, NEEDED_SCHEMA)
            proven = _proven(held, wanted)
            lacking += np.bincount(np.asarray(wanted.column("batch"))[~proven], minlength=batches)
    return [int(count) for count in lacking]


def _proven(held: pa.Table, wanted: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    at = pc.index_in(wanted.column("id"), value_set=held.column("id").combine_chunks())
    found = np.asarray(pc.is_valid(at))
    facing = at.combine_chunks().drop_null()
    proven = np.zeros(wanted.num_rows, bool)
    seq, attempt = (np.asarray(held.column(name).take(facing)) for name in ("seq", "attempt"))
    own_seq, own_attempt = (np.asarray(wanted.column(name))[found] for name in ("seq", "attempt"))
    proven[found] = (seq > own_seq) | ((seq == own_seq) & (attempt >= own_attempt))
    return proven

"""Submit, decided: what of the input is new, how it is cut into batches, their names, and the ledger's next head.

Records come sorted by id. The skip rule looks at the greatest claim of each id over open batches and the catalog together.
Cuts are deterministic: the same records, claims and limits give the same files and so the same `batch_id`s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

import attrs
import msgspec

from embedpipe.errors import DuplicateRecord, InvalidInput, missing_extra
from embedpipe.lifecycle import OPEN
from embedpipe.limits import BYTES_PER_TOKEN_MAX, SUBMITTERS_KEPT, Limits
from embedpipe.model import BatchRow, EmbeddingModel, Kind, place
from embedpipe.stages.streams import Stream, greatest_claims, one_array, sorted_by_id, table, windows
from embedpipe.wire import Head, OpenRoot, Submitter

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise missing_extra("vectors", error.name or "pyarrow") from None

ENDPOINT: Final = "/v1/embeddings"

DRAFT_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("content_hash", pa.binary(16), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
    ]
)
"""A record on its way into a submission. `source` and `line` as in `blocks.RecordBlock`."""

KNOWN_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("content_hash", pa.binary(16), nullable=False),
    ]
)
"""A claim that stands: in the catalog, or in an open batch."""


# --- which records are new -----------------------------------------------------------------------------------------


def unique(drafts: pa.Table) -> pa.Table:
    """Sorted drafts, each id once. Doubled ids with one content count once; with two, `DuplicateRecord` names both."""
    drafts = sorted_by_id(drafts)
    ids = one_array(drafts.column("id"))
    if len(ids) < 2:
        return drafts
    same = np.asarray(pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    if not same.any():
        return drafts
    hashes = drafts.column("content_hash").combine_chunks()
    differ = same & ~np.asarray(pc.equal(hashes.slice(1), hashes.slice(0, len(hashes) - 1)))
    if differ.any():
        _refuse_double(drafts, int(np.argmax(differ)))
    return drafts.filter(pa.array(np.concatenate(([True], ~same))))


def _refuse_double(drafts: pa.Table, at: int) -> None:
    first, second = (drafts.slice(at + i, 1).to_pylist()[0] for i in (0, 1))
    places = " and ".join(place(row["source"], row["line"]) or "an unnamed place" for row in (first, second))
    raise DuplicateRecord(
        f"Record {ascii(first['id'])[:80]} comes twice with different content: {places}.",
        hint="Give each its own id, or leave one out.",
        record_id=first["id"],
    )


def new_drafts(drafts: Sequence[Stream], known: Sequence[Stream]) -> Iterator[tuple[pa.Table, int]]:
    """For each window: the drafts to submit, sorted and unique, and how many were skipped as already claimed.

    `drafts`: streams of `DRAFT_SCHEMA`. `known`: streams of `KNOWN_SCHEMA`, over which the greatest claim of an id counts.
    """
    for parts in windows([*drafts, *known]):
        mine = [batch for part in parts[: len(drafts)] for batch in part]
        if not mine:
            continue
        rows = unique(table(mine, DRAFT_SCHEMA))
        claims = greatest_claims(table([b for part in parts[len(drafts) :] for b in part], KNOWN_SCHEMA))
        kept = _without_claimed(rows, claims) if claims.num_rows else rows
        yield kept, rows.num_rows - kept.num_rows


def _without_claimed(rows: pa.Table, claims: pa.Table) -> pa.Table:
    at = pc.index_in(rows.column("id"), value_set=claims.column("id").combine_chunks())
    claimed = claims.column("content_hash").combine_chunks().take(at.combine_chunks())
    equal = pc.fill_null(pc.equal(rows.column("content_hash"), pa.chunked_array([claimed])), False)
    return rows.filter(pc.invert(equal))


# --- cutting -------------------------------------------------------------------------------------------------------


class _Body(msgspec.Struct, omit_defaults=True):
    model: str
    input: str
    encoding_format: str | msgspec.UnsetType = msgspec.UNSET
    dimensions: int | msgspec.UnsetType = msgspec.UNSET


class _Request(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: _Body


def request_lines(ids: Iterable[str], texts: Iterable[str], model: EmbeddingModel) -> list[bytes]:
    r"""One provider request a record, as JSON lines with their newline.

    >>> request_lines(["a"], ["x"], EmbeddingModel(name="m", dimensions=2))[0][:40]
    b'{"custom_id":"a","method":"POST","url":"'
    """
    request = _request(model)
    lines = []
    for record_id, text in zip(ids, texts, strict=True):
        request.custom_id = record_id
        request.body.input = text
        lines.append(_encode(request) + b"\n")
    return lines


def _request(model: EmbeddingModel) -> _Request:
    dimensions = model.dimensions if model.send_dimensions else msgspec.UNSET
    body = _Body(model=model.name, input="", encoding_format="base64", dimensions=dimensions)
    return _Request(custom_id="", method="POST", url=ENDPOINT, body=body)


def request_bytes(rows: pa.Table, model: EmbeddingModel) -> Any:
    """The length of each row's request line, newline included, without making the lines: int64 of shape (rows,)."""
    empty_bytes = len(_encode(_request(model))) + 1
    return empty_bytes + _json_bytes(rows.column("id")) + _json_bytes(rows.column("document"))


def _json_bytes(column: pa.ChunkedArray) -> Any:
    """Bytes of each text between the quotes of its JSON string."""
    texts = one_array(column)
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    sizes = np.diff(bounds)
    if not sizes.any():
        return sizes
    found = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]
    escapes = np.flatnonzero((found < ord(" ")) | (found == ord('"')) | (found == ord("\\")))
    if not len(escapes):
        return sizes
    total = np.concatenate(([0], np.cumsum(_ADDED_BY_ESCAPE[found[escapes]])))
    return sizes + np.diff(total[np.searchsorted(escapes, bounds - bounds[0])])


_encode: Final = msgspec.json.Encoder().encode
_ADDED_BY_ESCAPE: Final = np.array([len(_encode(chr(byte))) - 3 for byte in range(128)], np.int64)
"""For each byte of ASCII, how many more it takes inside a JSON string. Nothing else is ever escaped."""


@attrs.frozen(kw_only=True)
class Cut:
    """One batch of a submission, and the limit that ended it."""

    part: int
    requests: int
    file_bytes: int
    tokens_max: int
    """Upper bound of its tokens: the UTF-8 bytes of its texts."""
    limit: str
    """`requests_per_batch`, `file_bytes`, `tokens_per_batch`, or `end` of the input."""


@attrs.frozen(kw_only=True, eq=False)
class Piece:
    """Rows that belong to one part; `cut` is set on the last piece of a part."""

    part: int
    rows: pa.Table
    model: EmbeddingModel
    cut: Cut | None = None

    @property
    def lines(self) -> list[bytes]:
        """The request line of each row, made when asked for: an estimate needs only their sizes."""
        ids, texts = (self.rows.column(name).to_pylist() for name in ("id", "document"))
        return request_lines(ids, texts, self.model)


@attrs.define(kw_only=True)
class _Open:
    """The part that is being filled."""

    part: int
    requests: int = 0
    file_bytes: int = 0
    tokens_max: int = 0

    def closed(self, limit: str) -> Cut:
        return Cut(
            part=self.part,
            requests=self.requests,
            file_bytes=self.file_bytes,
            tokens_max=self.tokens_max,
            limit=limit,
        )


def pieces(tables: Iterable[pa.Table], model: EmbeddingModel, limits: Limits) -> Iterator[Piece]:
    """Cut sorted drafts into parts, each within every limit; a part ends only where the next record would exceed one.

    A text that certainly exceeds the token limit, or a request larger than a file, is refused with its source.
    """
    state = _Open(part=0)
    for rows in tables:
        line_bytes = request_bytes(rows, model)
        text_bytes = np.asarray(pc.binary_length(rows.column("document")), dtype=np.int64)
        _refuse_too_large(rows, line_bytes, text_bytes, limits)
        at = 0
        while at < rows.num_rows:
            end, limit = _reach(state, line_bytes[at:], text_bytes[at:], limits)
            if end:
                state.requests += end
                state.file_bytes += int(line_bytes[at : at + end].sum())
                state.tokens_max += int(text_bytes[at : at + end].sum())
            cut = state.closed(limit) if limit else None
            yield Piece(part=state.part, rows=rows.slice(at, end), model=model, cut=cut)
            if cut:
                state = _Open(part=state.part + 1)
            at += end
    if state.requests:
        yield Piece(part=state.part, rows=DRAFT_SCHEMA.empty_table(), model=model, cut=state.closed("end"))


def _reach(state: _Open, line_bytes: Any, text_bytes: Any, limits: Limits) -> tuple[int, str]:
    """How many of the next rows still fit, and which limit stops there ("" where all fit)."""
    fits = {
        "requests_per_batch": limits.requests_per_batch - state.requests,
        "file_bytes": int(np.searchsorted(np.cumsum(line_bytes), limits.file_bytes - state.file_bytes, side="right")),
    }
    if limits.tokens_per_batch:
        room = limits.tokens_per_batch - state.tokens_max
        fits["tokens_per_batch"] = int(np.searchsorted(np.cumsum(text_bytes), room, side="right"))
        if not state.requests:
            fits["tokens_per_batch"] = max(1, fits["tokens_per_batch"])
    limit = min(fits, key=fits.__getitem__)
    return (fits[limit], limit) if fits[limit] < len(line_bytes) else (len(line_bytes), "")


def _refuse_too_large(rows: pa.Table, line_bytes: Any, text_bytes: Any, limits: Limits) -> None:
    for sizes, most, what in (
        (text_bytes, limits.tokens_per_input * BYTES_PER_TOKEN_MAX, f"the limit of {limits.tokens_per_input} tokens"),
        (line_bytes, limits.file_bytes, f"an input file of {limits.file_bytes} bytes"),
    ):
        if (sizes > most).any():
            row = rows.slice(int(np.argmax(sizes > most)), 1).to_pylist()[0]
            where = f" ({place(row['source'], row['line'])})" if row["source"] else ""
            raise InvalidInput(
                f"Record {ascii(row['id'])[:80]}{where}: its text of {len(row['document'].encode())} bytes exceeds {what}.",
                hint="Split the text into passages, each a record of its own.",
                record_id=row["id"],
            )


def records_batch(rows: pa.Table, *, seq: int, attempt: int, tries: int) -> pa.RecordBatch:
    """The rows of one piece as `records.arrow` holds them."""
    count = rows.num_rows
    rows = rows.combine_chunks()
    column = {name: _one(rows.column(name), DRAFT_SCHEMA.field(name).type) for name in rows.schema.names}
    return pa.record_batch(
        {
            "id": column["id"],
            "seq": pa.array(np.full(count, seq, np.int64)),
            "attempt": pa.array(np.full(count, attempt, np.int32)),
            "tries": pa.array(np.full(count, tries, np.int32)),
            "content_hash": column["content_hash"],
            "document": column["document"],
            "metadata": column["metadata"],
        }
    )


def _one(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], kind)])


# --- names and the ledger ------------------------------------------------------------------------------------------


def batch_id(root_id: str, kind: Kind, seq: int, part: int, request_sha256: str, records_sha256: str) -> str:
    """The name of a batch. Its files are part of it, so two submitters never write different files under one name.

    >>> batch_id("6ba7b810-9dad-11d1-80b4-00c04fd430c8", Kind("notes"), 1, 0, "aa", "bb")
    '7f94e65b-7fd1-5d9f-a8e0-d3fd60578499'
    """
    name = f"{kind.database}/{kind.collection}/{seq}/{part}/{request_sha256}{records_sha256}"
    return str(uuid5(UUID(root_id), name))


def seq_of(head: Head | None, execution_id: str) -> int | None:
    """The seq under which this execution is already in the ledger; None where it is not."""
    entries = head.submitters if head else ()
    return next((entry.seq for entry in entries if entry.execution_id == execution_id), None)


def next_head(
    head: Head | None, kind: Kind, *, execution_id: str, roots: Sequence[OpenRoot], closed: frozenset[str]
) -> Head:
    """The ledger after this submission. An execution is remembered also when it had nothing new to submit."""
    if head is None:
        head = Head(database=kind.database, collection=kind.collection, seq=0)
    seq = head.seq + 1 if roots else head.seq
    entry = Submitter(execution_id=execution_id, seq=seq)
    return attrs.evolve(
        head,
        seq=seq,
        open=(*(root for root in head.open if root.batch_id not in closed), *roots),
        submitters=(*head.submitters, entry)[-SUBMITTERS_KEPT:],
    )


def closed_roots(head: Head | None, rows: Mapping[str, BatchRow]) -> frozenset[str]:
    """Roots that may be dropped: the row is there and terminal, and so is each retry below it.

    `rows` holds the rows of all roots and, transitively, of their `retry_batch_ids`, where they exist.
    """

    def ended(name: str) -> bool:
        # A loop, not a recursion: retries for capacity cost no try, so a chain of them may be long.
        below, seen = [name], {name}
        while below:
            row = rows.get(below.pop())
            if row is None or row.status in OPEN:
                return False
            below += [retry for retry in row.retry_batch_ids if retry not in seen]
            seen.update(row.retry_batch_ids)
        return True

    return frozenset(root.batch_id for root in (head.open if head else ()) if ended(root.batch_id))

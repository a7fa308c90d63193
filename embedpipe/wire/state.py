"""The envelopes of the workflow state, with the seed's names: listing, result, reference, normalised, and what follows."""

from __future__ import annotations

import attrs

from embedpipe.lifecycle import Action
from embedpipe.wire.envelope import Envelope, ours, schema_field


@attrs.frozen(kw_only=True)
class PendingBatch(Envelope):
    """One batch of a listing, and the input of one poll iteration."""

    batch_id: str
    openai_batch_id: str | None = None


@attrs.frozen(kw_only=True)
class Listing(Envelope):
    """What the list step returns: inline up to 50 batches, else by manifest."""

    total_batches: int
    batch_indices: tuple[int, ...]
    pending_batches: tuple[PendingBatch, ...] | None = None
    use_s3: bool
    manifest_s3_key: str | None = None
    manifest_s3_bucket: str | None = None
    execution_id: str


@attrs.frozen(kw_only=True)
class ManifestBatch(Envelope):
    """One batch of a manifest."""

    index: int
    batch_id: str
    openai_batch_id: str | None = None


@attrs.frozen(kw_only=True)
class Manifest(Envelope):
    """`manifests/{execution_id}/batches.json`: the listing of one execution, always written."""

    execution_id: str
    created_at: str
    total_batches: int
    batch_type: str | None = None
    batches: tuple[ManifestBatch, ...]
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class Result(Envelope):
    """What is known about one batch: the register `poll_results/{batch_id}/result.json`."""

    batch_id: str
    openai_batch_id: str | None = None
    batch_status: str | None = None
    action: Action
    results_count: int = 0
    delta_id: str | None = None
    delta_key: str | None = None
    embedding_count: int = 0
    storage: str | None = None
    collection: str | None = ours()
    database: str | None = ours()
    rejected_count: int | None = ours()
    retry_count: int | None = ours()
    delta_sha256: str | None = ours()
    retry_sha256: str | None = ours()
    reason: str | None = ours()
    since: str | None = ours()
    execution_id: str | None = ours()
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class Reference(Envelope):
    """What one poll iteration returns."""

    batch_id: str
    result_s3_key: str
    result_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class Normalised(Envelope):
    """What the normalise step returns. `batch_id` is the execution's id, as in the seed."""

    batch_id: str
    poll_results: None = None
    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class ChunkItem(Envelope):
    """The input of one chunk iteration."""

    index: int
    chunk_id: str
    execution_id: str


@attrs.frozen(kw_only=True)
class Chunked(Envelope):
    """What the split step returns; the chunks themselves are in `chunks_s3_key`."""

    execution_id: str
    total_chunks: int
    chunks: tuple[ChunkItem, ...] | None = None
    use_s3: bool
    chunks_s3_key: str
    chunks_s3_bucket: str | None = None
    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class DeltaRef(Envelope):
    """One delta of a chunk."""

    batch_id: str
    delta_key: str
    embedding_count: int = 0
    delta_sha256: str | None = None


@attrs.frozen(kw_only=True)
class Chunk(Envelope):
    """One chunk: the deltas that one iteration sorts and packs."""

    index: int
    chunk_id: str
    execution_id: str
    deltas: tuple[DeltaRef, ...]


@attrs.frozen(kw_only=True)
class Damaged(Envelope):
    """A delta that could not be used, and why."""

    batch_id: str
    delta_key: str
    reason: str


@attrs.frozen(kw_only=True)
class Packed(Envelope):
    """What one chunk iteration returns, and what is stored beside the file that it packed."""

    index: int
    chunk_id: str
    intermediate_s3_key: str | None = None
    intermediate_s3_bucket: str | None = None
    rows: int
    damaged: tuple[Damaged, ...] = ()
    sha256: str | None = None
    """Of the intermediate file."""


@attrs.frozen(kw_only=True)
class Merged(Envelope):
    """What the final merge returns; `more` asks to be called again, with `next_chunk`."""

    more: bool
    next_chunk: int
    version: str | None = None
    inserted: int
    replaced: int
    equal: int
    superseded: int
    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class MarkInput(Envelope):
    """What the mark step needs."""

    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class MarkCounts(Envelope):
    """What the mark step returns; also its log line."""

    extracted: int
    eligible: int
    batches_marked: int
    already_complete: int
    skipped: int
    missing: int
    marked_s3_key: str
    marked_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class SubmitCounts(Envelope):
    """What the submit step returns."""

    execution_id: str
    seq: int | None = None
    records: int
    skipped: int
    batches: int
    created: int
    waiting: int

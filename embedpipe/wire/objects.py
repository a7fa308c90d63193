"""The objects of ours in the store: root, ledger, delta, pointer, snapshot, journal, marks."""

from __future__ import annotations

import attrs

from embedpipe.wire.envelope import Envelope, schema_field
from embedpipe.wire.state import DeltaRef


@attrs.frozen(kw_only=True)
class Root(Envelope):
    """`embedpipe.json`: what this root is. `root_id` is part of every batch's name."""

    root_id: str
    created_at: str
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class OpenRoot(Envelope):
    """One batch of a submission: all that its row is made of."""

    batch_id: str
    seq: int
    part: int
    request_sha256: str
    records_sha256: str
    request_count: int
    model: str
    dimensions: int
    submitted_at: str


@attrs.frozen(kw_only=True)
class Submitter(Envelope):
    """One submission that the ledger remembers."""

    execution_id: str
    seq: int


@attrs.frozen(kw_only=True)
class Head(Envelope):
    """The ledger of one collection. It moves by `If-Match` only."""

    database: str
    collection: str
    seq: int
    open: tuple[OpenRoot, ...] = ()
    submitters: tuple[Submitter, ...] = ()
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class FileHash(Envelope):
    """One file of a delta."""

    name: str
    sha256: str
    size_bytes: int


@attrs.frozen(kw_only=True)
class Delta(Envelope):
    """`delta.json`, written last: what a terminal batch gave."""

    delta_id: str
    batch_id: str
    database: str
    collection: str
    model: str
    dimensions: int
    batch_status: str
    request_count: int | None = None
    embedding_count: int
    rejected_count: int
    retry_count: int
    files: tuple[FileHash, ...]
    notes: tuple[str, ...] = ()
    created_at: str
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class Rejected(Envelope):
    """One line of `rejected.jsonl`."""

    id: str
    seq: int
    attempt: int
    tries: int
    reason: str
    message: str = ""


@attrs.frozen(kw_only=True)
class Retry(Envelope):
    """One line of `retry.jsonl`: a record to submit again, under claim `attempt + 1`."""

    id: str
    part: int
    """Which retry batch takes it."""
    tries: int
    """Tries it will have cost once that batch is created."""
    cause: str
    reason: str


@attrs.frozen(kw_only=True)
class Latest(Envelope):
    """`snapshot/latest.json`, the pointer. It moves by `If-Match` only, and never back."""

    version: str
    n: int
    sha256: str
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class Snapshot(Envelope):
    """`snapshot.json` of one version."""

    version: str
    n: int
    parent: str | None = None
    ancestors: tuple[str, ...]
    database: str
    collection: str
    model: str
    dimensions: int
    count: int
    catalog_sha256: str
    in_place: bool
    execution_id: str
    created_at: str
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class Journal(Envelope):
    """`merging.json`: what the writer of a merge in place is writing. Who finds one merges these deltas too."""

    execution_id: str
    intermediates: tuple[str, ...]
    deltas: tuple[DeltaRef, ...]
    suspects: tuple[str, ...] = ()
    """Batches of dead writers whose deltas can't be read; until they end, nothing equal is trusted."""
    started_at: str
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class CollectionFiles(Envelope):
    """`collection.json` of one version, written last: the files of its collection."""

    database: str
    collection: str
    files: tuple[FileHash, ...]
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class Lease(Envelope):
    """`lease.json`: who edits a collection. It moves by `If-Match` only."""

    holder: str | None = None
    """A name of one holding only; None where it is free."""
    beat: int = 0
    """One more at each sign of life, so that no two states are equal."""
    lease_s: float
    """Without a sign of life for this long, the holder is dead."""
    renewed_at: str
    schema: int | None = schema_field()


@attrs.frozen(kw_only=True)
class Mark(Envelope):
    """What mark did with one batch."""

    batch_id: str
    outcome: str
    """`marked`, `already_complete`, `skipped` or `missing`."""
    status: str | None = None
    reason: str | None = None
    retry_batch_ids: tuple[str, ...] = ()
    unproven: bool | None = None
    """Of a skipped one: whether its batch has ended at the provider, and could not be completed."""


@attrs.frozen(kw_only=True)
class Marked(Envelope):
    """`poll_results/{execution_id}/marked.json`."""

    execution_id: str
    marks: tuple[Mark, ...]
    schema: int | None = schema_field()

"""What the verbs of a pipeline return: frozen counts and names, ready for JSON. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from embedpipe.stages.submit import Cut


@attrs.frozen(kw_only=True)
class SubmitReport:
    """What one submission did."""

    execution_id: str
    seq: int | None
    """Its number in the ledger; None where nothing was new."""
    records: int
    """Distinct records read."""
    skipped: int
    """Records that are already embedded or on their way, unchanged."""
    batches: int
    created: int
    """Provider batches created or found, those of earlier submissions included."""
    waiting: int
    """Batches that the provider has not accepted yet."""


@attrs.frozen(kw_only=True)
class IngestReport:
    """What one execution did."""

    execution_id: str
    listed: int
    created: int
    marked: int
    waiting: int
    """Batches of this kind that are still open afterwards, retries included."""
    vectors: int
    """In the batches marked; likewise the next two."""
    rejected: int
    retry_batches: int
    ambiguous_creates: int
    failed: int
    """Polls that failed; they are tried again by the next execution."""
    version: str | None
    reasons: Mapping[str, int] = attrs.field(factory=dict)
    """Rejected records by reason."""
    refusals: tuple[str, ...] = ()
    """What the provider refused for reasons that waiting does not help."""
    unproven: tuple[str, ...] = ()
    """Of each ended batch that could not be completed: why."""
    stuck: int = 0
    """Listed batches whose poll failed, or that could not be completed, or both."""


@attrs.frozen(kw_only=True)
class RunReport:
    """What `run` did."""

    records: int
    skipped: int
    batches: int
    embedded: int
    rejected: int
    reasons: Mapping[str, int]
    """Rejected records by reason; `rejected.jsonl` of each delta names them."""
    retry_batches: int
    ambiguous_creates: int
    """Creates whose answer was lost: each may have been paid for twice."""
    executions: int
    elapsed_s: float
    version: str | None
    collection_count: int
    completed_elsewhere: int = 0
    """Batches that this run waited for and another one completed; what they gave is in the counts all the same."""


@attrs.frozen(kw_only=True)
class Estimate:
    """What a submission would be, from the input alone."""

    records: int
    requests: int
    batches: int
    tokens_max: int
    """Upper bound: the UTF-8 bytes of the texts."""
    bytes: int
    """Size of the input files."""
    cuts: tuple[Cut, ...]


@attrs.frozen(kw_only=True)
class OpenBatch:
    """One batch that has not ended."""

    batch_id: str
    status: str
    provider_status: str | None
    age_s: float | None


@attrs.frozen(kw_only=True)
class StatusReport:
    """How things stand."""

    counts: Mapping[str, int]
    """Batches of this kind by status."""
    open: tuple[OpenBatch, ...]
    version: str | None
    collection_count: int
    unaccounted: tuple[str, ...] = ()
    """Batches that should be open and have no row that can be read."""

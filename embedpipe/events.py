"""What a run reports while it goes: frozen values for one `on_event` callback. They feed progress bars, logs and tests.

Events carry ids and counts, never texts, vectors or secrets. A callback that raises stops the step that called it.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.frozen(kw_only=True)
class RunEvent:
    """Common part."""

    execution_id: str


@attrs.frozen(kw_only=True)
class StepStarted(RunEvent):
    """A step begins. For a fan-out, `items` is how many iterations it has."""

    step: str
    items: int | None = None


@attrs.frozen(kw_only=True)
class StepFinished(RunEvent):
    """A step, or one iteration of a fan-out, ended well."""

    step: str
    index: int | None = None


@attrs.frozen(kw_only=True)
class ItemFailed(RunEvent):
    """One iteration of a fan-out failed; the others go on."""

    step: str
    index: int
    error: str


@attrs.frozen(kw_only=True)
class RecordsRead(RunEvent):
    """Records read and planned so far."""

    records: int


@attrs.frozen(kw_only=True)
class Submitted(RunEvent):
    """A submission is in the ledger."""

    seq: int
    batches: int
    records: int
    skipped: int


@attrs.frozen(kw_only=True)
class BatchCreated(RunEvent):
    """The provider has the batch."""

    batch_id: str
    provider_batch_id: str
    found: bool = False
    """True when a search found it, and not the answer to our own create."""


@attrs.frozen(kw_only=True)
class Waiting(RunEvent):
    """What still waits to be created, when all that could be is. `oldest_s`: of those that are not merely in line."""

    batches: int
    oldest_s: int


@attrs.frozen(kw_only=True)
class AmbiguousCreate(RunEvent):
    """A create had no answer that we know of: it may have been paid for."""

    batch_id: str
    lost: bool = False
    """True once it has been searched for long enough and its records are submitted again."""


@attrs.frozen(kw_only=True)
class BatchLost(RunEvent):
    """The provider no longer knows a batch: what was paid for it gave nothing, and its records are submitted again."""

    batch_id: str
    provider_batch_id: str
    project_seen: bool
    """False where the provider showed nothing else of this root either, so that it was given up for its age alone."""


@attrs.frozen(kw_only=True)
class CreateRefused(RunEvent):
    """A batch is not created for now: the provider said no, or what it is made of is damaged. It will be tried again."""

    batch_id: str
    reason: str


@attrs.frozen(kw_only=True)
class RowUnreadable(RunEvent):
    """A row of the table can't be read; it is left alone, and so are no others."""

    batch_id: str
    error: str


@attrs.frozen(kw_only=True)
class Listed(RunEvent):
    """An execution knows which batches it looks at."""

    batches: int
    oldest_s: int
    """Since the oldest of them was handed to the provider; 0 where there is none."""


@attrs.frozen(kw_only=True)
class ResultUnreadable(RunEvent):
    """What is known about a listed batch can't be read, or its poll failed; the batch stays open and is polled again."""

    batch_id: str
    reason: str


@attrs.frozen(kw_only=True)
class BatchPolled(RunEvent):
    """One batch was looked at. The counts are 0 while it runs."""

    batch_id: str
    provider_status: str
    action: str
    vectors: int = 0
    rejected: int = 0
    retry: int = 0


@attrs.frozen(kw_only=True)
class DeltaLeftOut(RunEvent):
    """The vectors of a batch can't be used and are not merged; the batch stays open, and its next poll mends it."""

    batch_id: str
    reason: str


@attrs.frozen(kw_only=True)
class FilesNotDeleted(RunEvent):
    """The provider's files of a completed batch are still there, some or all; nothing else depends on it."""

    batch_id: str
    error: str


@attrs.frozen(kw_only=True)
class RowsMerged(RunEvent):
    """Part of a merge was written to the collection. `total` is an upper bound: what is equal is not written."""

    rows: int
    total: int


@attrs.frozen(kw_only=True)
class Published(RunEvent):
    """A version was published."""

    version: str
    count: int


@attrs.frozen(kw_only=True)
class MarkedComplete(RunEvent):
    """The counts of the mark step: the seed's third verification reads them."""

    extracted: int
    eligible: int
    batches_marked: int
    already_complete: int
    skipped: int
    missing: int


OnEvent = Callable[[RunEvent], None]


def ignore(_: RunEvent) -> None:
    """The callback of those who do not listen."""

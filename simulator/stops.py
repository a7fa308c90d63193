"""What may stop an execution or a submission in a simulated run: whatever else does has broken G10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from embedpipe.backends.memory.job import Job
from embedpipe.errors import CorruptData, ProviderMismatch, Transient
from embedpipe.layout import SEED
from simulator.faults import Fault, Strike
from simulator.kernel import Actor

__all__ = ["may_stop", "seemed_foreign"]

RECORDS: Final = SEED.records.rpartition("/")[2]
"""The file of a batch's records."""


def may_stop(actor: Actor, struck: Sequence[Strike], jobs: Sequence[Job], *, submits: bool) -> bool:
    """What passes, a provider that seemed to be another's, or a file that it can't do without and that came damaged.

    That is the catalog, and to a submission the records that are open: all else costs one batch.
    """
    if isinstance(actor.error, ProviderMismatch):
        return seemed_foreign(struck, jobs)
    if not isinstance(actor.error, CorruptData):
        return isinstance(actor.error, Transient)
    names = {strike.actor.split("/")[0] for strike in struck if strike.fault is Fault.CORRUPT}
    files = [SEED.catalog_file, *([RECORDS] if submits else [])]
    return actor.name in names and any(file in actor.error.message for file in files)


def seemed_foreign(struck: Sequence[Strike], jobs: Sequence[Job]) -> bool:
    """Whether the provider was another's for a while, or has denied a batch."""
    foreign = any(strike.fault is Fault.FOREIGN for strike in struck)
    return foreign or any(job.behaviour.unknown_retrieves for job in jobs)

"""What only a simulator can judge, since it knows what the provider really did and what was submitted last.

`verify` judges by what the stores hold, as an auditor of a real deployment has to. Here the provider's own books are open:
which lines it has, what it refused, what it still had when it was given up. Each finding is one line, the guarantee first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import attrs
import numpy as np

from embedpipe.backends.memory.behaviour import FOR_EVER, SILENT
from embedpipe.backends.memory.clock import START
from embedpipe.backends.memory.job import Job, fates, vector_of
from embedpipe.lifecycle import CAPACITY_REASONS
from embedpipe.model import EmbeddingModel, Record
from embedpipe.ports import VectorRows
from verify.observation import DeltaContent
from verify.observation import World as Observed

__all__ = ["Evidence", "judged"]

READ: Final = frozenset({"completed", "expired", "cancelled"})
"""Ends of a batch whose files are read."""
FREE: Final = frozenset({"failed", "create_lost"})
"""Ends of a batch that cost its records no try. What a line says costs one here: no scenario has one of a full queue."""


@attrs.frozen(kw_only=True)
class Evidence:
    """What is known when all has ended."""

    observed: Observed
    jobs: Sequence[Job]
    """All batches that the provider made."""
    submitted: Mapping[str, Record]
    """By id, as the submission had it that was the last to move the ledger."""
    rows: VectorRows | None
    """What the published collection holds."""
    model: EmbeddingModel
    attempts_max: int
    requests_max: int
    """How many requests the settings let into one batch."""
    file_bytes: Mapping[str, int]
    """By id of an input file, how large it is."""
    file_bytes_max: int
    unheard: Sequence[str]
    """The `batch_id` of each create that ended without an answer."""
    others: frozenset[str]
    """Batches of other collections in the same table."""
    given_up_s: Mapping[str, float]
    """By `batch_id`, when its create was given up, in seconds of the world."""
    ambiguous_after_s: float
    unclaimed: Sequence[str]
    """Submissions that were answered and that the ledger does not name."""
    waits_were_whole: bool
    """Where a clock was hours ahead, or nothing moved for hours, a wait may have ended after one look: that is no fault of
    the pipeline's."""


def judged(evidence: Evidence) -> list[str]:
    """What does not hold."""
    rules = [
        *(_unclaimed, _unreported, _misrouted, _forgotten, _claimed_twice, _ill_formed, _out_of_order, _of_others),
        *(_rejected_for_nothing, _misreported, _tries_miscounted, _not_halved),
    ]
    if evidence.waits_were_whole:
        rules += [_thrown_away, _given_up, _given_up_early, _tried_in_vain]
    return [line for rule in rules for line in rule(evidence)]


def _unclaimed(evidence: Evidence) -> Iterator[str]:
    """Who was told that a submission is done finds it in the ledger, also where nothing of it was new."""
    for name in evidence.unclaimed:
        yield f"G1: submission {name} is not in the ledger"


def _unreported(evidence: Evidence) -> Iterator[str]:
    """A create that may have been paid for without anybody knowing is told, whatever becomes of it."""
    for batch_id in sorted(set(evidence.unheard) - evidence.observed.ambiguous):
        yield f"G5: nobody was told that the create of batch {batch_id} had no answer"


def _of_others(evidence: Evidence) -> Iterator[str]:
    """One execution serves one collection: it lists no batch of another, so it neither merges nor ends one."""
    for name, manifest in evidence.observed.manifests.items():
        for batch in manifest.batches:
            if batch.batch_id in evidence.others:
                yield f"G3: execution {name} lists batch {batch.batch_id} of another collection"


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    """The oldest claim is listed first: where time is short, it is the newest that waits."""
    rows = evidence.observed.rows
    for name, manifest in evidence.observed.manifests.items():
        claims = [rows[batch.batch_id].claim for batch in manifest.batches if batch.batch_id in rows]
        if any(one > two for one, two in pairwise(claims)):
            yield f"G4: execution {name} lists newer batches before older ones"


def _ill_formed(evidence: Evidence) -> Iterator[str]:
    """Records are in the order of their ids, as joins need them, and no batch is above the limits of the provider."""
    for batch_id, records in evidence.observed.records.items():
        if any(one.id.encode() >= two.id.encode() for one, two in pairwise(records)):
            yield f"G2: the records of batch {batch_id} are not in order"
        if len(records) > evidence.requests_max:
            yield f"G9: batch {batch_id} has {len(records)} requests, and {evidence.requests_max} are let into one"
    for job in evidence.jobs:
        if (size_bytes := evidence.file_bytes[job.input_file_id]) > evidence.file_bytes_max:
            yield f"G9: the input file of {job.id} has {size_bytes} bytes, and {evidence.file_bytes_max} are let in"


def _misrouted(evidence: Evidence) -> Iterator[str]:
    """The provider makes a vector of the text alone, so a vector under another text shows."""
    rows, model = evidence.rows, evidence.model
    if rows is not None:
        for name, text, vector in zip(rows.ids, rows.documents, rows.vectors, strict=True):
            if not np.array_equal(vector, vector_of(model.name, text or "", model.dimensions)):
                yield f"G2: record {name} has the vector of another text"


def _forgotten(evidence: Evidence) -> Iterator[str]:
    """The last text of a record counts, and what is said of it, unless the provider refuses it."""
    rows = evidence.rows
    stands = dict(zip(rows.ids, zip(rows.documents, rows.metadatas, strict=True), strict=True)) if rows else {}
    refused = {name for delta in evidence.observed.deltas.values() for name in delta.rejected}
    for name, record in evidence.submitted.items():
        text, metadata = stands.get(name, (None, {}))
        if name in refused:
            continue
        if text != record.text:
            yield f"G6: record {name} has the text {text!r}, and {record.text!r} was submitted last"
        elif dict(metadata) != dict(record.metadata):
            yield f"G6: record {name} has the metadata {dict(metadata)}, and {dict(record.metadata)} was submitted last"


def _claimed_twice(evidence: Evidence) -> Iterator[str]:
    """One claim is of one batch; and what stands, or is about to, isn't submitted again with the same content."""
    observed = evidence.observed
    batches: dict[tuple[str, int, int], set[str]] = defaultdict(set)
    roots: dict[str, dict[int, bytes]] = defaultdict(dict)
    for batch_id, records in observed.records.items():
        for record in records:
            batches[record.id, record.claim.seq, record.claim.attempt].add(batch_id)
            if record.claim.attempt == 1:
                roots[record.id][record.claim.seq] = record.content_hash
    for (name, seq, attempt), found in batches.items():
        if len(found) > 1:
            yield f"G5: record {name} is in {len(found)} batches under claim {seq}.{attempt}"
    embedded = {(name, claim.seq) for delta in observed.deltas.values() for name, claim in delta.vectors.items()}
    for name, claims in roots.items():
        for before, after in pairwise(sorted(claims)):
            if claims[before] == claims[after] and (name, before) in embedded:
                yield f"G5: record {name} was claimed under seq {after}, and seq {before} embedded the same content"


def _rejected_for_nothing(evidence: Evidence) -> Iterator[str]:
    """A record is rejected for what the provider said of it, or of its line, or after as many tries as there are."""
    jobs = _by_batch(evidence)
    for delta in evidence.observed.deltas.values():
        for name, entry in delta.rejected.items():
            after = entry.tries + (delta.delta.batch_status not in FREE)
            spent = entry.reason == "attempts_exhausted" and after > evidence.attempts_max
            if not spent and not any(_refused(job, name) for job in jobs.get(delta.delta.batch_id, ())):
                batch = delta.delta.batch_id
                yield f"G9: record {name} of batch {batch} was rejected for nothing that it did: {entry.reason}"


def _misreported(evidence: Evidence) -> Iterator[str]:
    """Who reads why a record was rejected reads the provider's words."""
    for delta, job in _concluded(evidence):
        errors = {} if _failed(job) else fates(job)
        for name, entry in delta.rejected.items():
            error = errors.get(name)
            said = (entry.reason, entry.message)
            if error and entry.reason != "attempts_exhausted" and said != (error.code, error.message):
                yield f"G2: record {name} was rejected for {said}, and the provider said {(error.code, error.message)}"


def _refused(job: Job, name: str) -> bool:
    if _failed(job):
        return not _for_capacity(job) and (len(job.requests) == 1 or name in _named(job))
    error = fates(job).get(name, SILENT)
    return error is not None and error.status_code is not None and 400 <= error.status_code < 500


def _failed(job: Job) -> bool:
    """Whether it failed as a whole."""
    return bool(job.issues) or job.behaviour.outcome == "failed"


def _for_capacity(job: Job) -> bool:
    """Whether it failed for what is nobody's fault."""
    return any(issue.code in CAPACITY_REASONS for issue in job.issues or job.behaviour.issues)


def _named(job: Job) -> set[str]:
    """The records whose lines the provider names, where it says why it failed."""
    lines = {issue.line for issue in (job.issues or job.behaviour.issues)}
    return {request.custom_id for line, request in enumerate(job.requests, 1) if line in lines}


def _tries_miscounted(evidence: Evidence) -> Iterator[str]:
    """A record begins with one try; a batch that is read, or that the provider lost, costs one more, and no other does."""
    observed = evidence.observed
    deltas = {delta.delta.batch_id: delta for delta in observed.deltas.values()}
    for batch_id, records in observed.records.items():
        row, delta = observed.rows.get(batch_id), deltas.get(batch_id)
        before = deltas.get(row.parent_batch_id or "") if row else None
        for record in records:
            found = record.tries
            promised = before.retry.get(record.id) if before else None
            if found != (promised.tries if promised else 1) and (promised or record.claim.attempt == 1):
                yield f"G9: record {record.id} comes into batch {batch_id} with {found} tries"
            again = delta.retry.get(record.id) if delta else None
            if delta and again and again.tries != found + (delta.delta.batch_status not in FREE):
                yield f"G9: record {record.id} had {found} tries in batch {batch_id}, and goes on with {again.tries}"
            if again and again.tries > evidence.attempts_max:
                yield f"G9: record {record.id} of batch {batch_id} is tried {again.tries} times"


def _not_halved(evidence: Evidence) -> Iterator[str]:
    """A batch that failed for no line that anybody names goes again in two, so that one bad record is cornered."""
    for delta, job in _concluded(evidence):
        unexplained = _failed(job) and not (_for_capacity(job) or _named(job))
        if unexplained and len({entry.part for entry in delta.retry.values()}) == 1:
            yield f"G9: batch {delta.delta.batch_id} failed for no named line, and goes again as one"


def _tried_in_vain(evidence: Evidence) -> Iterator[str]:
    """What the provider refuses for good is not submitted again as it is."""
    for delta, job in _concluded(evidence):
        complete = job.behaviour.content_missing != FOR_EVER and not job.behaviour.extra_lines
        if complete and delta.delta.batch_status in {*READ, "failed"}:
            for name in sorted(delta.retry):
                if _refused(job, name):
                    yield f"G9: record {name} of batch {delta.delta.batch_id} was refused, and is submitted again"


def _concluded(evidence: Evidence) -> Iterator[tuple[DeltaContent, Job]]:
    """The deltas that stand, each with what the provider has of that batch."""
    jobs = {job.id: job for job in evidence.jobs}
    for register in evidence.observed.registers.values():
        delta, job = evidence.observed.deltas.get(register.delta_key or ""), jobs.get(register.openai_batch_id or "")
        if delta is not None and job is not None:
            yield delta, job


def _thrown_away(evidence: Evidence) -> Iterator[str]:
    """Every line that the provider has is in the delta. Lines of nobody may stand in for some that come late."""
    for batch_id, jobs in _by_batch(evidence).items():
        register = evidence.observed.registers.get(batch_id)
        delta = evidence.observed.deltas.get(register.delta_key or "") if register else None
        for job in jobs:
            if delta is None or delta.delta.batch_status not in READ or job.behaviour.extra_lines:
                continue
            if job.behaviour.content_missing == FOR_EVER:  # the provider has lost its own file
                continue
            if job.id != (register.openai_batch_id if register else None):
                continue
            answered = {request.custom_id for request in job.requests} - fates(job).keys()
            if lost := answered - delta.vectors.keys():
                yield f"G9: {len(lost)} vectors of batch {batch_id} were thrown away, that of {min(lost)} among them"


def _given_up(evidence: Evidence) -> Iterator[str]:
    """A batch that the provider had all the time is not lost."""
    for batch_id, jobs in _by_batch(evidence).items():
        register = evidence.observed.registers.get(batch_id)
        known = any(job.behaviour.unknown_retrieves < FOR_EVER for job in jobs)
        if known and register is not None and register.batch_status == "lost":
            yield f"G5: batch {batch_id} was given up as lost, and the provider has it"


def _given_up_early(evidence: Evidence) -> Iterator[str]:
    """A create without an answer is looked for as long as was promised, for it may be paid for."""
    for batch_id, at_s in evidence.given_up_s.items():
        row = evidence.observed.rows.get(batch_id)
        if row is not None and row.creating_at is not None:
            waited_s = at_s - (row.creating_at - START).total_seconds()
            if waited_s < evidence.ambiguous_after_s:
                yield f"G5: the create of batch {batch_id} was given up after {waited_s:.0f} s"


def _by_batch(evidence: Evidence) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for job in evidence.jobs:
        found[job.metadata.get("batch_id", "")].append(job)
    return found

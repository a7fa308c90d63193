"""The second part of an audit: each batch as every source shows it, looked up a hundred at a time, checked, and read again.

A finding is reported when a second reading finds it again; what the index alone says wrongly is asked at the very end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from embedpipe.errors import CorruptData, ServiceError
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from verify.audit.checks import BatchCheck, Moment, deltas, found, not_covered, poll, provider, records, rows
from verify.audit.coverage import State
from verify.audit.entries import Checked, Entry, Indexed, decoded, entries_of, only
from verify.audit.findings import Finding
from verify.audit.gather import Gatherer
from verify.audit.journeys import Standing, Trail, standings
from verify.audit.options import Progress
from verify.audit.provider import ProviderSide, is_entry
from verify.audit.published import Published
from verify.audit.resuming import Journal, checked, evidence_of, findings_of, states_of
from verify.audit.rows import Batch, block_size, blocks, healthy_rows
from verify.audit.sorting import Sorter
from verify.audit.sources import Source
from verify.audit.states import FAMILIES_OF_BATCHES, batch_states, unseen
from verify.audit.tally import Tally, confirmed

__all__ = ["Joining", "named"]

CHECKS: Final[tuple[BatchCheck, ...]] = (
    *poll.BATCH_CHECKS,
    *deltas.BATCH_CHECKS,
    *rows.BATCH_CHECKS,
    *records.BATCH_CHECKS,
    *provider.BATCH_CHECKS,
)


@attrs.define(kw_only=True, eq=False)
class Joining:
    """Goes through the sort, once."""

    source: Source
    tally: Tally
    gatherer: Gatherer
    published: Published
    provider: ProviderSide
    trail: Trail
    journal: Journal | None = None
    served: bool = False
    """Whether a batch is of the kinds that are audited."""
    _index_doubts: list[str] = attrs.field(factory=list)

    def batches(self, batches: Sorter, names: Sorter, *, total: int | None = None) -> None:
        """Check every batch; remember under which name the provider has it. `total`: how many there are, if known."""
        done = 0
        for block in blocks(named(batches), block_size(content=self.tally.options.depth.reads_content)):
            try:
                self._block(block, names)
            except (ServiceError, CorruptData) as error:
                first = [name for name, *_ in block[:20]]
                self.tally.report([found("A901", "table:", *first, reason=error.message)])
                states = dict.fromkeys(FAMILIES_OF_BATCHES, State.NOT_EVALUATED)
                self.tally.ledger.add("batches", states, len(block))
            done += len(block)
            if self.journal is None or self.journal.is_due:
                self.checkpoint()
            self.tally.options.on_progress(Progress(stage="batches", done=done, total=total))

    def _block(self, block: list[Named], names: Sorter) -> None:
        known = {name: before for name, _, before in block if before}

        def to_be_read(batch: Batch) -> bool:
            return self._wanted(batch) and self._unchanged(batch, known) is None

        for batch in self.gatherer.batches([(name, entries) for name, entries, _ in block], wanted=to_be_read):
            self._batch(batch, self._unchanged(batch, known))
            row = batch.known_row
            if row is not None and row.provider_batch_id is not None:
                names.add(row.provider_batch_id, row.batch_id.encode())

    def _unchanged(self, batch: Batch, known: Mapping[str, tuple[Checked, ...]]) -> Checked | None:
        """What is known of a batch whose evidence is as it was."""
        before = known.get(batch.batch_id)
        evidence = evidence_of(batch, self.provider.state) if before else b""
        return next((entry for entry in before or () if entry.evidence == evidence), None)

    def checkpoint(self) -> None:
        """What was checked up to here is not read again after an interruption."""
        if self.journal is not None:
            self.journal.checkpoint(self.published.stored())
        self.published.forget()

    def _batch(self, batch: Batch, known: Checked | None) -> None:
        tally, moment = self.tally, self.tally.moment
        if not self._wanted(batch):
            tally.ledger.add("batches", dict.fromkeys(FAMILIES_OF_BATCHES, State.OUT_OF_SCOPE))
            return
        if any(rows.in_index(batch, moment)):
            self._index_doubts.append(batch.batch_id)
        self.provider.note(batch)
        first = batch
        if known is not None:
            findings, states = list(findings_of(known)), states_of(known)
        else:
            batch, findings = self._looked_at(batch)
            states = batch_states(batch, moment, provider=self.provider.state_of(batch))
        tally.report(findings)
        shown = states | {
            f.family: State.SUPPRESSED for f in findings if f.code in tally.options.codes and tally.is_suppressed(f)
        }
        if known is not None:
            stood = tuple(map(Standing, known.stood))
        else:
            stood = standings(batch, looked_up=states["R"] is State.CHECKED)
        self.trail.add(batch, stood)
        number, unretried = self.published.add(batch, checked=shown["R"] is State.CHECKED, known=known)
        tally.ledger.add("batches", shown)
        if self.journal is None or known is not None or any(finding.code == "A901" for finding in findings):
            return
        if moment.depth.reads_content:
            evidence = evidence_of(first, self.provider.state)
            entry = checked(evidence, findings, states, stood, number=number, unretried=unretried)
            self.journal.note(batch.batch_id, entry)

    def _looked_at(self, batch: Batch) -> tuple[Batch, list[Finding]]:
        """What is wrong with a batch; the batch as a second reading shows it, where the first found something."""
        findings: list[Finding] = []
        candidates = list(_checked(batch, self.tally.moment))
        if candidates:
            batch = self.gatherer.again(batch)
            findings += confirmed(candidates, _checked(batch, self.tally.moment))
        findings += (not_covered(part, batch.batch_id) for part in unseen(batch))
        findings += self.provider.answers(batch)
        return batch, findings

    def _wanted(self, batch: Batch) -> bool:
        row, options = batch.known_row, self.tally.options
        if self.source.kinds and row is not None and not any(row.serves(kind) for kind in self.source.kinds):
            return False
        self.served = True
        if not options.limited or batch.listed or batch.polled:
            return True
        submitted = row.submitted_at if row is not None else None
        return options.since is not None and submitted is not None and submitted >= options.since

    def names(self, names: Sorter) -> None:
        """B703, O101 and O102: join rows with provider batches by the provider's name."""
        for block in blocks(self._doubtful(names)):
            healthy = healthy_rows(self.source.table, [one for _, batch_ids, _ in block for one in batch_ids])
            for name, batch_ids, entry in block:
                found_rows = (healthy.get(one) for one in batch_ids)
                known = [row for row in found_rows if isinstance(row, BatchRow) and row.provider_batch_id == name]
                self.tally.report(rows.one_name(name, known))
                self.tally.report(self.provider.named(name, known, entry))

    def _doubtful(self, names: Sorter) -> Iterator[tuple[str, list[str], Entry | None]]:
        """Names of the provider that several rows have, or whose one row it may contradict."""
        for name, payloads in names.groups():
            batch_ids = [payload.decode() for payload in payloads if not is_entry(payload)]
            entry = next((decoded(payload) for payload in payloads if is_entry(payload)), None)
            if len(batch_ids) > 1 or (batch_ids and self.provider.is_odd(entry)):
                yield name, batch_ids, entry

    # --- the index -------------------------------------------------------------------------------------------------

    def ask_the_index_again(self) -> None:
        """What the index said wrongly is asked at the very end: it may lag."""
        for name in self._index_doubts:
            (batch,) = self.gatherer.batches([(name, ())])
            row = batch.known_row
            if row is not None:
                under = tuple(Indexed(str(one)) for one in Status if self._indexed_as(row.batch_type, one, name))
                again = healthy_rows(self.source.table, [name]).get(name)
                if isinstance(again, BatchRow) and again.revision == row.revision:
                    self.tally.report(rows.in_index(attrs.evolve(batch, entries=under), self.tally.moment))

    def _indexed_as(self, batch_type: str, status: Status, name: str) -> bool:
        for other in self.source.table.by_status(batch_type, status, after=name[:-1]):
            if other >= name:
                return other == name
        return False


Named = tuple[str, tuple[Entry, ...], tuple[Checked, ...]]
"""A batch_id, what names it, and what was found when it was checked before."""


def named(batches: Sorter) -> Iterator[Named]:
    """Every batch that something names now."""
    for name, payloads in batches.groups():
        entries = entries_of(payloads)
        now = tuple(entry for entry in entries if not isinstance(entry, Checked))
        if now:
            yield name, now, only(entries, Checked)


def _checked(batch: Batch, moment: Moment) -> Iterator[Finding]:
    for check in CHECKS:
        yield from check(batch, moment)

"""The audit itself: enumerate, sort, join by `batch_id`, check, read again, report. Streams; memory does not grow with a root.

Order matters. Executions are read before rows and rows before the published catalog, so that what a running pipeline does
meanwhile only adds to the proof. A finding is reported when a second reading finds it again. A source that can't be read
costs itself: the ledger says what was not covered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs
import msgspec

from embedpipe.errors import CorruptData, ServiceError
from embedpipe.lifecycle import Status
from embedpipe.model import BUILT_IN_KINDS, BatchRow, BlobInfo, Kind
from embedpipe.wire import Head, Manifest
from verify.audit.causes import explained
from verify.audit.checks import BatchCheck, Moment, deltas, found, not_covered, poll, provider, records, rows
from verify.audit.coverage import Ledger, State
from verify.audit.entries import Indexed, decoded, entries_of, remember
from verify.audit.executions import Execution, facts_by_batch
from verify.audit.findings import Finding
from verify.audit.gather import Gatherer, opened, stored
from verify.audit.keys import folders, seen
from verify.audit.machines import MachineSide, Side
from verify.audit.objects import Why
from verify.audit.options import Options, Progress
from verify.audit.provider import ProviderSide, is_entry
from verify.audit.published import Published
from verify.audit.report import Report, in_order
from verify.audit.rows import Batch, blocks, healthy_rows
from verify.audit.sorting import Sorter
from verify.audit.sources import Source
from verify.audit.states import FAMILIES_OF_BATCHES, batch_states, execution_blind, left_out, unseen

__all__ = ["audit"]

CHECKS: Final[tuple[BatchCheck, ...]] = (
    *poll.BATCH_CHECKS,
    *deltas.BATCH_CHECKS,
    *rows.BATCH_CHECKS,
    *records.BATCH_CHECKS,
    *provider.BATCH_CHECKS,
)
_encode: Final = msgspec.json.Encoder().encode


def audit(source: Source, options: Options) -> Report:
    """Audit `source`. Raises `MisuseError` for what is asked wrongly; what can't be read is in the report."""
    with tempfile.TemporaryDirectory(prefix="embedpipe-verify-") as folder:
        return _Audit(source, options, Path(folder)).run()


class _Audit:
    """One audit: what it has found so far, and what it still has to look at."""

    def __init__(self, source: Source, options: Options, folder: Path) -> None:
        self._source = source
        self._options = options
        self._folder = folder
        self._moment = Moment(
            now=source.clock.now(), grace_s=options.grace_s, depth=options.depth, layout=source.layout
        )
        self._gatherer = Gatherer(source=source, depth=options.depth, folder=folder)
        self._published = Published(source, self._moment, self._gatherer, folder)
        self._ledger = Ledger()
        self._findings: list[Finding] = []
        self._index_doubts: list[str] = []
        self._batch_types: set[str] = set()
        self._collections: set[Kind] = set()
        self._provider = ProviderSide(source, self._moment)
        self._machines = MachineSide(source, options, self._moment, self._gatherer)

    def run(self) -> Report:
        began = self._source.clock.monotonic_s()
        self._unreachable()
        with Sorter(self._folder, "batches") as batches, Sorter(self._folder, "names") as names:
            with self._covering("objects", "executions", ("P",)):
                self._executions(batches)
            if self._source.absent:  # a batch is judged by its objects and its row together
                return self._made(self._source.clock.monotonic_s() - began)
            with self._covering("objects", "ledgers", ("B",)):
                self._ledgers(batches)
            with self._covering("table", "index", ("B",)):
                self._index(batches)
            self._report(self._provider.gather(batches, names))
            self._join(batches, names)
            with self._covering("table", "index", ("B",)):
                self._names(names)
                self._ask_the_index_again()
        self._look_at_collections()
        self._report(list(self._provider.failed_and_completed(self._findings)))
        return self._made(self._source.clock.monotonic_s() - began)

    def _made(self, elapsed_s: float) -> Report:
        findings = in_order(explained(self._findings))
        hidden = tuple(finding for finding in findings if self._suppressed(finding))
        words = left_out(
            self._options.depth,
            provider=self._source.provider is not None,
            vectors=self._source.vectors is not None,
            histories=self._source.histories is not None,
            logs=self._source.logs is not None,
            absent=self._source.absent,
        )
        return Report(
            source=self._source.name,
            depth=self._options.depth,
            watermark=self._moment.now,
            findings=tuple(finding for finding in findings if finding not in hidden),
            suppressed=hidden,
            coverage=self._ledger.coverage(words),
            calls=dict(sorted(self._source.calls.counts.items())),
            elapsed_s=elapsed_s,
            fail_on=self._options.fail_on,
        )

    def _report(self, findings: Iterable[Finding]) -> None:
        self._findings += [finding for finding in findings if finding.code in self._options.codes]

    def _suppressed(self, finding: Finding) -> bool:
        return any(each.covers(finding, self._moment.now) for each in self._options.suppressions)

    @contextmanager
    def _covering(self, source: str, unit: str, families: Iterable[str]) -> Iterator[None]:
        """Where a source can't be read any further, say so and go on with the others."""
        try:
            yield
        except (ServiceError, CorruptData) as error:
            self._report([found("A901", f"{source}:", reason=str(error))])
            self._ledger.add(unit, dict.fromkeys(families, State.NOT_EVALUATED))

    def _unreachable(self) -> None:
        for port, reason in self._source.unreachable.items():
            self._report([found("A901", f"{port}:", reason=reason)])
            if port == "provider":
                self._provider.state = State.NOT_EVALUATED

    # --- executions ------------------------------------------------------------------------------------------------

    def _executions(self, batches: Sorter) -> None:
        """List once; read each execution; keep what it says of its batches."""
        with Sorter(self._folder, "executions") as executions:
            self._report(self._machines.gather(executions))
            for family, count in self._machines.unread.items():
                self._ledger.add("executions", {family: State.NOT_EVALUATED}, count)
            listed = False
            with self._covering("objects", "executions", ("P",)):
                for entry in seen(self._source.objects, self._source.layout):
                    if entry.what == "result":
                        remember(batches, entry.id, stored(entry.info))
                    else:
                        info = entry.info
                        executions.add(entry.id, _encode((entry.what, info.key, info.size_bytes, info.modified_at)))
                listed = True
            if not listed and self._source.logs is not None:  # what a line is compared with
                self._machines.unread["L"] = self._machines.unread.get("L", 0) + 1
            for done, (execution_id, payloads) in enumerate(executions.groups(), 1):
                side, objects = self._machines.split(execution_id, payloads)
                # Half a listing would make what is there look missing.
                self._execution(execution_id, dict(map(_info, objects)) if listed else {}, side, batches)
                self._options.on_progress(Progress(stage="executions", done=done))

    def _execution(self, execution_id: str, present: Mapping[str, BlobInfo], side: Side, batches: Sorter) -> None:
        execution = self._gatherer.execution(execution_id, present)
        if not self._in_scope(execution, side):
            self._ledger.add("executions", dict.fromkeys(("P", "X", "L"), State.OUT_OF_SCOPE))
            return
        ran, states = self._machines.look(execution, side)
        self._report(ran)
        for finding in ran:
            if self._suppressed(finding):
                states[finding.family] = State.SUPPRESSED
        if not present:  # of a submission, or one that failed before it listed anything
            self._ledger.add("executions", states)
            return
        if isinstance(execution.manifest, Manifest) and execution.manifest.batch_type:
            self._batch_types.add(execution.manifest.batch_type)
        for name, entry in facts_by_batch(execution):
            remember(batches, name, entry)
        candidates = list(poll.execution_findings(execution, self._moment))
        if candidates:
            execution = self._gatherer.execution_again(execution_id)
            self._report(_both(candidates, poll.execution_findings(execution, self._moment)))
        blind = execution_blind(execution)
        self._report(not_covered(part) for part in blind)
        state = State.NOT_EVALUATED if blind else State.CHECKED if execution.ended else State.IN_FLIGHT
        self._ledger.add("executions", {"P": state, **states})

    def _in_scope(self, execution: Execution, side: Side) -> bool:
        if self._options.executions and execution.execution_id not in self._options.executions:
            return False
        began = execution.began_at or (side.run.started_at if side.run is not None else None)
        return self._options.since is None or began is None or began >= self._options.since

    # --- ledgers, index, provider ----------------------------------------------------------------------------------

    def _ledgers(self, batches: Sorter) -> None:
        self._gatherer.head_keys = tuple(self._head_keys())
        for key, head in self._gatherer.heads(self._gatherer.head_keys):
            if isinstance(head, Head):
                for name, entry in opened(key, head):
                    remember(batches, name, entry)
            elif head.why is not Why.MISSING:
                self._report([not_covered(head)])
                self._ledger.add("ledgers", {"B": State.NOT_EVALUATED})

    def _head_keys(self) -> Iterator[str]:
        """Ledgers are found by the folders of the root, one listing call for each."""
        layout, objects = self._source.layout, self._source.objects
        for database in folders(objects):
            try:
                prefix, ending = layout.head_pattern(database)
            except ValueError:  # a folder that is no database
                continue
            for collection in folders(objects, prefix):
                key = f"{prefix}{collection}{ending}"
                info = next(iter(objects.list(key)), None)
                if info is not None and info.key == key:
                    self._collections.add(_kind_of(database, collection))
                    yield key

    def _index(self, batches: Sorter) -> None:
        kinds = self._source.kinds or (*BUILT_IN_KINDS.values(), *self._collections)
        types = {kind.batch_type for kind in kinds} | (set() if self._source.kinds else self._batch_types)
        for batch_type in sorted(types):
            for status in Status:
                for name in self._source.table.by_status(batch_type, status):
                    remember(batches, name, Indexed(str(status)))

    def _ask_the_index_again(self) -> None:
        """What the index said wrongly is asked at the very end: it may lag."""
        for name in self._index_doubts:
            (batch,) = self._gatherer.batches([(name, ())])
            row = batch.known_row
            if row is not None:
                under = tuple(Indexed(str(one)) for one in Status if self._indexed_as(row.batch_type, one, name))
                again = healthy_rows(self._source.table, [name]).get(name)
                if isinstance(again, BatchRow) and again.revision == row.revision:
                    self._report(rows.in_index(attrs.evolve(batch, entries=under), self._moment))

    def _indexed_as(self, batch_type: str, status: Status, name: str) -> bool:
        for other in self._source.table.by_status(batch_type, status, after=name[:-1]):
            if other >= name:
                return other == name
        return False

    # --- batches ---------------------------------------------------------------------------------------------------

    def _join(self, batches: Sorter, names: Sorter) -> None:
        done = 0
        for block in blocks(batches.groups()):
            try:
                for batch in self._gatherer.batches([(name, entries_of(payloads)) for name, payloads in block]):
                    self._batch(batch)
                    row = batch.known_row
                    if row is not None and row.provider_batch_id is not None:
                        names.add(row.provider_batch_id, row.batch_id.encode())
            except (ServiceError, CorruptData) as error:
                self._report([found("A901", "table:", *(name for name, _ in block[:20]), reason=error.message)])
                self._ledger.add("batches", dict.fromkeys(FAMILIES_OF_BATCHES, State.NOT_EVALUATED), len(block))
            done += len(block)
            self._options.on_progress(Progress(stage="batches", done=done))

    def _batch(self, batch: Batch) -> None:
        if not self._wanted(batch):
            self._ledger.add("batches", dict.fromkeys(FAMILIES_OF_BATCHES, State.OUT_OF_SCOPE))
            return
        if any(rows.in_index(batch, self._moment)):
            self._index_doubts.append(batch.batch_id)
        already = len(self._findings)
        candidates = list(_checked(batch, self._moment))
        if candidates:
            batch = self._gatherer.again(batch)
            self._report(_both(candidates, _checked(batch, self._moment)))
        self._report(not_covered(part, batch.batch_id) for part in unseen(batch))
        self._report(self._provider.answers(batch))
        states = batch_states(batch, self._moment, provider=self._provider.state_of(batch))
        for finding in self._findings[already:]:
            if self._suppressed(finding):
                states[finding.family] = State.SUPPRESSED
        self._ledger.add("batches", states)
        self._published.add(batch, checked=states["R"] is State.CHECKED)

    def _names(self, names: Sorter) -> None:
        """B703, O101 and O102: join rows with provider batches by the provider's name."""
        for name, payloads in names.groups():
            batch_ids = [payload.decode() for payload in payloads if not is_entry(payload)]
            entry = next((decoded(payload) for payload in payloads if is_entry(payload)), None)
            if not batch_ids or (len(batch_ids) == 1 and not self._provider.is_odd(entry)):
                continue
            healthy = healthy_rows(self._source.table, batch_ids)
            known = [row for row in healthy.values() if isinstance(row, BatchRow) and row.provider_batch_id == name]
            self._report(rows.one_name(name, known))
            self._report(self._provider.named(name, known, entry))

    def _look_at_collections(self) -> None:
        for kind in self._collections:
            if not self._source.kinds or kind in self._source.kinds:
                self._published.know(kind)
        for outcome in self._published.finish():
            self._report(outcome.findings)
            states = {"S": outcome.snapshots, "V": outcome.vectors}
            for finding in outcome.findings:
                if self._suppressed(finding):
                    if finding.family in states:
                        states[finding.family] = State.SUPPRESSED
                    elif finding.batch_ids:  # of a batch that has ended
                        self._ledger.move("batches", finding.family, State.CHECKED, State.SUPPRESSED, 1)
            self._ledger.add("collections", states)
            self._ledger.move("batches", "R", State.CHECKED, State.NOT_EVALUATED, outcome.records_hidden)

    def _wanted(self, batch: Batch) -> bool:
        row, options = batch.known_row, self._options
        if self._source.kinds and row is not None and not any(row.serves(kind) for kind in self._source.kinds):
            return False
        if not options.limited or batch.listed or batch.polled:
            return True
        submitted = row.submitted_at if row is not None else None
        return options.since is not None and submitted is not None and submitted >= options.since


def _checked(batch: Batch, moment: Moment) -> Iterator[Finding]:
    for check in CHECKS:
        yield from check(batch, moment)


def _both(first: Iterable[Finding], second: Iterable[Finding]) -> Iterator[Finding]:
    """What both readings found, as the second one says it."""
    before = {finding.identity for finding in first}
    return (finding for finding in second if finding.identity in before)


def _info(payload: bytes) -> tuple[str, BlobInfo]:
    what, key, size_bytes, modified_at = msgspec.json.decode(payload, type=tuple[str, str, int, datetime])
    return what, BlobInfo(key=key, size_bytes=size_bytes, modified_at=modified_at)


def _kind_of(database: str, collection: str) -> Kind:
    for kind in BUILT_IN_KINDS.values():
        if (kind.database, kind.collection) == (database, collection):
            return kind
    return Kind(database, database=database, collection=collection)

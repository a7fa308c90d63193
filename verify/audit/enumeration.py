"""The first part of an audit: everything that names a batch, from every source, into one sort by `batch_id`.

Executions are read here, and what is wrong with one as a whole is said here. Order matters: executions come first, so that
what a running pipeline does meanwhile only adds to the proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs
import msgspec

from embedpipe.layout import Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BUILT_IN_KINDS, BlobInfo, Kind
from embedpipe.ports import BlobStore
from embedpipe.wire import Head, Manifest
from verify.audit.checks import found, not_covered, poll
from verify.audit.coverage import State
from verify.audit.entries import Indexed, remember
from verify.audit.executions import Execution, facts_by_batch
from verify.audit.gather import Gatherer, opened, stored
from verify.audit.keys import folders, is_id, seen
from verify.audit.machines import MachineSide, Side
from verify.audit.objects import Why
from verify.audit.options import Progress
from verify.audit.sorting import Sorter
from verify.audit.sources import Source
from verify.audit.states import execution_blind
from verify.audit.tally import Tally, confirmed

__all__ = ["Enumeration", "ledgers"]

ODD_NAMES_MAX: Final = 20
"""[ours] Names in the index that are no ids, each of which is told."""
_encode: Final = msgspec.json.Encoder().encode


@attrs.define(kw_only=True, eq=False)
class Enumeration:
    """Fills the sort, once."""

    source: Source
    tally: Tally
    gatherer: Gatherer
    folder: Path
    machines: MachineSide
    collections: set[Kind] = attrs.field(factory=set)
    """Those that have a ledger."""
    _batch_types: set[str] = attrs.field(factory=set)

    def fill(self, batches: Sorter) -> None:
        """Executions and registers, then ledgers, then the index."""
        with self.tally.covering("objects", "executions", ("P",)):
            self._executions(batches)
        if self.source.absent:  # a batch is judged by its objects and its row together
            return
        with self.tally.covering("objects", "ledgers", ("B",)):
            self._ledgers(batches)
        with self.tally.covering("table", "index", ("B",)):
            self._index(batches)

    # --- executions ------------------------------------------------------------------------------------------------

    def _executions(self, batches: Sorter) -> None:
        """List once; read each execution; keep what it says of its batches."""
        wanted = set(self.tally.options.executions)
        with Sorter(self.folder, "executions") as executions:
            self.tally.report(self.machines.gather(executions))
            for family, count in self.machines.unread.items():
                self.tally.ledger.add("executions", {family: State.NOT_EVALUATED}, count)
            listed = self._listed(executions, batches)
            total = sum(1 for _ in executions.groups())
            for done, (execution_id, payloads) in enumerate(executions.groups(), 1):
                side, objects = self.machines.split(execution_id, payloads)
                # Half a listing would make what is there look missing.
                self._execution(execution_id, dict(map(_info, objects)) if listed else {}, side, batches)
                self.tally.options.on_progress(Progress(stage="executions", done=done, total=total))
                wanted.discard(execution_id)
        for name in sorted(wanted):
            self.tally.report([found("A901", f"execution:{name}", reason="Nothing of this execution was found.")])
            self.tally.ledger.add("executions", {"P": State.NOT_EVALUATED})

    def _listed(self, executions: Sorter, batches: Sorter) -> bool:
        """Every object of an execution or a batch; False where the listing could not be read to its end."""
        listed = False
        with self.tally.covering("objects", "executions", ("P",)):
            for entry in seen(self.source.objects, self.source.layout):
                if entry.what == "result":
                    remember(batches, entry.id, stored(entry.info))
                else:
                    info = entry.info
                    executions.add(entry.id, _encode((entry.what, info.key, info.size_bytes, info.modified_at)))
            listed = True
        if not listed and self.source.logs is not None:  # what a line is compared with
            self.machines.unread["L"] = self.machines.unread.get("L", 0) + 1
        return listed

    def _execution(self, execution_id: str, present: Mapping[str, BlobInfo], side: Side, batches: Sorter) -> None:
        execution = self.gatherer.execution(execution_id, present)
        tally, ledger = self.tally, self.tally.ledger
        if not self._in_scope(execution, side):
            ledger.add("executions", dict.fromkeys(("P", "X", "L"), State.OUT_OF_SCOPE))
            return
        ran, states = self.machines.look(execution, side)
        tally.report(ran)
        states |= {finding.family: State.SUPPRESSED for finding in ran if tally.is_suppressed(finding)}
        if not present:  # of a submission, or one that failed before it listed anything
            ledger.add("executions", states)
            return
        if isinstance(execution.manifest, Manifest) and execution.manifest.batch_type:
            self._batch_types.add(execution.manifest.batch_type)
        for name, entry in facts_by_batch(execution):
            remember(batches, name, entry)
        candidates = list(poll.execution_findings(execution, self.tally.moment))
        if candidates or execution_blind(execution):
            execution = self.gatherer.execution_again(execution_id)
            self.tally.report(confirmed(candidates, poll.execution_findings(execution, self.tally.moment)))
        blind = execution_blind(execution)
        self.tally.report(not_covered(part) for part in blind)
        state = State.NOT_EVALUATED if blind else State.CHECKED if execution.ended else State.IN_FLIGHT
        ledger.add("executions", {"P": state, **states})

    def _in_scope(self, execution: Execution, side: Side) -> bool:
        options = self.tally.options
        if options.executions and execution.execution_id not in options.executions:
            return False
        began = execution.began_at or (side.run.started_at if side.run is not None else None)
        return options.since is None or began is None or began >= options.since

    # --- ledgers and index -----------------------------------------------------------------------------------------

    def _ledgers(self, batches: Sorter) -> None:
        self.gatherer.head_keys = tuple(self._head_keys())
        for key, head in self.gatherer.heads(self.gatherer.head_keys):
            if isinstance(head, Head):
                for name, entry in opened(key, head):
                    remember(batches, name, entry)
            elif head.why is not Why.MISSING:
                self.tally.report([not_covered(head)])
                self.tally.ledger.add("ledgers", {"B": State.NOT_EVALUATED})

    def _head_keys(self) -> Iterator[str]:
        for key, kind in ledgers(self.source.objects, self.source.layout):
            self.collections.add(kind)
            yield key

    def _index(self, batches: Sorter) -> None:
        kinds = self.source.kinds or (*BUILT_IN_KINDS.values(), *self.source.expected, *self.collections)
        types = {kind.batch_type for kind in kinds} | (set() if self.source.kinds else self._batch_types)
        odd: set[str] = set()
        for batch_type in sorted(types):
            for status in Status:
                for name in self.source.table.by_status(batch_type, status):
                    if is_id(name):
                        remember(batches, name, Indexed(str(status)))
                    elif len(odd) < ODD_NAMES_MAX:
                        odd.add(name)
        for name in sorted(odd):  # no port would look such a row up
            self.tally.report(
                [found("A901", "index:", reason=f"It has the row of {ascii(name)[:80]}, which is no id.")]
            )
            self.tally.ledger.add("index", {"B": State.NOT_EVALUATED})


def _info(payload: bytes) -> tuple[str, BlobInfo]:
    what, key, size_bytes, modified_at = msgspec.json.decode(payload, type=tuple[str, str, int, datetime])
    return what, BlobInfo(key=key, size_bytes=size_bytes, modified_at=modified_at)


def ledgers(objects: BlobStore, layout: Layout) -> Iterator[tuple[str, Kind]]:
    """Keys of ledgers and their kinds. Found by the folders of the root, one listing call for each."""
    for database in folders(objects):
        try:
            prefix, ending = layout.head_pattern(database)
        except ValueError:  # a folder that is no database
            continue
        for collection in folders(objects, prefix):
            key = f"{prefix}{collection}{ending}"
            info = next(iter(objects.list(key)), None)
            if info is not None and info.key == key:
                yield key, kind_of(database, collection)


def kind_of(database: str, collection: str) -> Kind:
    """The kind whose records a collection holds, as far as its names say."""
    for kind in BUILT_IN_KINDS.values():
        if (kind.database, kind.collection) == (database, collection):
            return kind
    return Kind(database, database=database, collection=collection)

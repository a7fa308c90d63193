"""What became of each thing in the ledger: checked, in flight, or not evaluated and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from verify.audit.checks import Depth, Moment
from verify.audit.coverage import State
from verify.audit.deltas import DeltaSeen
from verify.audit.executions import Execution
from verify.audit.objects import Unreadable, Why
from verify.audit.rows import Batch

__all__ = ["FAMILIES_OF_BATCHES", "batch_states", "execution_blind", "left_out", "unseen"]

FAMILIES_OF_BATCHES: Final = ("B", "P", "D", "R", "O")


LISTINGS: Final = frozenset({"manifest", "deployed_manifest", "items"})
"""Fields of the layout whose objects say what an execution listed."""


def blind(part: object) -> bool:
    """Whether it says that the audit could not look."""
    return isinstance(part, Unreadable) and not part.is_fault


def unseen(batch: Batch) -> Iterator[Unreadable]:
    """Parts of a batch that the audit could not look at. Lost records are no finding of their own: nothing derives them."""
    parts = [batch.row, batch.register, batch.delta, batch.records]
    parts += batch.delta.problems if isinstance(batch.delta, DeltaSeen) else ()
    return (part for part in parts if isinstance(part, Unreadable) and (blind(part) or part is batch.records))


def execution_blind(execution: Execution) -> list[Unreadable]:
    """Parts of an execution that the audit could not look at."""
    parts: list[object] = [execution.manifest, execution.items, execution.results, execution.chunks]
    # Pipelines that never heard of us write no listing; whoever writes what it marked has written one.
    if execution.ended and not execution.present.keys() & LISTINGS:
        reason = "There is no listing, so nobody can say which batches it should name."
        named = f"poll results of {execution.execution_id}"
        parts.append(Unreadable(key=named, why=Why.UNREACHABLE, reason=reason))
    return [part for part in parts if isinstance(part, Unreadable) and blind(part)]


def batch_states(batch: Batch, moment: Moment, *, provider: State) -> dict[str, State]:
    """The state of a batch for each family that looks at it. `provider`: of what the provider says."""
    open_or_checked = State.IN_FLIGHT if batch.is_open else State.CHECKED
    states = {
        "B": State.NOT_EVALUATED if blind(batch.row) else open_or_checked,
        "P": State.NOT_EVALUATED if blind(batch.register) else open_or_checked,
        "O": open_or_checked if provider is State.CHECKED else provider,
    }
    if not moment.depth.reads_content:
        return states | {"D": State.OUT_OF_SCOPE, "R": State.OUT_OF_SCOPE}
    hidden = batch.is_terminal and batch.terminal_result is None
    seen = batch.delta
    delta_hidden = isinstance(seen, Unreadable) or (isinstance(seen, DeltaSeen) and not seen.whole)
    strange = batch.is_terminal and not batch.is_ours
    states["D"] = State.NOT_EVALUATED if hidden or blind(seen) else open_or_checked
    unproven = hidden or delta_hidden or strange or isinstance(batch.records, Unreadable)
    states["R"] = State.NOT_EVALUATED if unproven else open_or_checked
    return states


def left_out(
    depth: Depth,
    *,
    provider: bool,
    vectors: bool,
    histories: bool,
    logs: bool,
    absent: Collection[str] = (),
    kinds: Collection[str] = (),
    limited: bool = False,
) -> Iterator[str]:
    """What the depth and the sources leave out, in words."""
    if depth is Depth.METADATA:
        yield "results, deltas and catalogs were not parsed or hashed (--depth content)"
    elif depth is Depth.CONTENT and vectors:
        yield "vectors were not compared with their deltas (--depth vectors)"
    if not provider:
        yield "the provider was not asked"
    if not vectors:
        yield "the vector store was not read"
    if not histories:
        yield "the histories of executions (X) were not read: no state machine is named"
    if not logs:
        yield "log lines (L) were not read: no log group is named"
    if kinds:
        yield f"other kinds than {', '.join(sorted(kinds))} were left out (--kind)"
    if limited:
        yield "other executions and their batches were left out (--execution, --since)"
    for name in sorted(absent):
        yield f"{'objects were' if name == 'objects' else 'the table was'} not read, so batches were not joined"

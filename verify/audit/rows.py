"""One batch as every source shows it, joined by `batch_id`: row, register, delta, and the facts of executions and ledger.

Rows are found through the index and through everything else that names a batch, never by a scan, and confirmed by
`get_many`. An index read decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

import attrs

from embedpipe.errors import CorruptData
from embedpipe.lifecycle import OPEN, TERMINAL, TERMINAL_ACTIONS
from embedpipe.model import BatchRow
from embedpipe.ports import BatchTable
from embedpipe.wire import Result
from verify.audit.deltas import DeltaSeen
from verify.audit.entries import Entry, Indexed, Listed, Opened, Polled, Stored, only
from verify.audit.objects import Unreadable, Why

__all__ = ["BLOCK_BATCHES", "Batch", "blocks", "healthy_rows"]

T = TypeVar("T")

BLOCK_BATCHES: Final = 100
"""[aws] Rows of one BatchGetItem."""
ROWS_BLOCK_BATCHES: Final = 2_000
"""[ours] Where rows alone are read: so many at once that looking up their retries is hardly a call more."""
NOBODY: Final = "no-such-batch"
"""[ours] A batch_id that no pipeline gives."""


@attrs.frozen(kw_only=True, eq=False)
class Batch:
    """What is known of one batch."""

    batch_id: str
    entries: tuple[Entry, ...] = ()
    row: BatchRow | Unreadable | None = None
    """None: there is none."""
    register_key: str = ""
    register: Result | Unreadable | None = None
    """None where the depth does not read it, or nothing names it."""
    retry_rows: frozenset[str] = frozenset()
    """Of the retry batches that its row names, those that have a row."""
    delta: DeltaSeen | Unreadable | None = None
    """None where the depth does not read it, or the register names none."""
    ledger_unseen: bool = False
    """Whether the ledger that would have its entry could not be looked at."""
    records: object = None
    """Table of `records.KEYS_SCHEMA` of its record file, an `Unreadable`, or None where it has no record file."""

    @property
    def known_row(self) -> BatchRow | None:
        """Its row, where there is one that can be read."""
        return self.row if isinstance(self.row, BatchRow) else None

    @property
    def result(self) -> Result | None:
        """Its register, where it can be read and is its own."""
        found = self.register
        return found if isinstance(found, Result) and found.batch_id == self.batch_id else None

    @property
    def terminal_result(self) -> Result | None:
        """Its register, where that is final."""
        return self.result if self.result is not None and self.result.action in TERMINAL_ACTIONS else None

    @property
    def is_open(self) -> bool:
        """Whether its row is not terminal, or not there yet."""
        return self.row is None or (self.known_row is not None and self.known_row.status in OPEN)

    @property
    def is_terminal(self) -> bool:
        """Whether its row has ended."""
        return self.known_row is not None and self.known_row.status in TERMINAL

    @property
    def is_ours(self) -> bool:
        """Whether it was submitted by embedpipe, with record files and a ledger; the seed's batches have neither."""
        return self.known_row is not None and self.known_row.seq is not None

    @property
    def is_stored(self) -> bool:
        """Whether a listing showed its register."""
        return bool(only(self.entries, Stored))

    @property
    def register_missing(self) -> bool:
        """Whether its register is not there."""
        if self.register is None:
            return not self.is_stored
        return isinstance(self.register, Unreadable) and self.register.why is Why.MISSING

    @property
    def opened(self) -> tuple[Opened, ...]:
        """What the ledger says of it."""
        return only(self.entries, Opened)

    @property
    def listed(self) -> tuple[Listed, ...]:
        """Who listed it."""
        return only(self.entries, Listed)

    @property
    def polled(self) -> tuple[Polled, ...]:
        """Who quotes its result."""
        return only(self.entries, Polled)

    @property
    def indexed(self) -> frozenset[str]:
        """Statuses under which the index has it."""
        return frozenset(entry.status for entry in only(self.entries, Indexed))

    @property
    def executions(self) -> tuple[str, ...]:
        """Those that touched it, the one that ended it included."""
        names = [*(entry.execution_id for entry in self.listed), *(entry.execution_id for entry in self.polled)]
        ended_by = self.known_row.completed_by if self.known_row else None
        return tuple(dict.fromkeys([*names, *([ended_by] if ended_by else [])]))


def block_size(*, content: bool) -> int:
    """Batches whose rows are looked up together; objects are read right after the rows that name them."""
    return BLOCK_BATCHES if content else ROWS_BLOCK_BATCHES


def blocks(groups: Iterable[T], size: int = BLOCK_BATCHES) -> Iterator[list[T]]:
    """Neighbouring groups, as many as are looked up together."""
    iterator = iter(groups)
    while block := list(islice(iterator, size)):
        yield block


def healthy_rows(table: BatchTable, batch_ids: Sequence[str]) -> Mapping[str, BatchRow | Unreadable]:
    """The rows that exist. Asked for together, in halves where one of them is damaged, which then stands for itself.

    `CorruptData` where not even a row that nobody has can be asked for: then it is the table that is damaged.
    """
    names = list(dict.fromkeys(batch_ids))
    if not names:
        return {}
    try:
        return dict(table.get_many(names))
    except CorruptData:
        table.get_many([NOBODY])
        return _one_by_one(table, names)


def _one_by_one(table: BatchTable, names: list[str]) -> dict[str, BatchRow | Unreadable]:
    try:
        return dict(table.get_many(names))
    except CorruptData as error:
        if len(names) == 1:
            return {names[0]: Unreadable(key=names[0], why=Why.CORRUPT, reason=error.message)}
    middle = len(names) // 2
    return {**_one_by_one(table, names[:middle]), **_one_by_one(table, names[middle:])}

"""Batch tables that are right but for one fault, and the test of `BatchTableContract` that must see it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

import attrs

from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.table_rules import row_of
from embedpipe.errors import PreconditionFailed
from embedpipe.layout import SEED
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire import item_to_row, row_to_item

SLOWLY_S: Final = 0.002
"""Long enough for another thread to come between."""


class Table(MemoryBatchTable):
    """With the parts that the broken ones need."""

    def row(self, batch_id: str) -> BatchRow | None:
        return row_of(self.read_raw(batch_id), SEED)


class OverwritesRows(Table):
    def put_new(self, row: BatchRow) -> bool:
        self.write_raw(row_to_item(row, SEED))
        return True


class LooksThenInserts(Table):
    def put_new(self, row: BatchRow) -> bool:
        missing = self.row(row.batch_id) is None
        time.sleep(SLOWLY_S)
        if missing:
            self.write_raw(row_to_item(row, SEED))
        return missing


class LooksThenUpdates(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        row = self.row(batch_id)
        if row is None or (row.status, row.revision) != (status, revision):
            raise PreconditionFailed("changed")
        time.sleep(SLOWLY_S)
        after: BatchRow = attrs.evolve(row, **{**changes, "revision": revision + 1})  # type: ignore[arg-type]  # by name
        self.write_raw(row_to_item(after, SEED))
        return after


class IgnoresRevisions(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        row = self.row(batch_id)
        return super().update(batch_id, changes, status=status, revision=row.revision if row else 0)


class IgnoresStatuses(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        row = self.row(batch_id)
        return super().update(batch_id, changes, status=row.status if row else status, revision=revision)


class UpdateInserts(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        if self.read_raw(batch_id) is None:
            self.put_new(BatchRow(batch_id=batch_id, batch_type="WORD_EMBEDDING", status=status))
        return super().update(batch_id, changes, status=status, revision=revision)


class DropsUnknown(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        after = super().update(batch_id, changes, status=status, revision=revision)
        self.write_raw(row_to_item(attrs.evolve(after, extra={}), SEED))
        return after


class KeepsNulls(Table):
    """None is stored as null in place of being removed."""

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        after = super().update(batch_id, changes, status=status, revision=revision)
        item = self.read_raw(batch_id) or {}
        self.write_raw({**item, **{name: None for name, value in changes.items() if value is None}})
        return after


class ForgetsTheIndex(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        before = self.read_raw(batch_id) or {}
        after = super().update(batch_id, changes, status=status, revision=revision)
        self.write_raw({**(self.read_raw(batch_id) or {}), "GSI1PK": before["GSI1PK"]})
        return after


class WantsARevision(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        if "revision" not in (self.read_raw(batch_id) or {}):
            raise PreconditionFailed("no revision")
        return super().update(batch_id, changes, status=status, revision=revision)


class SpeaksDecimal(Table):
    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        found = super().get_many(batch_ids)
        return {
            name: attrs.evolve(row, extra={key: _decimal(value) for key, value in row.extra.items()})
            for name, row in found.items()
        }


def _decimal(value: object) -> object:
    return Decimal(value) if type(value) is int else value


class AHundredRows(Table):
    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        return super().get_many(batch_ids[:100])


class ReadsForeign(Table):
    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        items = {name: self.read_raw(name) for name in batch_ids}
        return {name: item_to_row(item, SEED) for name, item in items.items() if item}


class ChangesForeign(Table):
    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        item = self.read_raw(batch_id)
        if item and item["TYPE"] != SEED.type_value:
            self.write_raw({**item, "status": "FAILED"})
        return super().update(batch_id, changes, status=status, revision=revision)


class Index(Table):
    """Base of those whose index is wrong."""

    def all_ids(self, batch_type: str, status: Status) -> list[str]:
        return list(super().by_status(batch_type, status))


class IndexIsOnePage(Index):
    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        return (name for name, _ in zip(super().by_status(batch_type, status, after=after), range(1_000), strict=False))


class IndexPagesByOffset(Index):
    """As `LIMIT 1000 OFFSET n`: rows that leave while it reads make it skip others."""

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        offset = 0
        while page := [name for name in self.all_ids(batch_type, status) if name > after][offset : offset + 1_000]:
            yield from page
            offset += 1_000


class IndexIsUnordered(Index):
    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        return iter(sorted((name for name in self.all_ids(batch_type, status) if name > after), key=str.lower))


class IndexRepeatsTheMark(Index):
    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        return (name for name in self.all_ids(batch_type, status) if name >= after)


class IndexConfusesTypes(Index):
    """As `begins_with(sort key, type)` without its end."""

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        types = [name for name in ("WORD_EMBEDDING", "WORD_EMBEDDING_2") if name.startswith(batch_type)]
        found = [name for each in types or [batch_type] for name in self.all_ids(each, status)]
        return iter(sorted(name for name in found if name > after))


class CachesRows(Table):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, BatchRow] = {}

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        return {name: self.cache.setdefault(name, row) for name, row in super().get_many(batch_ids).items()}

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        self.cache.pop(batch_id, None)
        return super().update(batch_id, changes, status=status, revision=revision)


class CachesRowsInEachConnection(Table):
    def connection(self) -> MemoryBatchTable:
        other = CachesRows()
        other.__dict__ = {**self.__dict__, "cache": {}}
        return other


class WholeSeconds(Table):
    def put_new(self, row: BatchRow) -> bool:
        at = row.submitted_at
        return super().put_new(attrs.evolve(row, submitted_at=at and at.replace(microsecond=0)))


class CutsTexts(Table):
    def put_new(self, row: BatchRow) -> bool:
        return super().put_new(attrs.evolve(row, reason=row.reason and row.reason[:65_535]))


class OwnNames(Table):
    def put_new(self, row: BatchRow) -> bool:
        made = super().put_new(row)
        item = self.read_raw(row.batch_id) or {}
        self.write_raw({**item, "openai_batch_id": None, "provider": row.provider_batch_id})
        return made


class SharesARow(Table):
    def put_new(self, row: BatchRow) -> bool:
        self.row_to_put = row
        time.sleep(SLOWLY_S)
        return super().put_new(self.row_to_put)


FAULTS: Final[list[tuple[type[MemoryBatchTable], str]]] = [
    (OverwritesRows, "test_put_new_changes_nothing_where_a_row_is"),
    (LooksThenInserts, "test_of_sixteen_inserters_one_wins"),
    (LooksThenUpdates, "test_of_sixteen_updaters_one_wins"),
    (LooksThenUpdates, "test_updates_of_one_row_lose_no_step"),
    (IgnoresRevisions, "test_update_refuses_another_status_or_revision"),
    (IgnoresStatuses, "test_update_refuses_another_status_or_revision"),
    (UpdateInserts, "test_update_makes_no_row"),
    (DropsUnknown, "test_attributes_that_nobody_knows_stay"),
    (KeepsNulls, "test_update_changes_what_it_names_and_counts"),
    (ForgetsTheIndex, "test_the_index_follows_the_status"),
    (WantsARevision, "test_a_row_of_the_seed_has_revision_0"),
    (SpeaksDecimal, "test_numbers_come_back_as_plain_integers"),
    (AHundredRows, "test_get_many_takes_any_number_of_ids"),
    (ReadsForeign, "test_items_of_other_types_are_neither_read_nor_changed"),
    (ChangesForeign, "test_items_of_other_types_are_neither_read_nor_changed"),
    (IndexIsOnePage, "test_a_long_index_is_complete_while_its_rows_change"),
    (IndexPagesByOffset, "test_a_long_index_is_complete_while_its_rows_change"),
    (IndexIsUnordered, "test_the_index_is_in_order_and_resumes"),
    (IndexRepeatsTheMark, "test_the_index_is_in_order_and_resumes"),
    (IndexConfusesTypes, "test_the_index_tells_types_and_statuses_apart"),
    (CachesRows, "test_what_others_write_is_read"),
    (CachesRowsInEachConnection, "test_a_second_connection_sees_every_change_at_once"),
    (WholeSeconds, "test_a_row_comes_back_as_it_is"),
    (CutsTexts, "test_a_row_may_be_large"),
    (OwnNames, "test_the_item_has_the_names_of_the_layout"),
    (SharesARow, "test_one_connection_serves_many_threads"),
]

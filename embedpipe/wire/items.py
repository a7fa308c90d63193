"""Rows of the batch table as items, in the seed's layout: attributes that we do not know survive."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import attrs

from embedpipe.errors import CorruptData, InvalidId
from embedpipe.layout import Layout
from embedpipe.lifecycle import Status
from embedpipe.model import BatchRow
from embedpipe.wire.envelope import format_time, parse_time

_TIMES: Final = frozenset({"submitted_at", "creating_at", "not_before"})
_INTERNAL: Final = frozenset({"extra"})
_ROW_FIELDS: Final = tuple(field for field in attrs.fields(BatchRow) if field.name not in _INTERNAL)


def _attribute(field: str, layout: Layout) -> str:
    return layout.attributes.get(field, field)


def _status_name(status: Status, layout: Layout) -> str:
    return layout.statuses.get(status.value, status.value)


def _plain(name: str, value: Any, layout: Layout) -> object:
    if name == "status":
        return _status_name(value, layout)
    if name in _TIMES:
        return format_time(value)
    return list(value) if isinstance(value, tuple) else value


def index_keys(batch_id: str, batch_type: str, status: Status, layout: Layout) -> dict[str, str]:
    """The two index attributes of a row."""
    return {
        layout.index_pk: layout.index_pk_value.format(status=_status_name(status, layout)),
        layout.index_sk: layout.index_sk_value.format(batch_type=batch_type, batch_id=batch_id),
    }


def row_to_item(row: BatchRow, layout: Layout) -> dict[str, object]:
    """The table item of a row; fields that are None or empty are left out."""
    item: dict[str, object] = {
        **row.extra,
        layout.pk: layout.pk_value.format(batch_id=row.batch_id),
        layout.sk: layout.sk_value,
        layout.type_attribute: layout.type_value,
        **index_keys(row.batch_id, row.batch_type, row.status, layout),
    }
    for field in _ROW_FIELDS:
        value = getattr(row, field.name)
        if value is None or value == ():
            continue
        if field.name == "revision" and value == 0:
            continue
        item[_attribute(field.name, layout)] = _plain(field.name, value, layout)
    return item


def changes_to_item(
    changes: Mapping[str, object], row: BatchRow, layout: Layout
) -> tuple[dict[str, object], tuple[str, ...]]:
    """What `update` sets and removes: attributes with their new values, and attributes that become None.

    `row` is the row before; its index keys follow a change of status.
    """
    known = {field.name for field in _ROW_FIELDS} - {"batch_id", "batch_type", "revision"}
    unknown = sorted(changes.keys() - known)
    if unknown:
        raise ValueError(f"update cannot change {unknown}")
    sets: dict[str, object] = {}
    removes: list[str] = []
    for name, value in changes.items():
        if value is None or value == ():
            removes.append(_attribute(name, layout))
        else:
            sets[_attribute(name, layout)] = _plain(name, value, layout)
    status = changes.get("status")
    if isinstance(status, Status):
        sets.update(index_keys(row.batch_id, row.batch_type, status, layout))
    return sets, tuple(removes)


@lru_cache(maxsize=8)
def _reading(layout: Layout) -> tuple[dict[str, str], frozenset[str]]:
    """Field by attribute, and the attributes that are no field. Made once a layout: tables have many rows."""
    names = {_attribute(field.name, layout): field.name for field in _ROW_FIELDS}
    structural = {layout.pk, layout.sk, layout.index_pk, layout.index_sk, layout.type_attribute}
    return names, frozenset(structural)


@lru_cache(maxsize=8)
def _statuses(layout: Layout) -> dict[str, Status]:
    return {_status_name(status, layout): status for status in Status}


def item_to_row(item: Mapping[str, Any], layout: Layout) -> BatchRow:
    """The row of an item. `CorruptData` names the item and the attribute."""
    key = item.get(layout.pk)
    prefix, _, suffix = layout.pk_value.partition("{batch_id}")
    if not isinstance(key, str) or not key.startswith(prefix) or not key.endswith(suffix):
        raise CorruptData(f"Table item {ascii(key)[:80]} is not a batch.", item=key)
    names, structural = _reading(layout)
    values: dict[str, Any] = {"batch_id": key[len(prefix) : len(key) - len(suffix)]}
    extra: dict[str, object] = {}
    for attribute, value in item.items():
        name = names.get(attribute)
        if name is None:
            if attribute not in structural:
                extra[attribute] = value
        elif name != "batch_id" and value is not None:
            values[name] = _row_value(name, value, layout, f"Table item {key}: {attribute}")
    missing = {"status", "batch_type"} - values.keys()
    if missing:
        raise CorruptData(f"Table item {key} lacks {sorted(missing)}.", item=key)
    try:
        return BatchRow(**values, extra=extra)
    except InvalidId as error:
        raise CorruptData(f"Table item {ascii(key)[:160]}: {error.message}", item=key) from None


_INTEGERS: Final = frozenset({"request_count", "seq", "attempt", "dimensions", "revision"})


def _row_value(name: str, value: Any, layout: Layout, where: str) -> Any:
    if name == "status":
        status = _statuses(layout).get(value) if isinstance(value, str) else None
        if status is None:
            raise CorruptData(f"{where} is {ascii(value)[:40]}, which is no status.", where=where)
        return status
    if name in _TIMES:
        return parse_time(value, where)
    if name in _INTEGERS:
        return _whole_number(value, where)
    if name == "retry_batch_ids":
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise CorruptData(f"{where} is {type(value).__name__}, not a list of strings.", where=where)
        return tuple(value)
    if not isinstance(value, str):
        raise CorruptData(f"{where} is {type(value).__name__}, not a string.", where=where)
    return value


def _whole_number(value: Any, where: str) -> int:
    """DynamoDB gives numbers as Decimal, which may be no number, or one with a million digits."""
    try:
        fits = not isinstance(value, bool) and -(2**63) <= value < 2**63 and int(value) == value
    except (ArithmeticError, TypeError, ValueError):
        fits = False
    if not fits:
        raise CorruptData(f"{where} is {ascii(value)[:40]}, not a whole number.", where=where)
    return int(value)

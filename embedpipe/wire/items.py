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
_CHANGEABLE: Final = frozenset(field.name for field in _ROW_FIELDS) - {"batch_id", "batch_type", "revision"}
_INTEGERS: Final = frozenset({"request_count", "seq", "attempt", "dimensions", "revision"})
_TEXTS: Final = (
    frozenset(field.name for field in _ROW_FIELDS) - _TIMES - _INTEGERS - {"batch_id", "status", "retry_batch_ids"}
)
_AS_THEY_ARE: Final = frozenset({str, int})
"""Types of values that a row and an item write alike."""


def _attribute(field: str, layout: Layout) -> str:
    return layout.attributes.get(field, field)


def _plain(name: str, value: Any, layout: Layout) -> object:
    if name == "status":
        return layout.status_word(value)
    if name in _TIMES:
        return format_time(value)
    return list(value) if isinstance(value, tuple) else value


def index_keys(batch_id: str, batch_type: str, status: Status, layout: Layout) -> dict[str, str]:
    """The two index attributes of a row."""
    return {
        layout.index_pk: layout.index_pk_value.format(status=layout.status_word(status)),
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
    for name, attribute in _writing(layout):
        value = getattr(row, name)
        if value is None or value == ():
            continue
        item[attribute] = value if type(value) in _AS_THEY_ARE else _plain(name, value, layout)
    if row.revision == 0:
        del item[_attribute("revision", layout)]
    return item


def changes_to_item(
    changes: Mapping[str, object], row: BatchRow, layout: Layout
) -> tuple[dict[str, object], tuple[str, ...]]:
    """What `update` sets and removes: attributes with their new values, and attributes that become None.

    `row` is the row before; its index keys follow a change of status.
    """
    unknown = sorted(changes.keys() - _CHANGEABLE)
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
def _writing(layout: Layout) -> tuple[tuple[str, str], ...]:
    """Each field and its attribute. Made once a layout, as the tables below: there are many rows."""
    return tuple((field.name, _attribute(field.name, layout)) for field in _ROW_FIELDS)


@lru_cache(maxsize=8)
def _reading(layout: Layout) -> tuple[dict[str, str], dict[str, str], frozenset[str]]:
    """Field by attribute, those of texts and the others, and the attributes that are no field."""
    names = {attribute: name for name, attribute in _writing(layout) if name != "batch_id"}
    texts = {attribute: name for attribute, name in names.items() if name in _TEXTS}
    structural = {layout.pk, layout.sk, layout.index_pk, layout.index_sk, layout.type_attribute}
    return texts, names, frozenset(structural | {_attribute("batch_id", layout)})


@lru_cache(maxsize=8)
def _statuses(layout: Layout) -> dict[str, Status]:
    return {word: status for status in Status for word in layout.status_words(status)}


def item_to_row(item: Mapping[str, Any], layout: Layout) -> BatchRow:
    """The row of an item. `CorruptData` names the item and the attribute."""
    key = item.get(layout.pk)
    prefix, _, suffix = layout.pk_value.partition("{batch_id}")
    if not isinstance(key, str) or not key.startswith(prefix) or not key.endswith(suffix):
        raise CorruptData(f"Table item {ascii(key)[:80]} is not a batch.", item=key)
    texts, names, structural = _reading(layout)
    values: dict[str, Any] = {"batch_id": key[len(prefix) : len(key) - len(suffix)]}
    extra: dict[str, object] = {}
    for attribute, value in item.items():
        if attribute in texts and type(value) is str:  # most are, and a row is read for each batch
            values[texts[attribute]] = value
        elif attribute in names:
            if value is not None:
                name = names[attribute]
                quick = type(value) is int and name in _INTEGERS and -(2**63) <= value < 2**63
                values[name] = value if quick else _row_value(name, value, layout, f"Table item {key}: {attribute}")
        elif attribute not in structural:
            extra[attribute] = value
    missing = {"status", "batch_type"} - values.keys()
    if missing:
        raise CorruptData(f"Table item {key} lacks {sorted(missing)}.", item=key)
    try:
        return BatchRow(**values, extra=extra)
    except InvalidId as error:
        raise CorruptData(f"Table item {ascii(key)[:160]}: {error.message}", item=key) from None


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

"""What a user writes for an audit: the layout of another pipeline, and the findings that are lived with. Both are TOML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.errors import ConfigError
from embedpipe.layout import SEED, Layout
from embedpipe.setting_rules import naming_problem
from embedpipe.settings import file_layer, unknown_key
from verify.audit.catalogue import rule
from verify.audit.options import Suppression

__all__ = ["read_layout", "read_suppressions"]

TABLES: Final = ("attributes", "statuses", "more_statuses")
SUPPRESSION_FIELDS: Final = frozenset({"object", "reason", "expires", "code"})


def read_layout(path: Path) -> Layout:
    """A layout: the fields of `Layout` at the top of the file or under `[layout]`. `ConfigError` names a misspelt one."""
    given = dict(file_layer(path).values)
    fields = {name.removeprefix("layout."): value for name, value in given.items() if not name.endswith(".")}
    tables = _tables(fields)
    known = {field.name: field.type for field in attrs.fields(Layout)}
    for name, value in tables.items():
        if name not in known:
            raise unknown_key(name, f"file {path}", known)
        wanted = Mapping if name in TABLES else str
        if not isinstance(value, wanted) or not all(isinstance(text, str) for text in _texts(value)):
            raise ConfigError(
                f"{path}: {name} must be {'a table of texts' if wanted is Mapping else 'text'}.", key=name
            )
    tables["attributes"] = {**SEED.attributes, **tables.get("attributes", {})}  # what is not named stays as it is
    try:
        layout = Layout(**tables)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    names, problem = naming_problem(layout)
    if problem:
        raise ConfigError(f"{path}: {names[0]} {problem}.", key=names[0])
    return layout


def _texts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else ()


def _tables(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`attributes.status` back as a table."""
    out: dict[str, Any] = {}
    for name, value in fields.items():
        table, _, key = name.partition(".")
        if key:
            out.setdefault(table, {})[key] = value
        else:
            out[name] = value
    return out


def read_suppressions(path: Path) -> tuple[Suppression, ...]:
    """`[[suppress]]` tables of `object`, `reason`, `expires` and, if wanted, `code`. `ConfigError`."""
    values = dict(file_layer(path).values)
    entries = values.pop("suppress", [])
    if values or not isinstance(entries, list):
        raise ConfigError(
            f"{path}: it holds [[suppress]] tables and nothing else.", hint="object, reason, expires, code"
        )
    return tuple(_suppression(entry, f"{path}: suppress[{at}]") for at, entry in enumerate(entries))


def _suppression(entry: Any, where: str) -> Suppression:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} is no table.")
    for name in entry:
        if name not in SUPPRESSION_FIELDS:
            raise unknown_key(name, where, SUPPRESSION_FIELDS)
    for name in ("object", "reason", "expires"):
        if not entry.get(name):
            raise ConfigError(f"{where} has no {name!a}.", hint="Each says what it is about, why, and until when.")
    code = str(entry.get("code", ""))
    return Suppression(
        object=str(entry["object"]),
        reason=str(entry["reason"]),
        expires=_when(entry["expires"], where),
        code=rule(code).code if code else "",
    )


def _when(value: Any, where: str) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time.max, UTC)
    raise ConfigError(f"{where}: 'expires' is no date.", hint="Write expires = 2026-12-31, without quotes.")

"""JSON envelopes and table items: reading then writing one is the identity, unknown fields included.

Each envelope is an attrs value. `load` checks types strictly and names object and field in its errors; a `null` counts as
absent, because a workflow engine passes missing values as `null`. `dump` writes what was read, plus what was changed.
A field with metadata `optional` is ours, and is left out while it has its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Self, TypeVar, cast, get_args, get_origin

import attrs
import msgspec
from cattrs import ClassValidationError, IterableValidationError, transform_error
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.msgspec import MsgspecJsonConverter, make_converter
from cattrs.v import format_exception

from embedpipe.errors import CorruptData, InvalidId, NewerSchema
from embedpipe.layout import Layout
from embedpipe.lifecycle import Action, Status
from embedpipe.model import BatchRow

SCHEMA: Final = 1
NESTING_MAX: Final = 100
"""[ours] Levels of a field that we do not know. A deeper one could be read and then not be written again."""

_raw_decode: Final = msgspec.json.decode
_raw_encode: Final = msgspec.json.encode

E_ = TypeVar("E_", bound="Envelope")


def _ours(default: Any = None) -> Any:
    return attrs.field(default=default, metadata={"optional": True})


def _schema() -> Any:
    return attrs.field(default=SCHEMA)


@attrs.frozen(kw_only=True)
class Envelope:
    """Base of all envelopes. `raw` is the object it was read from."""

    raw: Mapping[str, object] | None = attrs.field(default=None, eq=False, repr=False, metadata={"internal": True})

    @classmethod
    def load(cls, data: bytes | Mapping[str, object], where: str) -> Self:
        """Read one; `where` names the object in errors. `CorruptData`, `NewerSchema`."""
        return _load(cls, decode(data, where) if isinstance(data, bytes) else data, where)

    @classmethod
    def load_many(cls, data: bytes | Sequence[object], where: str) -> tuple[Self, ...]:
        """Read a JSON array of them."""
        items = decode(data, where) if isinstance(data, bytes) else data
        if not isinstance(items, list | tuple):
            raise CorruptData(f"{where} is not an array.", where=where)
        return tuple(_load(cls, item, f"{where}[{index}]") for index, item in enumerate(items))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        raw = self.raw
        out: dict[str, Any] = {} if raw is None else dict(raw)
        for name, default, optional in _plan(cast(Any, type(self))):
            value = getattr(self, name)
            plain = _CONVERTER.unstructure(value)
            if raw is None:
                if not (optional and value == default):
                    out[name] = plain
            elif raw.get(name) is None:
                if value != default:
                    out[name] = plain
            else:
                out[name] = plain
        return out

    def dump(self) -> bytes:
        """Its JSON bytes."""
        return _raw_encode(self.to_dict())


def decode(data: bytes, where: str) -> Any:
    """Parse JSON. `CorruptData` with the parser's message and offset."""
    try:
        return _raw_decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{where} is not JSON ({len(data)} bytes): {error}", where=where) from None


def encode(value: object) -> bytes:
    """Compact JSON bytes of plain values."""
    return _raw_encode(value)


def dump_many(items: Iterable[Envelope]) -> bytes:
    """A JSON array of envelopes."""
    return _raw_encode([item.to_dict() for item in items])


@cache
def _plan(cls: Any) -> tuple[tuple[str, Any, bool], ...]:
    return tuple(
        (field.name, field.default, bool(field.metadata.get("optional")))
        for field in attrs.fields(cls)
        if not field.metadata.get("internal")
    )


def _load(cls: type[E_], raw: object, where: str) -> E_:
    if not isinstance(raw, Mapping):
        raise CorruptData(f"{where} is not an object but {type(raw).__name__}.", where=where)
    schema = raw.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(
            f"{where} has schema {schema}; this version reads up to {SCHEMA}.", hint="Upgrade embedpipe.", where=where
        )
    try:
        return _CONVERTER.structure(raw, cls)
    except (ClassValidationError, IterableValidationError) as error:
        wrong = transform_error(error, path="", format_exception=_words)  # what, and the path to it
        raise CorruptData(f"{where}: {'; '.join(wrong)}", where=where) from None
    except ValueError as error:
        raise CorruptData(f"{where}: {error}", where=where) from None


def _words(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, ValueError) else format_exception(error, kind)


def _make_converter() -> MsgspecJsonConverter:
    converter = make_converter(detailed_validation=True)

    # `Action` has a hook of its own: the one for str would else take any text for it, since it is a str, too.
    for exact in (str, int, bool, type(None)):
        converter.register_structure_hook(exact, _strict(exact))
    converter.register_structure_hook(Action, _action)

    def array_hook(kind: Any) -> Any:
        items: Any = list[get_args(kind)[0]]  # type: ignore[misc]  # known when it runs
        structure = converter.get_structure_hook(items)

        def hook(value: object, _: type) -> object:
            if not isinstance(value, list | tuple):
                raise ValueError(f"expected an array, got {type(value).__name__}")
            return tuple(structure(value, items))

        return hook

    converter.register_structure_hook_factory(lambda kind: get_origin(kind) is tuple, array_hook)

    def envelope_hook(cls: type[Envelope]) -> Any:
        structure = make_dict_structure_fn(cls, converter, raw=_omit())
        known = {name for name, _, _ in _plan(cast(Any, cls))}

        def hook(raw: object, _: type) -> Envelope:
            if not isinstance(raw, Mapping):
                raise ValueError(f"expected an object, got {type(raw).__name__}")
            present = {name: value for name, value in raw.items() if value is not None}
            for name, value in present.items():
                if name not in known and isinstance(value, list | dict):
                    _check_nesting(name, value)
            return attrs.evolve(structure(present, cls), raw=raw)

        return hook

    def is_envelope(cls: Any) -> bool:
        return isinstance(cls, type) and issubclass(cls, Envelope)

    converter.register_structure_hook_factory(is_envelope, envelope_hook)
    converter.register_unstructure_hook_func(is_envelope, lambda value: value.to_dict())
    return converter


def _omit() -> Any:
    from cattrs.gen import override

    return override(omit=True)


def _strict(exact: type) -> Any:
    def hook(value: object, _: type) -> object:
        if type(value) is exact:
            return value
        raise ValueError(f"expected {exact.__name__}, got {type(value).__name__}")

    return hook


def _action(value: object, _: type) -> Action:
    if isinstance(value, str) and value in Action.__members__.values():
        return Action(value)
    raise ValueError(f"expected an action, got {ascii(value)[:40] if isinstance(value, str) else type(value).__name__}")


def _check_nesting(name: str, value: object) -> None:
    level = [value]
    for _ in range(NESTING_MAX):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if isinstance(inner, list | dict)
        ]
        if not level:
            return
    raise ValueError(f"field {ascii(name)[:40]} is nested more than {NESTING_MAX} levels deep")


_CONVERTER: Final = _make_converter()


# --- envelopes of the workflow state -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class PendingBatch(Envelope):
    """One batch of a listing, and the input of one poll iteration."""

    batch_id: str
    openai_batch_id: str | None = None


@attrs.frozen(kw_only=True)
class Listing(Envelope):
    """What the list step returns: inline up to 50 batches, else by manifest."""

    total_batches: int
    batch_indices: tuple[int, ...]
    pending_batches: tuple[PendingBatch, ...] | None = None
    use_s3: bool
    manifest_s3_key: str | None = None
    manifest_s3_bucket: str | None = None
    execution_id: str


@attrs.frozen(kw_only=True)
class ManifestBatch(Envelope):
    """One batch of a manifest."""

    index: int
    batch_id: str
    openai_batch_id: str | None = None


@attrs.frozen(kw_only=True)
class Manifest(Envelope):
    """`manifests/{execution_id}/batches.json`: the listing of one execution, always written."""

    execution_id: str
    created_at: str
    total_batches: int
    batch_type: str | None = None
    batches: tuple[ManifestBatch, ...]
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class Result(Envelope):
    """What is known about one batch: the register `poll_results/{batch_id}/result.json`."""

    batch_id: str
    openai_batch_id: str | None = None
    batch_status: str | None = None
    action: Action
    results_count: int = 0
    delta_id: str | None = None
    delta_key: str | None = None
    embedding_count: int = 0
    storage: str | None = None
    collection: str | None = _ours()
    database: str | None = _ours()
    rejected_count: int | None = _ours()
    retry_count: int | None = _ours()
    delta_sha256: str | None = _ours()
    retry_sha256: str | None = _ours()
    reason: str | None = _ours()
    since: str | None = _ours()
    execution_id: str | None = _ours()
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class Reference(Envelope):
    """What one poll iteration returns."""

    batch_id: str
    result_s3_key: str
    result_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class Normalised(Envelope):
    """What the normalise step returns. `batch_id` is the execution's id, as in the seed."""

    batch_id: str
    poll_results: None = None
    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class ChunkItem(Envelope):
    """The input of one chunk iteration."""

    index: int
    chunk_id: str
    execution_id: str


@attrs.frozen(kw_only=True)
class Chunked(Envelope):
    """What the split step returns; the chunks themselves are in `chunks_s3_key`."""

    execution_id: str
    total_chunks: int
    chunks: tuple[ChunkItem, ...] | None = None
    use_s3: bool
    chunks_s3_key: str
    chunks_s3_bucket: str | None = None
    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class DeltaRef(Envelope):
    """One delta of a chunk."""

    batch_id: str
    delta_key: str
    embedding_count: int = 0
    delta_sha256: str | None = None


@attrs.frozen(kw_only=True)
class Chunk(Envelope):
    """One chunk: the deltas that one iteration sorts and packs."""

    index: int
    chunk_id: str
    execution_id: str
    deltas: tuple[DeltaRef, ...]


@attrs.frozen(kw_only=True)
class Damaged(Envelope):
    """A delta that could not be used, and why."""

    batch_id: str
    delta_key: str
    reason: str


@attrs.frozen(kw_only=True)
class Packed(Envelope):
    """What one chunk iteration returns."""

    index: int
    chunk_id: str
    intermediate_s3_key: str | None = None
    intermediate_s3_bucket: str | None = None
    rows: int
    damaged: tuple[Damaged, ...] = ()


@attrs.frozen(kw_only=True)
class Merged(Envelope):
    """What the final merge returns; `more` asks to be called again, with `next_chunk`."""

    more: bool
    next_chunk: int
    version: str | None = None
    inserted: int
    replaced: int
    equal: int
    superseded: int
    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class MarkInput(Envelope):
    """What the mark step needs."""

    poll_results_s3_key: str
    poll_results_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class MarkCounts(Envelope):
    """What the mark step returns; also its log line."""

    extracted: int
    eligible: int
    batches_marked: int
    already_complete: int
    skipped: int
    missing: int
    marked_s3_key: str
    marked_s3_bucket: str | None = None


@attrs.frozen(kw_only=True)
class SubmitCounts(Envelope):
    """What the submit step returns."""

    execution_id: str
    seq: int | None = None
    records: int
    skipped: int
    batches: int
    created: int
    waiting: int


# --- objects of ours -----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Root(Envelope):
    """`embedpipe.json`: what this root is. `root_id` is part of every batch's name."""

    root_id: str
    created_at: str
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class OpenRoot(Envelope):
    """One batch of a submission: all that its row is made of."""

    batch_id: str
    seq: int
    part: int
    request_sha256: str
    records_sha256: str
    request_count: int
    model: str
    dimensions: int
    submitted_at: str


@attrs.frozen(kw_only=True)
class Submitter(Envelope):
    """One submission that the ledger remembers."""

    execution_id: str
    seq: int


@attrs.frozen(kw_only=True)
class Head(Envelope):
    """The ledger of one collection. It moves by `If-Match` only."""

    database: str
    collection: str
    seq: int
    open: tuple[OpenRoot, ...] = ()
    submitters: tuple[Submitter, ...] = ()
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class FileHash(Envelope):
    """One file of a delta."""

    name: str
    sha256: str
    size_bytes: int


@attrs.frozen(kw_only=True)
class Delta(Envelope):
    """`delta.json`, written last: what a terminal batch gave."""

    delta_id: str
    batch_id: str
    database: str
    collection: str
    model: str
    dimensions: int
    batch_status: str
    request_count: int | None = None
    embedding_count: int
    rejected_count: int
    retry_count: int
    files: tuple[FileHash, ...]
    notes: tuple[str, ...] = ()
    created_at: str
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class Rejected(Envelope):
    """One line of `rejected.jsonl`."""

    id: str
    seq: int
    attempt: int
    tries: int
    reason: str
    message: str = ""


@attrs.frozen(kw_only=True)
class Retry(Envelope):
    """One line of `retry.jsonl`: a record to submit again, under claim `attempt + 1`."""

    id: str
    part: int
    """Which retry batch takes it."""
    tries: int
    """Tries it will have cost once that batch is created."""
    cause: str
    reason: str


@attrs.frozen(kw_only=True)
class Latest(Envelope):
    """`snapshot/latest.json`, the pointer. It moves by `If-Match` only, and never back."""

    version: str
    n: int
    sha256: str
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class Snapshot(Envelope):
    """`snapshot.json` of one version."""

    version: str
    n: int
    parent: str | None = None
    ancestors: tuple[str, ...]
    database: str
    collection: str
    model: str
    dimensions: int
    count: int
    catalog_sha256: str
    in_place: bool
    execution_id: str
    created_at: str
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class Journal(Envelope):
    """`merging.json`: what the writer of a merge in place is writing. Who finds one merges these deltas too."""

    execution_id: str
    intermediates: tuple[str, ...]
    delta_keys: tuple[str, ...]
    started_at: str
    schema: int | None = _schema()


@attrs.frozen(kw_only=True)
class Mark(Envelope):
    """What mark did with one batch."""

    batch_id: str
    outcome: str
    status: str | None = None
    reason: str | None = None
    retry_batch_ids: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Marked(Envelope):
    """`poll_results/{execution_id}/marked.json`."""

    execution_id: str
    marks: tuple[Mark, ...]
    schema: int | None = _schema()


# --- times ---------------------------------------------------------------------------------------------------------


def format_time(value: datetime) -> str:
    """RFC 3339 with `Z` and as many digits as it has.

    >>> format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05Z'
    """
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: str, where: str = "time") -> datetime:
    """Aware UTC. Accepts an offset in place of `Z`; a time without either counts as UTC."""
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise CorruptData(f"{where}: {ascii(text)[:40]} is not an RFC 3339 time.", where=where) from None


# --- table items ---------------------------------------------------------------------------------------------------

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


def item_to_row(item: Mapping[str, Any], layout: Layout) -> BatchRow:
    """The row of an item. `CorruptData` names the item and the attribute."""
    key = item.get(layout.pk)
    prefix, _, suffix = layout.pk_value.partition("{batch_id}")
    if not isinstance(key, str) or not key.startswith(prefix) or not key.endswith(suffix):
        raise CorruptData(f"Table item {ascii(key)[:80]} is not a batch.", item=key)
    names = {_attribute(field.name, layout): field.name for field in _ROW_FIELDS}
    structural = {layout.pk, layout.sk, layout.index_pk, layout.index_sk, layout.type_attribute}
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
        ours = {_status_name(status, layout): status for status in Status}
        if not isinstance(value, str) or value not in ours:
            raise CorruptData(f"{where} is {ascii(value)[:40]}, which is no status.", where=where)
        return ours[value]
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

"""JSON envelopes, the mechanics: reading then writing one is the identity, unknown fields included.

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

from embedpipe.errors import CorruptData, NewerSchema
from embedpipe.lifecycle import Action

SCHEMA: Final = 1
NESTING_MAX: Final = 100
"""[ours] Levels of a field that we do not know. A deeper one could be read and then not be written again."""

PLAIN: Final = frozenset({str, int, float, bool, type(None)})
"""Types whose values are JSON as they are."""

_raw_decode: Final = msgspec.json.decode
_raw_encode: Final = msgspec.json.encode

E_ = TypeVar("E_", bound="Envelope")


def ours(default: Any = None) -> Any:
    """A field that the seed does not have."""
    return attrs.field(default=default, metadata={"optional": True})


def schema_field() -> Any:
    """The `schema` that objects of ours carry; the seed's have none."""
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
            plain = value if type(value) in PLAIN else _CONVERTER.unstructure(value)
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
        return encode(self.to_dict())


def decode(data: bytes, where: str) -> Any:
    """Parse JSON. `CorruptData` with the parser's message and offset."""
    try:
        return _raw_decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{where} is not JSON ({len(data)} bytes): {error}", where=where) from None


def encode(value: object) -> bytes:
    """Compact JSON bytes of plain values. Text that is no Unicode, which a provider may send, gets a `?` where it is not.

    >>> encode({"reason": "bad \\ud800"})
    b'{"reason":"bad ?"}'
    """
    try:
        return _raw_encode(value)
    except UnicodeEncodeError:
        return _raw_encode(_in_unicode(value))


def _in_unicode(value: object) -> object:
    """The same without lone surrogates."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_in_unicode(name): _in_unicode(inner) for name, inner in value.items()}
    return [_in_unicode(inner) for inner in value] if isinstance(value, list | tuple) else value


def dump_many(items: Iterable[Envelope]) -> bytes:
    """A JSON array of envelopes."""
    return encode([item.to_dict() for item in items])


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
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(Action, _action)

    def array_hook(kind: Any) -> Any:
        items: Any = list[get_args(kind)[0]]  # type: ignore[misc]  # known when it runs
        structure = converter.get_structure_hook(items)

        def hook(value: object, _: type) -> object:
            if not isinstance(value, list | tuple):
                raise ValueError(f"expected an array, got {type(value).__name__}")
            return tuple(structure(value, items))

        return hook

    converter.register_structure_hook_factory(lambda kind: cast(Any, get_origin(kind)) is tuple, array_hook)

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
            value = structure(present, cls)
            object.__setattr__(value, "raw", raw)  # `evolve` would make it and check it a second time
            return value

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


def _float(value: object, _: type) -> float:
    """JSON has one kind of number: 60 is 60.0."""
    if type(value) in (int, float):
        return float(cast(float, value))
    raise ValueError(f"expected float, got {type(value).__name__}")


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

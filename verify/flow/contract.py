"""What handlers return, as a file says it or as embedpipe's wire types do.

    {"outputs": {"NormalizePoll*BatchesData": {"poll_results_s3_key": "string(40)", "poll_results": "null"}}}

A name is a pattern of state names or of resources. A shape is an object of shapes, an array `[shape]` or `[shape, most]`, or a
text: kinds joined by `|` (`string`, `number`, `boolean`, `array`, `object`, `null`, `absent`, `any`), a string's least
length in brackets. Fields that are not named are not there, unless the field `*` says `any`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import reduce
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

import attrs

from embedpipe.wire import state as wire
from verify.audit.findings import WrongQuestion
from verify.flow.values import ABSENT, KINDS, Value, array, join, of_kind, record, unknown

__all__ = ["Contract", "load", "ours"]

_WORD: Final = re.compile(r"(\w+)(?:\((\d+)\))?")
FILE_BYTES_MAX: Final = 1024 * 1024


@attrs.frozen(kw_only=True)
class Contract:
    """Patterns of names, in order, and what the handlers behind them return."""

    outputs: tuple[tuple[str, Value], ...] = ()

    def output(self, state: str, resource: str) -> Value:
        """What a task returns; unknown where nothing says it."""
        for pattern, value in self.outputs:
            if fnmatchcase(state, pattern) or fnmatchcase(resource, pattern):
                return value
        return unknown(state)


def load(path: str) -> Contract:
    """A contract from a JSON file; `embedpipe` names ours. `WrongQuestion`."""
    if path == "embedpipe":
        return ours()
    try:
        text = Path(path).read_bytes()[: FILE_BYTES_MAX + 1]
        document = json.loads(text)
    except OSError as error:
        raise WrongQuestion(f"{path}: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise WrongQuestion(f"{path} is not a contract in JSON: {error}.") from None
    return of_document(document, path)


def of_document(document: Any, where: str = "contract") -> Contract:
    """A contract from its JSON. `WrongQuestion`."""
    outputs = document.get("outputs") if isinstance(document, Mapping) else None
    if not isinstance(outputs, Mapping):
        raise WrongQuestion(f'{where} is not a contract: it has no "outputs".')
    return Contract(outputs=tuple((name, _value(shape, f"{where}: {name}")) for name, shape in outputs.items()))


def _value(shape: Any, where: str) -> Value:
    if isinstance(shape, Mapping):
        fields = {name: _value(inner, f"{where}.{name}") for name, inner in shape.items() if name != "*"}
        return record(fields, others="*" in shape)
    if isinstance(shape, list) and 1 <= len(shape) <= 2 and isinstance([*shape, 0][1], int):
        return array(_value(shape[0], f"{where}[]"), items_max=shape[1] if len(shape) == 2 else None)
    if isinstance(shape, str):
        return _kinds(shape, where)
    raise WrongQuestion(f"{where} is no shape.", hint="Use an object, [shape] or kinds such as string|null.")


def _kinds(text: str, where: str) -> Value:
    words = [_WORD.fullmatch(word.strip()) for word in text.split("|")]
    names = {word.group(1) for word in words if word}
    if None in words or names - KINDS - {"absent", "any"}:
        raise WrongQuestion(f"{where} has the kind {text!a}.", hint=f"Use {', '.join(sorted(KINDS))}, absent or any.")
    if "any" in names:
        return unknown(absent="absent" in names)
    return of_kind(*names, chars_min=max(int(word.group(2) or 0) for word in words if word))


_OURS: Final = {
    "ListPending*Batches": wire.Listing,
    "Poll*BatchesItem*": wire.Reference,
    "NormalizePoll*BatchesData": wire.Normalised,
    "Split*IntoChunks": wire.Chunked,
    "Process*ChunksItem*": wire.Packed,
    "*FinalMerge": wire.Merged,
    "Mark*BatchesComplete": wire.MarkCounts,
}
"""Names of states -> what is returned there; the names are the seed's."""
_SIZES: Final = {"batch_id": 36, "execution_id": 36, "result_s3_key": 61, "poll_results_s3_key": 66}
"""Least characters of what has a fixed form."""
INLINE_MAX: Final = 50
"""Items that a listing carries in the state; above, it is null and they are in the object store."""


def ours() -> Contract:
    """What embedpipe's handlers return on AWS, from the wire types."""
    return Contract(outputs=tuple((name, _envelope(kind)) for name, kind in _OURS.items()))


def _envelope(kind: type) -> Value:
    """The value of an envelope. A bucket is there wherever its key is: on AWS each object has one."""
    hints = get_type_hints(kind)
    fields = {}
    for field in attrs.fields(kind):
        if field.metadata.get("internal"):
            continue
        twin = field.name.removesuffix("_bucket") + "_key" if field.name.endswith("_s3_bucket") else field.name
        value = _hinted(hints[twin if twin in hints else field.name], _SIZES.get(field.name, 0))
        fields[field.name] = join(value, ABSENT) if field.metadata.get("optional") else value
    return record(fields)


_NAMES: Final = {str: "string", int: "number", bool: "boolean", NoneType: "null", float: "number"}


def _hinted(hint: Any, chars: int) -> Value:
    if get_origin(hint) is UnionType:
        return reduce(join, (_hinted(part, chars) for part in get_args(hint)))
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return array(_envelope(inner) if attrs.has(inner) else _hinted(inner, 0), items_max=INLINE_MAX)
    return of_kind(_NAMES.get(hint, "string"), chars_min=chars if hint is str else 0)

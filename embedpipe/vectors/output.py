"""A provider's output or error file, read as a stream: bytes in, in any pieces; one checked `OutputLine` a line out.

The rule kept here: no line raises and none is dropped; what can't be used says why. A line is read quickly by cutting
its embedding out, which goes to a parser of numbers, while the small rest goes to one of structure. Wherever that is
not certain to mean the same, the whole line is read slowly. Memory is one line. What a line means for its record is
for others to decide.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from embedpipe.errors import missing_extra
from embedpipe.vectors.lines import LINE_TOO_LONG, OutputLine, split_lines

try:
    import numpy as np
    import pybase64
    import simdjson
except ImportError as error:
    raise missing_extra("vectors", error.name or "numpy") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

MESSAGE_CHARS_MAX: Final = 300
CODE_CHARS_MAX: Final = 100

_BOM: Final = b"\xef\xbb\xbf"
_BLANKS: Final = b" \t\r"


def parse_output(pieces: Iterable[bytes], dimensions: int | None) -> Iterator[OutputLine]:
    """Each line of a file, in its order. `dimensions`: the length that vectors must have; None: any.

    >>> body = b'{"data": [{"index": 0, "embedding": [1, 0.5]}]}'
    >>> line = b'{"custom_id": "a", "response": {"status_code": 200, "body": ' + body + b'}, "error": null}'
    >>> [(out.custom_id, out.vector.tolist()) for out in parse_output([line], 2)]
    [('a', [1.0, 0.5])]
    """
    reader = _LineReader(dimensions)
    for number, line in enumerate(split_lines(pieces), 1):
        if line is LINE_TOO_LONG:
            yield OutputLine(number=number, problem="line_too_long")
            continue
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip(_BLANKS):
            yield reader.read(text, number)


# --- the quick way -------------------------------------------------------------------------------------------------


class _Item(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    index: int | None = None


class _Body(msgspec.Struct, gc=False):
    data: list[_Item]
    error: None = None


class _Response(msgspec.Struct, gc=False):
    body: _Body
    status_code: int | None = None


class _Line(msgspec.Struct, gc=False):
    """A line that reports no error. All else is left to the slow way."""

    custom_id: str
    response: _Response
    error: None = None


_CUT: Final = b'"<embedding>"'
_CUT_RAW: Final = msgspec.Raw(_CUT)
_EMBEDDING: Final = re.compile(rb'"embedding"[ \t\r]*:[ \t\r]*([\["])')
# A parser keeps buffers several times as long as the longest array it has seen, so a long one gets its own.
_SHARED_PARSER_BYTES: Final = 1 << 20


class _LineReader:
    """Reads single lines. Holds the parser's buffers, and is for one thread."""

    def __init__(self, dimensions: int | None) -> None:
        self._dimensions = dimensions
        self._parser = simdjson.Parser()

    def read(self, line: bytes, number: int) -> OutputLine:
        return self._quick(line, number) or _slow(line, number, self._dimensions)

    def _quick(self, line: bytes, number: int) -> OutputLine | None:
        """None unless it is certain that the slow way says the same.

        The embedding, found by its name, is replaced by a mark that occurs nowhere else. If the rest is JSON with the
        mark at `response.body.data[0].embedding`, and what was cut out is one JSON value, then the line is JSON with
        that value there.
        """
        found = _EMBEDDING.search(line)
        if found is None:
            return None
        start = found.start(1)
        is_array = found[1] == b"["
        end = line.find(b"]" if is_array else b'"', start + 1) + 1
        head, tail = line[:start], line[end:]
        if end == 0 or _CUT in head or _CUT in tail:
            return None
        envelope = _envelope(head + _CUT + tail)
        if envelope is None:
            return None
        vector = self._floats(line[start:end]) if is_array else _from_base64(line[start + 1 : end - 1])
        if vector is None:
            return None
        problem = _problem(vector, self._dimensions)
        return OutputLine(
            number=number,
            custom_id=envelope.custom_id,
            vector=None if problem else vector,
            status_code=_status(envelope.response.status_code),
            problem=problem,
        )

    def _floats(self, array: bytes) -> Vector | None:
        """A JSON array of numbers; None for others. It ends at its first bracket, so there is nothing to flatten."""
        parser = self._parser if len(array) <= _SHARED_PARSER_BYTES else simdjson.Parser()
        try:
            # The proxy must not outlive this line: a parser refuses to be used again while one is alive.
            doubles: Any = parser.parse(array).as_buffer(of_type="d")  # type: ignore[union-attr]
        except (ValueError, TypeError, RuntimeError):
            return None
        return _as_float32(np.frombuffer(doubles))


def _envelope(cut: bytes) -> _Line | None:
    """A line that reports success, with the mark in its one item; None for any other."""
    try:
        if not cut.isascii():
            cut.decode()  # msgspec does not look into strings that it skips
        line = _decode_line(cut)
    except (ValueError, RecursionError):
        return None
    data = line.response.body.data
    usable = len(data) == 1 and data[0].embedding == _CUT_RAW and not data[0].index
    return line if usable and _succeeded(line.response.status_code) else None


_decode_line: Final = msgspec.json.Decoder(_Line).decode


# --- vectors -------------------------------------------------------------------------------------------------------


def _as_float32(doubles: NDArray[np.float64]) -> Vector:
    with np.errstate(over="ignore", under="ignore"):
        return doubles.astype(np.float32)


def _from_base64(text: bytes | str) -> Vector | None:
    try:
        return np.frombuffer(pybase64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, ValueError):  # ValueError: not ASCII, or no whole number of values
        return None


def _problem(vector: Vector, dimensions: int | None) -> str | None:
    """Why a vector can't be used."""
    if vector.size == 0:
        return "no_embedding"
    if dimensions is not None and vector.size != dimensions:
        return "wrong_dimensions"
    with np.errstate(all="ignore"):
        # One pass does for nearly all: a finite positive sum of squares has finite terms, and one that is not zero.
        if 0.0 < vector.dot(vector) < np.inf:
            return None
    if not np.isfinite(vector).all():
        return "not_finite"
    return None if vector.any() else "zero_vector"


# --- the slow way --------------------------------------------------------------------------------------------------


def _slow(line: bytes, number: int, dimensions: int | None) -> OutputLine:
    try:
        tree = json.loads(line.decode(), parse_int=_whole)
    except (ValueError, RecursionError):
        return OutputLine(number=number, problem="unparsable")
    if not isinstance(tree, dict):
        return OutputLine(number=number, problem="unparsable")
    response = _object(tree.get("response"))
    body = _object(response.get("body"))
    status = _status(response.get("status_code"))
    code, message, vector, problem = None, "", None, None
    fault = _fault(tree.get("error")) or _fault(body.get("error"))
    if fault is not None:
        code, message = fault
        problem = None if code else "provider_error"
    elif _succeeded(status):
        vector, problem = _embedding(body, dimensions)
    custom_id = _unicode(tree.get("custom_id"))
    if custom_id is None:
        vector, problem = None, "no_custom_id"
    return OutputLine(
        number=number,
        custom_id=custom_id,
        vector=vector,
        status_code=status,
        error_code=code,
        error_message=message,
        problem=problem,
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(digits: str) -> int | float:
    # Beyond 64 bits only the magnitude counts, and int() refuses thousands of digits.
    return int(digits) if len(digits) <= 20 else float(digits)


def _status(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= 999 else None


def _succeeded(status: int | None) -> bool:
    """Also where the status is absent: some compatible servers leave it out."""
    return status is None or 200 <= status <= 299


def _unicode(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _fault(error: object) -> tuple[str | None, str] | None:
    """Code and message of an error object, or of a bare message; None where it says nothing."""
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return None
    code = _short(error.get("code"), CODE_CHARS_MAX) or _short(error.get("type"), CODE_CHARS_MAX)
    message = _short(error.get("message"), MESSAGE_CHARS_MAX)
    return (code or None, message) if code or message else None


def _short(value: object, chars_max: int) -> str:
    if type(value) is int:
        value = str(value)
    return value[:chars_max].encode(errors="replace").decode() if isinstance(value, str) else ""


def _embedding(body: dict[str, Any], dimensions: int | None) -> tuple[Vector | None, str | None]:
    """The vector of a response's body, or the problem."""
    if not body:
        return None, "empty_response"
    data = body.get("data")
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    chosen = [item for item in items if type(item.get("index")) is int and item["index"] == 0]
    if not chosen and len(items) == 1 and items[0].get("index") is None:
        chosen = items
    value = chosen[0].get("embedding") if chosen else None
    vector, problem = _values(value)
    if vector is not None:
        problem = _problem(vector, dimensions)
    return (None, problem) if problem else (vector, None)


def _values(value: object) -> tuple[Vector | None, str | None]:
    if isinstance(value, str):
        vector = _from_base64(value)
        return vector, "bad_base64" if vector is None else None
    if not isinstance(value, list):
        return None, "no_embedding"
    if any(isinstance(item, list | dict) for item in value):
        return None, "nested_embedding"
    if any(type(item) not in (int, float) for item in value):
        return None, "not_numbers"
    return _as_float32(np.array(value, dtype=np.float64)), None

"""Provider output, however odd and however cut, means what a slow and plain reader says; scratch rows come back."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedpipe.vectors import LINE_TOO_LONG, PROBLEMS, OutputLine, Scratch, parse_output, split_lines

DIMENSIONS = 3

# --- the plain reader ----------------------------------------------------------------------------------------------

Plain = dict[str, Any]


def plainly(data: bytes, dimensions: int | None) -> list[Plain]:
    """All lines of a file, read with json and numpy alone."""
    lines = data.split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        text = line[:-1] if line.endswith(b"\r") else line
        if number == 1 and text.startswith(b"\xef\xbb\xbf"):
            text = text[3:]
        if text.strip(b" \t\r"):
            found.append({"number": number, **plain_line(text, dimensions)})
    return found


def plain_line(text: bytes, dimensions: int | None) -> Plain:
    out: Plain = dict.fromkeys(("custom_id", "vector", "status_code", "error_code", "problem"))
    out["error_message"] = ""
    try:
        line = json.loads(text.decode("utf-8", "strict"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        line = None
    if not isinstance(line, dict):
        return {**out, "problem": "unparsable"}
    response = line["response"] if isinstance(line.get("response"), dict) else {}
    body = response["body"] if isinstance(response.get("body"), dict) else {}
    status = response.get("status_code")
    if isinstance(status, int) and not isinstance(status, bool) and 0 <= status < 1000:
        out["status_code"] = status
    for error in (body.get("error"), line.get("error")):  # the line's own error is the stronger
        code, message = plain_error(error)
        if code or message:
            out["error_code"], out["error_message"] = code, message
    success = out["status_code"] is None or 200 <= out["status_code"] < 300
    if out["error_code"] is None and out["error_message"]:
        out["problem"] = "provider_error"
    elif out["error_code"] is None and success:
        out["problem"], out["vector"] = plain_body(body, dimensions)
    custom_id = line.get("custom_id")
    if not isinstance(custom_id, str) or any("\ud800" <= char <= "\udfff" for char in custom_id):
        return {**out, "vector": None, "problem": "no_custom_id"}
    return {**out, "custom_id": custom_id}


def plain_error(error: Any) -> tuple[str | None, str]:
    if isinstance(error, str):
        return None, plain_text(error)[:300]
    if not isinstance(error, dict):
        return None, ""
    code = plain_text(error.get("code")) or plain_text(error.get("type"))
    return code[:100] or None, plain_text(error.get("message"))[:300]


def plain_text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return "".join("?" if "\ud800" <= char <= "\udfff" else char for char in value) if isinstance(value, str) else ""


def plain_body(body: Plain, dimensions: int | None) -> tuple[str | None, list[float] | None]:
    if not body:
        return "empty_response", None
    data = body.get("data")
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    first = [item for item in items if item.get("index") == 0 and type(item.get("index")) is int]
    if len(items) == 1 and items[0].get("index") is None:
        first = items
    embedding = first[0].get("embedding") if first else None
    problem, vector = plain_values(embedding)
    if problem is None and dimensions is not None and len(vector) != dimensions:
        problem = "wrong_dimensions"
    elif problem is None and not np.isfinite(vector).all():
        problem = "not_finite"
    elif problem is None and not np.any(vector != 0):
        problem = "zero_vector"
    return (problem, None) if problem else (None, vector.tolist())


def plain_values(embedding: Any) -> tuple[str | None, NDArray[np.float32]]:
    none = np.empty(0, np.float32)
    if not isinstance(embedding, str | list) or len(embedding) == 0:
        return "no_embedding", none
    if isinstance(embedding, str):
        canonical = re.fullmatch(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", embedding)
        packed = base64.b64decode(embedding) if canonical else b"?"
        return ("bad_base64", none) if len(packed) % 4 else (None, np.frombuffer(packed, "<f4"))
    if any(isinstance(number, list | dict) for number in embedding):
        return "nested_embedding", none
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in embedding):
        return "not_numbers", none
    with np.errstate(all="ignore"):
        return None, np.array([float(number) for number in embedding], dtype=np.float64).astype(np.float32)


def as_plain(line: OutputLine) -> Plain:
    vector = None if line.vector is None else line.vector.tolist()
    assert line.vector is None or line.vector.dtype == np.float32
    return {**attrs.asdict(line, recurse=False), "vector": vector}


# --- lines, mostly of a provider's shape ---------------------------------------------------------------------------

Raw = st.SearchStrategy[str]  # JSON text, so that doubled keys and tokens beyond JSON can be made


def obj(*pairs: tuple[str, Raw], extra: Raw | None = None) -> Raw:
    """An object whose keys come in any order, may be missing, may be doubled."""
    more = [] if extra is None else [st.tuples(st.just('"extra"'), extra)]
    members = [st.tuples(st.just(json.dumps(name)), value) for name, value in pairs] + more

    @st.composite
    def build(draw: st.DrawFn) -> str:
        chosen = [draw(member) for member in members if draw(st.integers(0, 19)) != 1]
        if draw(st.integers(0, 9)) == 1:
            chosen.append(draw(st.sampled_from(members).flatmap(lambda member: member)))
        if draw(st.integers(0, 3)) == 1:
            chosen = draw(st.permutations(chosen))
        colon, comma = draw(st.sampled_from([(":", ","), (": ", ", "), (" :\t", " ,")]))
        return "{" + comma.join(key + colon + value for key, value in chosen) + "}"

    return build()


numbers = st.one_of(
    st.floats(-1, 1).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["0", "-0", "0.0", "1E+2", "1e39", "-3.5e38", "1e999", "1e-50", "9" * 60, "5e-324"]),
)
odd_items = st.sampled_from(["NaN", "-Infinity", "true", "null", '"1"', "[1]", "[]", "{}", "01", "+1", "[1,2]"])
good_array = st.lists(st.floats(-1, 1).map(repr), min_size=DIMENSIONS, max_size=DIMENSIONS)
any_array = st.lists(numbers | odd_items, max_size=5) | st.lists(numbers, min_size=DIMENSIONS, max_size=DIMENSIONS)
arrays = (good_array | any_array).flatmap(lambda v: st.sampled_from([",", ", "]).map(lambda c: "[" + c.join(v) + "]"))


@st.composite
def base64s(draw: st.DrawFn) -> str:
    count = draw(st.just(DIMENSIONS) | st.integers(0, 5))
    values = draw(st.lists(st.floats(width=32), min_size=count, max_size=count))
    text = base64.b64encode(np.array(values, "<f4").tobytes()).decode()
    cut = draw(st.just(len(text)) | st.integers(0, len(text)))
    return json.dumps(text[:cut] + draw(st.sampled_from(["", "", "", "", "=", "====", "\n", "é", "-", "AA==", "Q"])))


ids = st.one_of(
    st.text(max_size=12).map(json.dumps),
    st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(
        [
            "null",
            "7",
            "[]",
            "true",
            '""',
            r'"\ud800"',
            r'"\u0061"',
            r'"\/"',
            r'"\x"',
            '"[\\"embedding\\":[1]"',
            '"\x01"',
        ]
    ),
)
oddities = st.sampled_from(
    ["null", "0", "1e400", "NaN", '"x"', "[]", "{}", "[[[]]]", "true", '{"embedding":[1,2,3]}', '"<embedding>"'],
)
errors = st.just("null") | obj(
    ("code", ids | oddities), ("type", ids), ("message", st.text(max_size=400).map(json.dumps) | oddities)
)
embeddings = arrays | base64s() | oddities
items = obj(
    ("object", st.just('"embedding"')),
    ("index", st.just("0") | st.sampled_from(["0", "1", "null", "false", "0.0", "-0"])),
    ("embedding", embeddings),
)
good_items = st.builds('{{"object":"embedding","index":0,"embedding":{}}}'.format, arrays | base64s())
data = st.lists(good_items, min_size=1, max_size=1) | st.lists(good_items | items | oddities, max_size=3)
bodies = (
    obj(
        ("data", data.map(lambda values: "[" + ",".join(values) + "]") | oddities),
        ("error", st.just("null") | errors),
        extra=oddities,
    )
    | oddities
)
statuses = st.sampled_from(
    ["200"] * 6 + ["0", "201", "400", "429", "500", "null", '"200"', "200.0", "1e3", "-1", "true"]
)
good_bodies = good_items.map(lambda item: '{"object":"list","data":[' + item + '],"model":"m"}')
responses = obj(("status_code", statuses), ("body", good_bodies | bodies)) | oddities
lines = obj(
    ("id", ids), ("custom_id", ids), ("response", responses), ("error", st.just("null") | errors), extra=oddities
)
good_lines = st.builds(
    '{{"custom_id":{},"response":{{"status_code":200,"body":{}}},"error":null}}'.format, ids, good_bodies
)
snippets = st.sampled_from(
    [b"[", b"]", b'"', b"{", b"}", b",", b"\\", b'"embedding":', b'"<embedding>"', b"\xff", b"\xef\xbb\xbf", b" ", b"0"]
)


@st.composite
def line_bytes(draw: st.DrawFn) -> bytes:
    """A line, at times with a byte or two changed, or torn."""
    line: bytes = draw(st.one_of(good_lines, good_lines, lines, lines, lines, oddities)).encode(
        "utf-8", "surrogatepass"
    )
    for _ in range(draw(st.sampled_from([0] * 9 + [1, 1, 2]))):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(snippets) + line[at + draw(st.integers(0, 2)) :]
    return line[: draw(st.integers(0, len(line)))] if draw(st.integers(0, 19)) == 1 else line


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


files = st.tuples(
    st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(line_bytes() | st.just(b" "), st.sampled_from([b"\n", b"\r\n", b"\n\n"])), max_size=4),
    line_bytes() | st.just(b""),
).map(lambda parts: parts[0] + b"".join(line + end for line, end in parts[1]) + parts[2])


# --- laws ----------------------------------------------------------------------------------------------------------


@settings(max_examples=600)
@given(st.data(), files, st.sampled_from([DIMENSIONS, None, 4]))
def test_every_line_means_what_a_plain_reader_says(data: st.DataObject, file: bytes, dimensions: int | None) -> None:
    found = [as_plain(line) for line in parse_output(data.draw(pieces_of(file)), dimensions)]
    assert found == plainly(file, dimensions)
    assert {line["problem"] for line in found} <= {None, *PROBLEMS}


@settings(max_examples=200)
@given(good_lines, st.sampled_from([DIMENSIONS, None]))
@example('{"custom_id":"a","response":{"body":{"data":[{"embedding":[[1,2],[]]}]}}}', 2)
@example('{"custom_id":"a","response":{"body":{"data":[{"embedding":[1],"embedding":[2]}]}}}', 1)
@example('{"custom_id":"a","x":{"embedding":[1]},"response":{"body":{"data":[{"embedding":"\\u003cembedding>"}]}}}', 1)
@example('{"custom_id":"\\"embedding\\":[1]","response":{"body":{"data":[{"embedding":[2]}]}}}', 1)
def test_one_line(line: str, dimensions: int | None) -> None:
    data = line.encode("utf-8", "surrogatepass")
    assert [as_plain(found) for found in parse_output([data], dimensions)] == plainly(data, dimensions)


@given(st.data(), st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"a", b"bb" * 4, b""])), st.integers(0, 9))
def test_pieces_never_show_and_long_lines_are_marked(data: st.DataObject, tokens: list[bytes], max_bytes: int) -> None:
    file = b"".join(tokens)
    whole = file.split(b"\n")
    if not whole[-1]:
        whole.pop()
    expected = [LINE_TOO_LONG if len(line) > max_bytes else line.removesuffix(b"\r") for line in whole]
    assert list(split_lines(data.draw(pieces_of(file)), max_bytes)) == expected


@given(st.data(), st.integers(1, 5), st.integers(0, 20), st.integers(1, 7))
def test_scratch_gives_rows_back_in_any_order(data: st.DataObject, width: int, count: int, block: int) -> None:
    matrix = np.arange(width * count, dtype=np.float32).reshape(count, width)
    ordinals = st.lists(st.integers(0, count - 1), max_size=30) if count else st.just([])
    order = np.array(data.draw(ordinals | st.permutations(range(count))), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder, "rows"), None) as scratch:
        assert [scratch.append(row) for row in matrix] == list(range(count))
        blocks = list(scratch.batches(order, rows_per_batch=block))
        assert all(len(rows) <= block for rows in blocks)
        assert np.array_equal(np.concatenate([np.empty((0, width)), *blocks]), matrix[order].reshape(-1, width))

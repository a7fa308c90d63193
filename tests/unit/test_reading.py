"""Reading records: what is accepted, what each refusal says, and that memory stays flat."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.errors import InvalidInput
from embedpipe.model import Record
from embedpipe.reading import read_records, text_id


def read(data: bytes | str, **options: object) -> list[Record]:
    raw = data.encode() if isinstance(data, str) else data
    return list(read_records(["-"], stdin=io.BytesIO(raw), **options))  # type: ignore[arg-type]


def refusal(data: bytes | str, **options: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(data, **options)
    return str(caught.value)


def test_json_lines_become_records_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n\n{"id": "b", "text": "two", "metadata": {"n": 1, "ok": true}}\n')
    first, second = read_records([path])
    assert (first.id, first.text, first.metadata, first.source) == ("a", "one", {}, f"{path}:1")
    assert (second.id, second.metadata, second.source) == ("b", {"n": 1, "ok": True}, f"{path}:3")


def test_unknown_fields_are_ignored_and_a_null_metadata_is_none() -> None:
    (record,) = read('{"id": "a", "text": "x", "title": {"any": [1]}, "metadata": null}')
    assert record == Record(id="a", text="x")


def test_a_whole_number_id_becomes_its_digits() -> None:
    assert [record.id for record in read('{"id": 42, "text": "x"}\n{"id": -7, "text": "y"}')] == ["42", "-7"]


def test_text_lines_are_named_by_their_content() -> None:
    records = read("one\n  two \r\n\n \t\none\n")
    assert [record.text for record in records] == ["one", "two", "one"]
    assert [record.id for record in records] == [text_id("one"), text_id("two"), text_id("one")]
    assert [record.source for record in records] == ["<stdin>:1", "<stdin>:2", "<stdin>:5"]


def test_moving_and_doubling_lines_changes_no_id() -> None:
    before = {record.id for record in read("a\nb\nc\n")}
    after = {record.id for record in read("new\nc\na\na\nb")}
    assert after - before == {text_id("new")}


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("x.jsonl", '{"id": "a", "text": "x"}', 1),
        ("x.ndjson", '{"id": "a", "text": "x"}', 1),
        ("x.txt", '{"id": "a", "text": "x"}', 1),
        ("x.data", '  {"id": "a", "text": "x"}', 1),
        ("x.data", "plain\ntext", 2),
        ("x.data", "", 0),
        ("x.jsonl", "\n\n", 0),
    ],
)
def test_the_format_is_guessed(tmp_path: Path, name: str, content: str, count: int) -> None:
    path = tmp_path / name
    path.write_text(content)
    records = list(read_records([str(path)]))
    assert len(records) == count
    if name == "x.txt":
        assert records[0].text == content


def test_format_overrides_the_guess() -> None:
    assert read('{"id": "a", "text": "x"}', format="text")[0].text == '{"id": "a", "text": "x"}'


def test_a_byte_order_mark_and_crlf_are_no_content() -> None:
    assert read(b'\xef\xbb\xbf{"id": "a", "text": "x"}\r\n{"id": "b", "text": "y"}\r\n')[0].id == "a"
    assert read(b"\xef\xbb\xbfhello\r\n")[0].text == "hello"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "cp1252", "utf-32", "shift_jis"])
def test_other_encodings(encoding: str) -> None:
    word = "日本" if encoding == "shift_jis" else "café"
    records = read(f"{word}\n\nzwei\n".encode(encoding), encoding=encoding)
    assert [(record.text, record.source) for record in records] == [(word, "<stdin>:1"), ("zwei", "<stdin>:3")]


def test_several_inputs_in_order(tmp_path: Path) -> None:
    one, two = tmp_path / "1.txt", tmp_path / "2.txt"
    one.write_text("a")
    two.write_text("b\nc")
    records = list(read_records([two, "-", one], stdin=io.BytesIO(b"s")))
    assert [record.text for record in records] == ["b", "c", "s", "a"]


def test_a_named_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a\nb\n",))
    writer.start()
    assert [record.text for record in read_records([pipe])] == ["a", "b"]
    writer.join()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nonsense", "<stdin>:2: is not JSON"),
        ('{"id": "a", "text": "x"', "<stdin>:2: is not JSON"),
        (r'{"id": "a", "text": "\ud800"}', "<stdin>:2: has one half of a surrogate pair, such as \\ud800, which is no"),
        (r'{"id": "a", "text": "x", "metadata": {"m\udfff": 1}}', "<stdin>:2: has one half of a surrogate pair"),
        (r'{"id": "a", "text": "\ud83d\ude00"', "<stdin>:2: is not JSON"),
        ("[1]", "<stdin>:2: is a JSON array. Turn it into lines: jq -c '.[]'"),
        ('"a"', "<stdin>:2: is a string, not an object"),
        ("{}", "<stdin>:2: has no 'id'. The object is empty."),
        ('{"text": "x", "n": 1}', "<stdin>:2: has no 'id'. It has only 'text', 'n'."),
        ('{"_id": "a", "text": "x"}', "<stdin>:2: has no 'id'. Rename '_id': jq -c '.id = ._id'"),
        ('{"id": "a", "body": "x"}', "<stdin>:2: has no 'text'. Rename 'body': jq -c '.text = .body'"),
        ('{"id": "a", "texts": "x"}', "<stdin>:2: has no 'text'. Rename 'texts'"),
        ('{"id": "", "text": "x"}', "<stdin>:2: 'id' is empty"),
        ('{"id": "a", "text": ""}', "<stdin>:2: 'text' is empty"),
        ('{"id": "a", "text": "  "}', "Record 'a' (<stdin>:2) has no text"),
        ('{"id": 1.5, "text": "x"}', "<stdin>:2: 'id' is a number"),
        ('{"id": true, "text": "x"}', "<stdin>:2: 'id' is a boolean"),
        ('{"id": null, "text": "x"}', "<stdin>:2: 'id' is null"),
        ('{"id": "a", "text": ["x"]}', "<stdin>:2: 'text' is an array, not a string"),
        ('{"id": "a", "text": "x", "metadata": []}', "<stdin>:2: 'metadata' is an array, not an object"),
        ('{"id": "a", "text": "x", "metadata": {"k": null}}', "<stdin>:2: metadata 'k' is null"),
        ('{"id": "a", "text": "x", "metadata": {"k": {}}}', "<stdin>:2: metadata 'k' is an object"),
        ('{"id": "' + "i" * 513 + '", "text": "x"}', "has 513 bytes; at most 512"),
        ('{"id": "a", "text": "\\ud800"}', "<stdin>:2"),
        ("[" * 100_000, "<stdin>:2"),
    ],
)
def test_each_bad_line_is_named_with_its_fix(line: str, expected: str) -> None:
    message = refusal('{"id": "good", "text": "x"}\n' + line + "\n")
    assert expected in message
    assert "\n" not in message


def test_bad_utf8_is_named_by_line_and_byte() -> None:
    assert refusal(b"good\ncaf\xe9\n") == (
        "<stdin>:2: byte 4 of the line is not UTF-8. Name the file's encoding, such as --encoding latin-1."
    )
    assert "<stdin>:1: byte 22 of the line is not UTF-8" in refusal(b'{"id": "a", "text": "\xe9"}')


def test_utf16_is_recognised() -> None:
    assert "--encoding utf-16" in refusal("hello".encode("utf-16"))


def test_a_wrong_encoding_is_named_by_byte() -> None:
    assert "<stdin>: byte 5 is not ascii" in refusal(b"good\xe9", encoding="ascii")


@pytest.mark.parametrize("encoding", ["klingon", "rot13", "hex"])
def test_an_unknown_encoding(encoding: str) -> None:
    assert f"Encoding '{encoding}' is unknown" in refusal(b"", encoding=encoding)


def test_paths_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("x")
    with pytest.raises(InvalidInput, match=r"missing\.txt: there is no such file\."):
        read_records([good, tmp_path / "missing.txt"])
    with pytest.raises(InvalidInput, match=r"is a directory\. Name the files in it"):
        read_records([tmp_path])
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_records(["a\0b"])
    with pytest.raises(InvalidInput, match="named twice"):
        read_records(["-", "-"])
    with pytest.raises(InvalidInput, match="Format 'csv' is unknown"):
        read_records([good], format="csv")  # type: ignore[arg-type]


def test_a_file_that_goes_between_the_check_and_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("x")
    records = read_records([path])
    path.unlink()
    with pytest.raises(InvalidInput, match=r"x\.txt: cannot be read: No such file"):
        list(records)
    path.write_text("x")
    with pytest.raises(InvalidInput, match=r"cannot be read: .*Not a directory"):
        read_records([path / "below"])


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedpipe.reading.LINE_BYTES_MAX", 1_000_000)
    assert "<stdin>:2: the line is longer than 1000000 bytes" in refusal("ok\n" + "x" * 3_000_000)


def test_memory_is_flat(tmp_path: Path) -> None:
    def peak_bytes(lines: int) -> int:
        path = tmp_path / f"{lines}.jsonl"
        path.write_bytes(b"".join(b'{"id": "r%d", "text": "%s"}\n' % (index, b"x" * 200) for index in range(lines)))
        tracemalloc.start()
        count = sum(1 for _ in read_records([path]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == lines
        return peak

    few, many = peak_bytes(3_000), peak_bytes(30_000)
    assert many < few * 1.5


class Dripping(io.RawIOBase):
    """A stream that gives `size` bytes at a time, so that lines and characters are cut anywhere."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def read(self, _: int = -1) -> bytes:
        piece, self._data = self._data[: self._size], self._data[self._size :]
        return piece


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text.strip())
_VALUES = st.one_of(st.text(max_size=5), st.integers(-(2**53), 2**53), st.booleans())
_RECORDS = st.builds(
    Record,
    id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    text=_TEXTS,
    metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5), _VALUES),
)


@given(records=st.lists(_RECORDS, max_size=10), size=st.integers(1, 50), ascii_only=st.booleans())
def test_what_is_written_is_read_however_it_is_cut(records: list[Record], size: int, ascii_only: bool) -> None:
    lines = [
        json.dumps({"id": record.id, "text": record.text, "metadata": dict(record.metadata)}, ensure_ascii=ascii_only)
        for record in records
    ]
    data = "\n".join(lines).encode(errors="surrogatepass")
    assert list(read_records(["-"], stdin=Dripping(data, size))) == records  # type: ignore[arg-type]


@given(data=st.binary(max_size=200), size=st.integers(1, 20), encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]))
def test_any_bytes_are_records_or_one_refusal(data: bytes, size: int, encoding: str) -> None:
    records = read_records(["-"], stdin=Dripping(data, size), encoding=encoding)  # type: ignore[arg-type]
    refused: list[str] = []
    with contextlib.suppress(StopIteration):
        while not refused:
            try:
                assert next(records).text.strip()
            except InvalidInput as error:
                refused.append(str(error))
    assert all("<stdin>" in message for message in refused)


@pytest.mark.parametrize("data", ['[{"id": "a", "text": "x"}]', '[\n{"id": "a", "text": "x"}\n]', " [ \n1]"])
def test_an_array_is_not_taken_for_text(data: str) -> None:
    """Brackets and all would be embedded, and paid."""
    with pytest.raises(InvalidInput, match="<stdin>:1: is (a JSON array|not JSON)"):
        list(read_records(["-"], stdin=io.BytesIO(data.encode())))
    assert [record.text for record in read_records(["-"], format="text", stdin=io.BytesIO(b"[{x}]"))] == ["[{x}]"]

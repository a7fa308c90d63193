"""Single cases of provider output, named; what holds for all of them is in tests/property/test_vectors.py."""

from __future__ import annotations

import base64
import json
import struct
import threading
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from embedpipe.vectors import OutputLine, parse_output


def line_of(embedding: object, **changes: object) -> bytes:
    line = {
        "id": "batch_req_1",
        "custom_id": "rec-1",
        "response": {
            "status_code": 200,
            "request_id": "r",
            "body": {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": embedding}]},
        },
        "error": None,
    }
    return json.dumps({**line, **changes}).encode()


def one(line: bytes, dimensions: int | None = None) -> OutputLine:
    (found,) = parse_output([line], dimensions)
    return found


def packed(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def failed(body: object, status: object = 500) -> bytes:
    return line_of(None, response={"status_code": status, "body": body})


def test_an_empty_file_has_no_lines() -> None:
    assert list(parse_output([], 3)) == []
    assert list(parse_output([b"", b"\n \t\r\n"], 3)) == []


@pytest.mark.parametrize("embedding", [[1, -0.5, 1e-3], packed(1, -0.5, 1e-3)])
def test_floats_and_base64_give_the_same_vector(embedding: object) -> None:
    found = one(line_of(embedding), 3)
    assert found.vector is not None
    assert found.vector.dtype == np.float32
    assert found.vector.tolist() == np.array([1, -0.5, 1e-3], np.float32).tolist()
    assert (found.number, found.custom_id, found.status_code, found.problem) == (1, "rec-1", 200, None)
    assert found.has_vector


@pytest.mark.parametrize(
    ("embedding", "problem"),
    [
        (None, "no_embedding"),
        ([], "no_embedding"),
        ("", "no_embedding"),
        (7, "no_embedding"),
        ([[1.0, 2.0], []], "nested_embedding"),  # as long as the flattened numbers
        ([[1.0], [2.0]], "nested_embedding"),
        ([{}], "nested_embedding"),
        ([1.0, True], "not_numbers"),
        ([1.0, "2"], "not_numbers"),
        ([1.0, None], "not_numbers"),
        ([1.0], "wrong_dimensions"),
        (packed(1, 2, 3), "wrong_dimensions"),
        ([1.0, float("nan")], "not_finite"),
        ([1.0, float("-inf")], "not_finite"),
        ([1.0, 3.5e38], "not_finite"),  # finite as a double only
        ([1, 10**400], "not_finite"),
        (packed(1, float("inf")), "not_finite"),
        ([0, -0.0], "zero_vector"),
        ([1e-60, 0], "zero_vector"),
        (packed(0, 0), "zero_vector"),
        ("AAAA", "bad_base64"),  # three bytes
        ("AACAPw==AACAPw==", "bad_base64"),
        ("AACA Pw==", "bad_base64"),
        ("AACAPw=", "bad_base64"),
        ("-_-_", "bad_base64"),
        ("é", "bad_base64"),
    ],
)
def test_an_unusable_embedding_says_why(embedding: object, problem: str) -> None:
    found = one(line_of(embedding), 2)
    assert (found.vector, found.problem, found.custom_id) == (None, problem, "rec-1")


def test_a_number_of_thousands_of_digits_costs_its_vector_alone() -> None:
    line = line_of([1.0, "x"]).replace(b'"x"', b"9" * 5_000)
    assert one(line, 2).problem == "not_finite"
    assert one(line_of([1.0], usage="x").replace(b'"x"', b"9" * 5_000), 1).has_vector


def test_large_and_small_vectors_whose_squares_leave_float32_are_usable() -> None:
    for values in ([3e38, -3e38], [1e-30, 0.0]):
        assert one(line_of(values), 2).has_vector
        assert one(line_of(packed(*values)), 2).has_vector


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"response": None}, "empty_response"),
        ({"response": None, "error": {}}, "empty_response"),
        ({"response": "x"}, "empty_response"),
        ({"response": {"status_code": 200, "body": None}}, "empty_response"),
        ({"response": {"status_code": 200, "body": {"data": None}}}, "no_embedding"),
        ({"response": {"status_code": 200, "body": {"data": [{"index": 1, "embedding": [1]}]}}}, "no_embedding"),
        ({"error": {"message": "no code"}}, "provider_error"),
        ({"custom_id": None}, "no_custom_id"),
        ({"custom_id": 7}, "no_custom_id"),
        ({"custom_id": "\ud800"}, "no_custom_id"),
    ],
)
def test_an_odd_line_says_why(changes: dict[str, object], problem: str) -> None:
    found = one(line_of([1.0], **changes), 1)
    assert (found.vector, found.problem) == (None, problem)


def test_an_error_line() -> None:
    found = one(line_of(None, response=None, error={"code": "batch_expired", "message": "late " * 100}))
    assert (found.error_code, found.problem, found.status_code) == ("batch_expired", None, None)
    assert found.error_message == ("late " * 100)[:300]


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"code": "rate_limit", "type": "requests", "message": "slow"}}, "rate_limit", "slow"),
        ({"error": {"code": None, "type": "server_error", "message": "\ud800!"}}, "server_error", "?!"),
        ({"error": {"code": 429}}, "429", ""),
        ({}, None, ""),
        (None, None, ""),
    ],
)
@pytest.mark.parametrize("status", [0, 429, 500])
def test_a_failed_request_has_its_status_and_the_bodys_error(
    status: int, body: object, code: str | None, message: str
) -> None:
    found = one(failed(body, status))
    assert (found.status_code, found.error_code, found.error_message) == (status, code, message)
    assert (found.vector, found.problem) == (None, None)


def test_a_vector_beside_a_failing_status_is_not_taken() -> None:
    body = {"data": [{"index": 0, "embedding": [1.0]}]}
    assert not one(failed(body), 1).has_vector
    assert [one(failed(body, status), 1).has_vector for status in (199, 200, 299, 300)] == [False, True, True, False]
    assert one(failed(body, None), 1).has_vector  # servers that leave the status out
    assert not one(line_of([1.0], error={"code": "x"}), 1).has_vector
    assert not one(failed({**body, "error": {"code": "x"}}, 200), 1).has_vector


def test_data_goes_by_index() -> None:
    body = {"data": [{"index": 1, "embedding": [9.0]}, {"index": 0, "embedding": [1.0]}]}
    found = one(failed(body, 200), 1)
    assert found.vector is not None
    assert found.vector.tolist() == [1.0]
    unnamed = {"data": [{"embedding": [1.0]}, {"embedding": packed(2.0)}]}
    assert one(failed(unnamed, 200), 1).problem == "no_embedding"


def test_an_embedding_elsewhere_is_not_the_lines_own() -> None:
    # The second embedding is the very text that stands for a cut-out one.
    line = line_of("<embedding>").replace(b'{"id"', b'{"other": {"embedding": [1.0]}, "id"')
    assert one(line, 1).problem == "bad_base64"


def test_the_last_of_doubled_keys_counts() -> None:
    line = line_of([1.0]).replace(b'"index": 0', b'"embedding": [3.0], "index": 0')
    found = one(line.replace(b'"custom_id"', b'"custom_id": "first", "custom_id"'))
    assert found.vector is not None
    assert (found.custom_id, found.vector.tolist()) == ("rec-1", [1.0])


@pytest.mark.parametrize(
    "line",
    [
        line_of([1.0])[:-20],
        line_of([1.0]) + b"x",
        line_of([1.0]).replace(b"rec-1", b"rec-\xff"),
        line_of([1.0]).replace(b"batch_req_1", b"\xed\xa0\x80"),
        b"[]",
        b"null",
        b"\xef\xbb\xbf\xef\xbb\xbf" + line_of([1.0]),
        b'{"a":' * 200_000,
        b"[" * 200_000,
        line_of([1.0], more=0).replace(b'"more": 0', b'"more": ' + b"[" * 200_000 + b"]" * 200_000),
    ],
)
def test_what_is_no_json_object_is_unparsable(line: bytes) -> None:
    found = one(line, 1)
    assert (found.custom_id, found.vector, found.problem) == (None, None, "unparsable")


def test_lines_are_numbered_with_blank_ones_and_a_byte_order_mark_is_skipped() -> None:
    file = b"\xef\xbb\xbf" + line_of([1.0]) + b"\r\n\r\n  \n" + line_of([2.0]) + b"\n" + line_of([3.0])[:40]
    found = list(parse_output([file], 1))
    assert [(line.number, line.problem) for line in found] == [(1, None), (4, None), (5, "unparsable")]
    second = list(parse_output([b"\n\xef\xbb\xbf" + line_of([1.0])], 1))
    assert [(line.number, line.problem) for line in second] == [(2, "unparsable")]


def test_a_line_beyond_the_bound_is_marked_and_the_next_is_read() -> None:
    pieces = [b"x" * (1 << 20)] * 65 + [b"\n", line_of([1.0])]
    found = list(parse_output(pieces, 1))
    assert [(line.number, line.problem) for line in found] == [(1, "line_too_long"), (2, None)]


def test_a_long_line_is_read_in_bounded_memory() -> None:
    count = 2_000_000
    array = b"[" + b"0.123456789012345678," * (count - 1) + b"1]"
    line = line_of(["x"]).replace(b'["x"]', array)
    assert len(line) > 40_000_000
    pieces = (line[start : start + 65_536] for start in range(0, len(line), 65_536))
    tracemalloc.start()
    (found,) = parse_output(pieces, None)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.vector is not None
    assert found.vector.size == count
    assert peak_bytes < 4 * len(line)


def test_vectors_stay_as_they_were_when_the_next_line_is_read() -> None:
    file = b"\n".join(line_of(embedding) for embedding in ([1.0], packed(2.0), [3.0], packed(4.0)))
    found = list(parse_output([file], 1))
    assert [line.vector[0] for line in found if line.vector is not None] == [1, 2, 3, 4]


def test_a_line_that_fails_half_way_leaves_the_parser_usable() -> None:
    odd = [b'[1,"x"]', b"[1,", b"[1e999]", b"[NaN]", b"[18446744073709551616]", b"[-9223372036854775809]"]
    lines = [line_of(["x"]).replace(b'["x"]', array) for array in odd]
    file = b"\n".join(line + b"\n" + line_of([1.0]) for line in lines)
    found = list(parse_output([file], 1))
    assert [line.has_vector for line in found[1::2]] == [True] * len(odd)


def test_two_streams_at_once_in_two_threads() -> None:
    file = b"\n".join(line_of([float(number), 1.0]) for number in range(2_000))
    sums: list[float] = []

    def read() -> None:
        sums.append(sum(float(line.vector[0]) for line in parse_output([file], 2) if line.vector is not None))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(range(2_000))] * 2


def test_lines_come_before_the_stream_ends() -> None:
    def pieces() -> Iterator[bytes]:
        yield line_of([1.0]) + b"\n"
        raise ConnectionError("the stream broke")

    stream = parse_output(pieces(), 1)
    assert next(stream).has_vector
    with pytest.raises(ConnectionError):
        next(stream)

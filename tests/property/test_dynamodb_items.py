"""An item comes back as it was, whether the SDK has parsed the answer or we have taken it from the wire."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from embedpipe.backends.dynamodb_items import decode_item, decode_value, encode_item, take_items
from embedpipe.errors import CorruptData

numbers = st.integers(-(10**30), 10**30) | st.decimals(allow_nan=False, allow_infinity=False, places=6)
scalars = st.text() | st.booleans() | st.none() | numbers | st.binary()
sets = (
    st.frozensets(st.text(), min_size=1)
    | st.frozensets(st.integers(), min_size=1)
    | st.frozensets(st.binary(), min_size=1)
)
values = st.recursive(
    scalars | sets, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
items = st.dictionaries(st.text(min_size=1), values, max_size=5)
SHAPE = botocore.session.Session().get_service_model("dynamodb").operation_model("BatchGetItem").output_shape


def on_the_wire(value: Any) -> Any:
    """As DynamoDB writes it: bytes are base64."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: on_the_wire(each) for name, each in value.items()}
        case list():
            return [on_the_wire(each) for each in value]
    return value


def taken(response: dict[str, Any]) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    take_items(response, ours)
    return ours


def answer(body: object, status: int = 200) -> dict[str, Any]:
    return {"status_code": status, "headers": {}, "body": json.dumps(body).encode()}


@given(st.lists(items, max_size=3))
def test_the_wire_and_the_sdk_give_the_same(found: list[dict[str, Any]]) -> None:
    said = {"Responses": {"t": [on_the_wire(encode_item(item)) for item in found]}, "UnprocessedKeys": {}}
    parsed = create_parser("json").parse(answer(said), SHAPE)
    response = answer(said)
    ours = taken(response)
    assert response["body"] == b"{}"
    assert ours.keys() == parsed.keys() - {"ResponseMetadata"}
    for answers in (ours, parsed):
        assert [decode_item(item) for item in answers["Responses"]["t"]] == found


@pytest.mark.parametrize(
    "said",
    [
        answer({"__type": "Throttling", "message": "slow", "Attributes": {}}, 400),
        answer({"Responses": None}),
        answer({"Items": [{"a": "no type"}]}),
        answer([]),
        {**answer({}), "body": b""},
        {**answer({}), "body": b"\xff"},
        {**answer({}), "body": b'{"Items":' * 100_000},
    ],
)
def test_what_is_not_understood_is_left_to_the_sdk(said: dict[str, Any]) -> None:
    before = dict(said)
    assert taken(said) == {}
    assert said == before


@pytest.mark.parametrize("typed", [{}, {"S": "a", "N": "1"}, {"Q": "new"}, {"B": "no base64!"}, {"N": "many"}])
def test_a_value_of_no_known_type_is_corrupt(typed: dict[str, Any]) -> None:
    with pytest.raises(CorruptData):
        decode_value(typed)


def test_digits_are_kept() -> None:
    assert decode_value({"N": "1.50"}) == Decimal("1.50")

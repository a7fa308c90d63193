"""Reading then writing an envelope is the identity; nothing that comes from outside raises anything but `CorruptData`."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime, timedelta, timezone
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedpipe import wire
from embedpipe.errors import CorruptData
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Action, Status
from embedpipe.model import BatchRow
from embedpipe.wire import Envelope, changes_to_item, decode, format_time, item_to_row, parse_time, row_to_item
from verify.strategies import safe_ids

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
WHOLE = st.integers(-(2**70), 2**70)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


ENVELOPES = [
    value
    for _, value in inspect.getmembers(wire, inspect.isclass)
    if issubclass(value, Envelope) and value is not Envelope
]
CLASSES = st.sampled_from(ENVELOPES)


def fields_of(cls: type[Envelope]) -> dict[str, tuple[Any, bool]]:
    """Name -> (type, whether it must be there)."""
    hints = get_type_hints(cls)
    fields = [field for field in attrs.fields(cls) if field.name != "raw"]
    return {field.name: (hints[field.name], field.default is attrs.NOTHING) for field in fields}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """JSON values that a field of this type accepts, null aside."""
    if isinstance(kind, UnionType):
        (kind,) = (arm for arm in get_args(kind) if arm is not type(None))
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=2)
    if kind is type(None):
        return st.none()
    if kind is Action:
        return st.sampled_from([str(action) for action in Action])
    if issubclass(kind, Envelope):
        return objects(kind)
    return {str: TEXT, int: WHOLE, float: FLOATS, bool: st.booleans()}[kind]


def objects(cls: type[Envelope]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects of this envelope: optional fields there, null or missing, with fields that nobody knows, in any order."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, (kind, needed) in fields_of(cls).items():
        if name == "schema":
            optional[name] = st.none() | st.integers(-1, 1)
        elif needed:
            required[name] = values(kind)
        else:
            optional[name] = st.none() | values(kind)
    known = st.fixed_dictionaries(required, optional=optional)
    names = (TEXT | st.just("raw")).filter(lambda name: name not in fields_of(cls))
    unknown = st.dictionaries(names, JSON, max_size=3)
    return st.builds(lambda ours, theirs: list({**theirs, **ours}.items()), known, unknown).flatmap(
        lambda pairs: st.permutations(pairs).map(dict)
    )


def same(one: Any, other: Any) -> bool:
    """Equal as JSON, where 1, 1.0 and true differ."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize("cls", ENVELOPES, ids=lambda cls: cls.__name__)
@settings(max_examples=12)
@given(st.data())
def test_reading_then_writing_is_the_identity(cls: type[Envelope], data: st.DataObject) -> None:
    drawn = data.draw(objects(cls))
    read = cls.load(json.dumps(drawn).encode(), "object")
    assert same(json.loads(read.dump()), drawn)
    assert list(json.loads(read.dump())) == list(drawn)
    assert cls.load(read.dump(), "again") == read
    assert cls.load(drawn, "state") == read


@given(CLASSES, st.data())
def test_what_is_written_is_read_as_the_same_value(cls: type[Envelope], data: st.DataObject) -> None:
    """Also where it was never read: all that counts is in the JSON."""
    read = cls.load(data.draw(objects(cls)), "object")
    fresh = attrs.evolve(read, raw=None)
    assert cls.load(fresh.dump(), "again") == fresh == read


@given(CLASSES, st.data())
def test_a_change_changes_its_field_and_no_other(cls: type[Envelope], data: st.DataObject) -> None:
    before = data.draw(objects(cls))
    donor = data.draw(objects(cls))
    read, other = cls.load(before, "object"), cls.load(donor, "donor")
    name = data.draw(st.sampled_from(sorted(fields_of(cls))))
    changed = attrs.evolve(read, **{name: getattr(other, name)})
    after = json.loads(changed.dump())
    assert same({**after, name: 0}, {**before, name: 0})
    assert cls.load(changed.dump(), "again") == changed


@given(CLASSES, st.data())
def test_a_field_of_the_wrong_type_is_named(cls: type[Envelope], data: st.DataObject) -> None:
    drawn = data.draw(objects(cls))
    fields = fields_of(cls)
    name = data.draw(st.sampled_from(sorted(fields)))
    wrong = data.draw(_misfits(fields[name][0]))
    with pytest.raises(CorruptData) as caught:
        cls.load(json.dumps({**drawn, name: wrong}).encode(), "some/object.json")
    assert str(caught.value).startswith("some/object.json")
    assert f".{name}" in str(caught.value)


def _misfits(kind: Any) -> st.SearchStrategy[Any]:
    """JSON values that a field of this type must refuse."""
    if isinstance(kind, UnionType):
        (kind,) = (arm for arm in get_args(kind) if arm is not type(None))
    every = [TEXT, st.integers(-5, 1), st.booleans(), st.floats(0, 1), st.lists(st.none()), st.just({"batch_id": []})]
    fitting: dict[Any, tuple[int, ...]] = {str: (0,), int: (1,), bool: (2,), float: (1, 3)}
    fits = (4,) if get_origin(kind) is tuple else fitting.get(kind, ())
    return st.one_of([strategy for at, strategy in enumerate(every) if at not in fits])


@given(CLASSES, st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()) | st.data())
def test_anything_else_is_corrupt_data(cls: type[Envelope], given_: Any) -> None:
    if not isinstance(given_, bytes):
        fields = fields_of(cls)
        names = st.sampled_from([*fields, "theirs"])
        given_ = json.dumps(given_.draw(st.dictionaries(names, JSON, max_size=len(fields)))).encode()
    try:
        read = cls.load(given_, "odd")
    except CorruptData as error:
        assert str(error).startswith("odd")  # noqa: PT017  both ways are allowed
    else:
        assert same(json.loads(read.dump()), json.loads(given_))


@given(st.binary(max_size=60))
def test_decode_gives_json_or_corrupt_data(data: bytes) -> None:
    try:
        assert same(decode(data, "x"), json.loads(data))
    except CorruptData:
        return


# --- table items ---------------------------------------------------------------------------------------------------

TIMES = st.datetimes(timezones=st.just(UTC))
ROWS = st.builds(
    BatchRow,
    batch_id=safe_ids(),
    batch_type=TEXT,
    status=st.sampled_from(Status),
    provider_batch_id=st.none() | TEXT,
    submitted_at=st.none() | TIMES,
    result_file_id=st.none() | TEXT,
    provider_status=st.none() | TEXT,
    request_count=st.none() | st.integers(0, 2**63 - 1),
    request_sha256=st.none() | TEXT,
    records_sha256=st.none() | TEXT,
    seq=st.none() | st.integers(0, 2**63 - 1),
    attempt=st.integers(1, 2**31 - 1),
    parent_batch_id=st.none() | safe_ids(),
    collection=st.none() | TEXT,
    database=st.none() | TEXT,
    model=st.none() | TEXT,
    dimensions=st.none() | st.integers(1, 10_000),
    input_file_id=st.none() | TEXT,
    creating_at=st.none() | TIMES,
    not_before=st.none() | TIMES,
    retry_batch_ids=st.lists(safe_ids(), max_size=3).map(tuple),
    completed_by=st.none() | TEXT,
    snapshot_version=st.none() | TEXT,
    reason=st.none() | TEXT,
    revision=st.integers(0, 2**31),
)
FOREIGN = st.dictionaries(TEXT.map("their_{}".format), JSON, max_size=3)
LAYOUTS = st.sampled_from(
    [
        SEED,
        Layout(
            pk="pk",
            sk="sk",
            index_pk="g1",
            index_sk="g2",
            type_attribute="kind",
            pk_value="b/{batch_id}/x",
            index_sk_value="{batch_id}@{batch_type}",
            attributes={"provider_batch_id": "job", "revision": "version", "batch_id": "name"},
            statuses={status.value: f"s{number}" for number, status in enumerate(Status)},
        ),
    ]
)


@given(ROWS, FOREIGN, LAYOUTS)
def test_a_row_is_its_item(row: BatchRow, foreign: dict[str, Any], layout: Layout) -> None:
    row = attrs.evolve(row, extra=foreign)
    item = row_to_item(row, layout)
    assert item_to_row(item, layout) == row
    assert row_to_item(item_to_row(item, layout), layout) == item
    assert foreign.items() <= item.items()


@given(ROWS, ROWS, FOREIGN, LAYOUTS, st.data())
def test_an_update_of_the_item_is_that_of_the_row(
    row: BatchRow, donor: BatchRow, foreign: dict[str, Any], layout: Layout, data: st.DataObject
) -> None:
    row = attrs.evolve(row, extra=foreign)
    allowed = sorted(attrs.fields_dict(BatchRow).keys() - {"batch_id", "batch_type", "revision", "extra", "attempt"})
    names = data.draw(st.lists(st.sampled_from(allowed), unique=True))
    changes = {name: getattr(donor, name) for name in names}
    sets, removes = changes_to_item(changes, row, layout)
    item = {name: value for name, value in row_to_item(row, layout).items() if name not in removes}
    assert item_to_row({**item, **sets}, layout) == attrs.evolve(row, **changes)
    assert row_to_item(attrs.evolve(row, **changes), layout) == {**item, **sets}


ODD = JSON | st.floats() | st.decimals() | st.binary(max_size=3) | st.complex_numbers() | st.frozensets(TEXT)


@settings(max_examples=200)
@given(st.data())
def test_an_odd_item_is_a_row_or_corrupt(data: st.DataObject) -> None:
    names = [field.name for field in attrs.fields(BatchRow)] + ["PK", "SK", "openai_batch_id", "theirs"]
    good = {"PK": "BATCH#b", "status": "PENDING", "batch_type": "X"}
    item = {**good, **data.draw(st.dictionaries(st.sampled_from(names), ODD, max_size=4))}
    try:
        row = item_to_row(item, SEED)
    except CorruptData:
        return
    assert item_to_row(row_to_item(row, SEED), SEED) == row


@given(st.datetimes(), st.integers(-1_439, 1_439))
def test_times_survive_in_any_zone(naive: datetime, offset_min: int) -> None:
    moment = naive.replace(tzinfo=UTC)
    assert parse_time(format_time(moment)) == moment
    try:
        there = moment.astimezone(timezone(timedelta(minutes=offset_min)))
    except OverflowError:
        return
    assert format_time(there) == format_time(moment)
    assert parse_time(there.isoformat()) == moment

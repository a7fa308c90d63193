"""No id from outside leaves its prefix, whatever it is made of, and two ids never share a key."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedpipe.errors import ConfigError, InvalidId
from embedpipe.key_patterns import may_meet
from embedpipe.layout import SEED, Layout, record_id, safe_id, safe_name
from embedpipe.lifecycle import Status
from embedpipe.limits import ID_CHARS_MAX, KEY_BYTES_MAX, RECORD_ID_BYTES_MAX
from verify.strategies import safe_ids

METHODS: dict[str, Callable[..., str]] = {
    name: method for name, method in inspect.getmembers(SEED, inspect.ismethod) if name.endswith(("_key", "_prefix"))
}
WITH_IDS = {name: method for name, method in METHODS.items() if inspect.signature(method).parameters}
NAMES = {"database", "collection"}
"""Arguments that are names and not ids: lower case, and shorter."""

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "..\\x",
    "/etc/passwd",
    "a/b",
    "a//b",
    "a/../b",
    "a\\b",
    "x\n",
    "\nx",
    "x\r",
    "x\x00",
    "\x00",
    "x\x1b[31m",
    "x\u2028",
    " x",
    "x ",
    "-x",
    "_x",
    ".x",
    "\u0430bc",  # a Cyrillic letter that looks like ours
    "\uff0e\uff0e/x",
    "\u0661",  # a digit, but not ours
    "\u00e4",
    "\u202ex",
    "\U0001f600",
    "%2e%2e",
    "{batch_id}",
    "{0.__class__}",
    "x" * (ID_CHARS_MAX + 1),
    "\ud800",
    None,
    7,
    True,
    b"x",
    ["x"],
]
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text("./\\ab\x00\n-_{}%A0", max_size=6),
    safe_ids(),
    safe_ids().map(lambda text: text + "\n"),
    st.sampled_from([text for text in HOSTILE if isinstance(text, str)]),
    st.from_regex(r"[a-z][a-z0-9_-]{0,70}", fullmatch=True),
    st.integers(1, 200).map(lambda size: "x" * size),
)


def parameters(name: str) -> list[str]:
    return list(inspect.signature(WITH_IDS[name]).parameters)


def key_of(name: str, values: dict[str, Any]) -> str | None:
    try:
        return WITH_IDS[name](**values)
    except InvalidId:
        return None


def test_every_method_is_tested() -> None:
    assert len(WITH_IDS) == len(METHODS) - 1 >= 14
    assert METHODS["root_key"]() == "embedpipe.json"


@pytest.mark.parametrize("name", WITH_IDS)
@settings(max_examples=60)
@given(st.data())
def test_no_id_escapes_its_prefix(name: str, data: st.DataObject) -> None:
    values = {parameter: data.draw(TEXTS, parameter) for parameter in parameters(name)}
    key = key_of(name, values)
    if key is None:
        return
    template = vars_of(SEED)[name.removesuffix("_key").removesuffix("_prefix")]
    segments = key.removesuffix("/").split("/")
    assert len(segments) == template.removesuffix("/").count("/") + 1, "an id became two segments, or none"
    assert not {"", ".", ".."} & set(segments)
    assert re.fullmatch(r"[A-Za-z0-9._/-]+", key, re.ASCII)
    # The longest name of a file in a delta or snapshot still fits behind it.
    assert len(key.encode()) + 64 <= KEY_BYTES_MAX
    pattern = "".join(f"(?P<x{at}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(split(template)))
    found = re.fullmatch(pattern, key)
    assert found is not None
    assert set(found.groupdict().values()) == set(values.values())


def vars_of(layout: Layout) -> dict[str, str]:
    return {field.name: getattr(layout, field.name) for field in attrs.fields(Layout)}


def split(template: str) -> list[str]:
    """Fixed text and field names in turn."""
    return re.split(r"\{(\w+)\}", template)


@settings(max_examples=300)
@given(st.data())
def test_different_ids_never_share_a_key(data: st.DataObject) -> None:
    """Also of different methods: no object is ever mistaken for another."""
    names = st.from_regex(r"[a-z][a-z0-9_-]{0,3}", fullmatch=True) | st.sampled_from(
        ["manifests", "poll_results", "requests", "chunks", "intermediate", "snapshot", "delta", "submissions"]
    )
    ids = (
        names
        | safe_ids()
        | st.sampled_from(["latest.json", "merging.json", "result.json", "head.json", "batches.json"])
    )
    drawn = []
    for _ in range(2):
        name = data.draw(st.sampled_from(sorted(WITH_IDS)))
        values = {parameter: data.draw(names if parameter in NAMES else ids) for parameter in parameters(name)}
        drawn.append((name, values))
    (one, other) = drawn
    assert (key_of(*one) == key_of(*other)) == (one == other)


@pytest.mark.parametrize("name", WITH_IDS)
@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_each_argument_is_guarded(name: str, hostile: object) -> None:
    for guarded in parameters(name):
        values: dict[str, Any] = dict.fromkeys(parameters(name), "x") | {guarded: hostile}
        with pytest.raises(InvalidId, match=f"^{guarded} .* is refused"):
            WITH_IDS[name](**values)


@given(st.text() | st.text("abcXYZ012._-", max_size=140))
@example("x\n")
@example("x" * ID_CHARS_MAX)
@example("x" * (ID_CHARS_MAX + 1))
def test_safe_id_takes_what_it_says_and_nothing_else(text: str) -> None:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    good = 0 < len(text) <= 128 and text[0] in letters and not set(text) - set(letters + "._-")
    try:
        assert safe_id(text, "it") == text
    except InvalidId:
        assert not good
    else:
        assert good


@given(st.text() | st.text("abcXYZ012._-", max_size=70))
@example("x\n")
@example("x" * 63)
@example("x" * 64)
def test_safe_name_takes_what_it_says_and_nothing_else(text: str) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    good = 0 < len(text) <= 63 and text[0] in letters and not set(text) - set(letters + "0123456789_-")
    try:
        assert safe_name(text, "it") == text
    except InvalidId:
        assert not good
    else:
        assert good


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
@pytest.mark.parametrize("guard", [safe_id, safe_name])
def test_a_refusal_is_one_clean_sentence(guard: Callable[[object, str], str], hostile: object) -> None:
    with pytest.raises(InvalidId) as caught:
        guard(hostile, "batch_id")
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert caught.value.hint


@given(st.text(max_size=300))
@example("x" * RECORD_ID_BYTES_MAX)
@example("x" * (RECORD_ID_BYTES_MAX + 1))
@example("\u00e4" * (RECORD_ID_BYTES_MAX // 2))
@example("\u00e4" * (RECORD_ID_BYTES_MAX // 2 + 1))
def test_a_record_id_may_be_any_text_up_to_a_size(text: str) -> None:
    good = bool(text) and len(text.encode()) <= 512
    try:
        assert record_id(text) == text
    except InvalidId as error:
        assert not good
        assert error.hint  # noqa: PT017  both ways are allowed
    else:
        assert good


@pytest.mark.parametrize("wrong", [None, 7, b"x", ["x"], "\ud800", "x\udfff"])
def test_a_record_id_is_unicode_text(wrong: object) -> None:
    with pytest.raises(InvalidId):
        record_id(wrong)


# --- templates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "template"),
    [
        ("result", "results.json"),  # every batch would share one register
        ("result", "{execution_id}/result.json"),
        ("result", "{batch_id}/{batch_id2}.json"),
        ("result", "{}/result.json"),
        ("delta", "{database}/{collection}/"),
        ("index_pk_value", "PENDING"),
        ("pk_value", "BATCH"),
        ("root", "{database}/root.json"),
    ],
)
def test_a_template_names_exactly_its_fields(field: str, template: str) -> None:
    with pytest.raises(ConfigError, match=f"Layout field '{field}' must name"):
        Layout(**{field: template})


SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}", "{x}.json", "a.json", "a-{x}", "{x}-{y}", "a-b.json"])
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
FILLINGS = st.fixed_dictionaries({name: st.sampled_from(["a", "b", "a.json", "b-a", "json"]) for name in "xy"})


@given(PATTERNS, PATTERNS, FILLINGS, FILLINGS)
@example("a-{x}", "{x}-{y}", {"x": "b", "y": "b"}, {"x": "a", "y": "b"})
def test_patterns_that_do_not_meet_never_give_one_key(
    one: str, other: str, left: dict[str, str], right: dict[str, str]
) -> None:
    """Keys of files, and of anything in a folder."""
    if not may_meet(one, other):
        assert one.format(**left) != other.format(**right)
    if not may_meet(f"{one}/", other):
        assert not other.format(**right).startswith(one.format(**left) + "/")


def test_other_templates_spell_other_keys() -> None:
    layout = Layout(result="state/{batch_id}.json", delta="d/{delta_id}/{collection}/{database}/")
    assert layout.result_key("b1") == "state/b1.json"
    assert layout.delta_prefix("words", "receipt_words", "d1") == "d/d1/receipt_words/words/"
    with pytest.raises(InvalidId):
        layout.result_key("../b1")


def test_the_seeds_keys() -> None:
    assert SEED == Layout()
    assert SEED.manifest_key("e") == "manifests/e/batches.json"
    assert SEED.result_key("b") == "poll_results/b/result.json"
    assert SEED.poll_results_key("e") == "poll_results/e/poll_results.json"
    assert SEED.delta_prefix("words", "receipt_words", "d") == "words/delta/words/receipt_words/d/"
    assert SEED.delta_prefix("lines", "receipt_lines", "d") == "lines/delta/lines/receipt_lines/d/"
    assert SEED.head_key("words", "receipt_words") == "words/submissions/receipt_words/head.json"
    assert SEED.latest_key("words") == "words/snapshot/latest.json"
    assert SEED.snapshot_prefix("words", "6-ab") == "words/snapshot/6-ab/"


@pytest.mark.parametrize("wrong", [{"IN_PROGRESS": "OPEN"}, {"COMPLETED": "PENDING"}, {"PENDING": "PENDING"}])
def test_a_word_of_others_is_one_status_and_nobody_elses(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="more_statuses"):
        Layout(more_statuses=wrong)
    assert Layout(statuses={"PENDING": "open"}, more_statuses={"PENDING": "PENDING"}).status_words(Status.PENDING) == (
        "open",
        "PENDING",
    )

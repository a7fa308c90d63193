"""Laws of keys and stores: names are reversible, and a directory behaves as a dict does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embedpipe.backends.blob_rules import check_key
from embedpipe.backends.file_names import NAME_BYTES_MAX, decode_segment, encode_segment
from embedpipe.backends.files import FilesBlobStore
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.errors import EmbedpipeError, InvalidKey

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="/")
SEGMENTS = st.one_of(
    st.text(CHARACTERS, min_size=1, max_size=20),
    st.text("ab.%\\ +\x00é\U0001f600", min_size=1, max_size=6),
    st.text("x\U0001f600%", min_size=150, max_size=260),
).filter(lambda segment: segment not in (".", ".."))


@given(SEGMENTS, st.booleans())
@example("..." * 80, False)
def test_a_segment_comes_back_from_safe_names(segment: str, folded: bool) -> None:
    names = encode_segment(segment, folded=folded)
    assert decode_segment(names, folded=folded) == segment
    for name in names:
        assert 0 < len(name) <= NAME_BYTES_MAX + 2
        assert not set(name) & {*range(32), 127, ord("/"), ord("\\")}
        assert name[-1:] not in (b".", b" ")
        assert name not in (b".", b"..", b"%store")
        name.decode()


@given(SEGMENTS, SEGMENTS)
@example("a", "A")
@example("é", "e\u0301")
def test_folded_names_differ_where_case_and_accents_do_not_count(first: str, second: str) -> None:
    def seen(segment: str) -> list[str]:
        return [name.decode("ascii").casefold() for name in encode_segment(segment, folded=True)]

    assert (seen(first) == seen(second)) == (first == second)


@given(st.binary(max_size=12))
def test_names_that_no_segment_has_are_nobodys(name: bytes) -> None:
    segment = decode_segment((name,))
    assert segment is None or encode_segment(segment) == (name,)


KEYS = st.one_of(
    st.lists(st.sampled_from(["a", "b", "a.b", "a-b", "A", "\uffee", "\U00010000", "x" * 201]), min_size=1, max_size=3),
    st.lists(SEGMENTS, min_size=1, max_size=2),
).map("/".join)
CALLS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.booleans(), st.booleans()),
    st.tuples(st.sampled_from(["get", "delete"]), KEYS),
    st.tuples(st.just("list"), KEYS.map(lambda key: key[:3]) | st.just(""), st.none() | KEYS),
)


def answer(store: Any, call: tuple[Any, ...]) -> Any:
    """What a call gives, in a form that two stores can share; an error is its class."""
    verb, key, *rest = call
    try:
        if verb == "put":
            etag = store.get(key).etag if rest[1] else None
            return store.put(key, key.encode() + bytes(rest), if_none_match=rest[0], if_match=etag)
        if verb == "list":
            return [(info.key, info.size_bytes) for info in store.list(key, after=rest[0])]
        return getattr(store, verb)(key)
    except EmbedpipeError as error:
        return type(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(CALLS, max_size=25))
def test_a_directory_behaves_as_a_dict(calls: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files, memory = FilesBlobStore(Path(folder) / "root"), MemoryBlobStore()
        for call in calls:
            found = answer(files, call)
            if found is InvalidKey and _is_folder_or_inside_an_object(memory, call[1]):
                continue  # the one thing that a directory may refuse
            assert found == answer(memory, call)


def _is_folder_or_inside_an_object(store: MemoryBlobStore, key: str) -> bool:
    return any(other.startswith(f"{key}/") or key.startswith(f"{other}/") for other in store.contents())


@pytest.mark.parametrize("key", ["a", "a/b", "x" * 1_024, "é" * 512, "\U0010ffff", "a b", "...", ".a", "%"])
def test_valid_keys_pass(key: str) -> None:
    assert check_key(key) == key

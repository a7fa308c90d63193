"""The keys half of the object store's suite: which keys are held, which are refused, and in what order they are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from embedpipe.errors import InvalidKey
from embedpipe.limits import KEY_BYTES_MAX
from embedpipe.ports import BlobStore
from verify.contracts._base import Contract, in_parallel, required

INVALID_KEYS: Final = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/..",
    "a/./b",
    "k" * (KEY_BYTES_MAX + 1),
    "é" * (KEY_BYTES_MAX // 2 + 1),
    "\ud800",
)
ODD_KEYS: Final = (
    "plain",
    "with space",
    " leading and trailing ",
    "per%cent",
    "per%25cent",
    "%2E%2E/up",
    "plus+plus",
    "question?query=1&b#fragment",
    "quote\"quote'quote`",
    "back\\slash",
    "dots./...",
    "~tilde",
    ".hidden/x",
    "-option",
    "semi;colon:$HOME|*<>",
    "case/Key",
    "case/key",
    "case/KEY",
    "é composed",
    "e\u0301 decomposed",
    "ä/ö/ü",
    "日本語/キー",
    "\U0001f600/smile",
    "\u202eright to left",
    "\uff5e and \U00010000",
    "%",
    "%store",
    "nul",
    "CON",
    "long/" + "x" * 255,
    "long/" + "x" * 256,
    "long/" + "é" * 400,
    "k" * KEY_BYTES_MAX,
    "/".join("d" * 512),
)
CONTROL_KEYS: Final = ("nul\x00nul", "new\nline", "carriage\rreturn", "tab\ttab", "bell\x07", "delete\x7f", "\x85next")
"""A store may refuse these; it may not mistake them."""
ORDERED_KEYS: Final = tuple(
    sorted(
        (
            "a",
            "a-b",
            "a.b",
            "a0",
            "aa",
            "b/c",
            "b-c",
            "b.c",
            "b/c-d",
            "b/d/e",
            "b/d-e",
            "b0/c",
            "B/c",
            "Z",
            "z%/y",
            "z%x",
            "z$",
            "z&",
            "~",
            "é",
            "e\u0301",
            "\uff5e",
            "\ufffd/x",
            "\U00010000",
            "\U0001f600/x",
            "\u4e00",
            "l" * 200 + "\U0001f600",
            "l" * 200 + "a",
            "l" * 200,
            "l" * 199 + "z",
            "l" * 198 + "\U0001f600" + "q" * 99,
            "l" * 198 + "m" * 99,
            "l" * 300 + "/x",
            "l" * 300 + "-",
        ),
        key=str.encode,
    )
)


class BlobKeysContract(Contract, abstract=True):
    """Part of `BlobStoreContract`."""

    many_keys: ClassVar[int] = 1_050
    """Objects of the longest listing; more than one page of S3."""

    @required
    def connect(self, store: Any) -> BlobStore:
        """Connect an adapter to the store."""
        raise NotImplementedError

    @required
    def raw_read(self, store: Any, key: str) -> bytes | None:
        """Read an object around the port: its bytes, or None where nothing is."""
        raise NotImplementedError

    @required
    def raw_write(self, store: Any, key: str, data: bytes) -> None:
        """Write an object around the port, as another program would."""
        raise NotImplementedError

    # --- which keys ------------------------------------------------------------------------------------------------

    def test_an_invalid_key_is_refused_everywhere_before_any_effect(self, port: BlobStore, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(b"x")
        calls: tuple[Callable[[str], object], ...] = (
            port.get,
            lambda key: port.put(key, b"x"),
            lambda key: port.put(key, b"x", if_none_match=True),
            lambda key: port.put(key, b"x", if_match='"0"'),
            port.delete,
            lambda key: port.upload(key, source),
            lambda key: port.download(key, target),
        )
        for key in INVALID_KEYS:
            for call in calls:
                with pytest.raises(InvalidKey):
                    call(key)
        assert keys_of(port) == []
        assert not target.exists()

    def test_every_valid_key_is_held_as_it_is(self, port: BlobStore) -> None:
        for key in ODD_KEYS:
            port.put(key, key.encode())
        assert keys_of(port) == sorted(ODD_KEYS, key=str.encode)
        assert [port.get(key).data for key in ODD_KEYS] == [key.encode() for key in ODD_KEYS]
        for key in ODD_KEYS:
            assert keys_of(port, prefix=key)[0] == key
            port.delete(key)
        assert keys_of(port) == []

    def test_a_key_with_control_characters_is_held_as_it_is_or_refused(self, port: BlobStore) -> None:
        held = [key for key in CONTROL_KEYS if self._accepts(port, key)]
        assert keys_of(port) == sorted(held, key=str.encode)
        assert [port.get(key).data for key in held] == [key.encode() for key in held]

    @staticmethod
    def _accepts(port: BlobStore, key: str) -> bool:
        try:
            port.put(key, key.encode())
        except InvalidKey:
            return False
        return True

    def test_a_folder_of_another_key_is_held_as_it_is_or_refused(self, port: BlobStore) -> None:
        for first, second in (("up", "up/down"), ("x/y/z", "x"), ("v/w/u", "v/w")):
            port.put(first, b"first")
            accepted = self._accepts(port, second)
            assert port.get(first).data == b"first"
            assert keys_of(port) == sorted([first, second] if accepted else [first])
            port.delete(second)
            assert keys_of(port) == [first]
            port.delete(first)

    def test_deleted_keys_leave_no_folder_behind(self, port: BlobStore) -> None:
        port.put("a/b/c", b"1")
        port.delete("a/b/c")
        port.put("a", b"2")
        assert [port.get("a").data, *keys_of(port)] == [b"2", "a"]
        port.delete("a")
        port.put("a/b", b"3")
        assert keys_of(port) == ["a/b"]

    # --- lists -----------------------------------------------------------------------------------------------------

    def test_an_empty_store_lists_nothing(self, port: BlobStore) -> None:
        assert [keys_of(port, prefix) for prefix in ("", "a", "a/", "/", "..", "a//", "\ud800")] == [[]] * 7

    def test_a_list_is_in_the_order_of_utf8_bytes(self, port: BlobStore) -> None:
        for key in reversed(ORDERED_KEYS):
            port.put(key, b"")
        assert keys_of(port) == list(ORDERED_KEYS)

    def test_a_prefix_is_compared_by_characters_not_by_folders(self, port: BlobStore) -> None:
        put_all(port, ORDERED_KEYS)
        prefixes = {key[:length] for key in ORDERED_KEYS for length in range(min(len(key), 8) + 1)}
        prefixes |= {
            "b/",
            "b/c",
            "b/d/",
            "l" * 198,
            "l" * 199,
            "l" * 201,
            "l" * 300,
            "l" * 300 + "/",
            "nothing",
            "/",
            "//",
        }
        for prefix in prefixes:
            assert keys_of(port, prefix) == [key for key in ORDERED_KEYS if key.startswith(prefix)]

    def test_a_list_resumes_after_any_text(self, port: BlobStore) -> None:
        put_all(port, ORDERED_KEYS)
        marks = (
            *ORDERED_KEYS,
            "",
            "b",
            "b/",
            "b/d",
            "b/d/",
            "b/d/f",
            "zz",
            "l" * 198,
            "l" * 250,
            "l" * 300,
            "\U0010ffff",
        )
        for mark in marks:
            assert keys_of(port, after=mark) == [key for key in ORDERED_KEYS if key.encode() > mark.encode()]
            assert keys_of(port, "b/", after=mark) == [
                key for key in ORDERED_KEYS if key.encode() > mark.encode() and key.startswith("b/")
            ]

    def test_a_long_list_is_complete_and_resumes(self, port: BlobStore) -> None:
        keys = sorted(f"{index % 3}/{index:05}/{'x' * (index % 2)}y.json" for index in range(self.many_keys))
        put_all(port, reversed(keys))
        assert keys_of(port) == keys
        for start in (0, len(keys) // 2, len(keys) - 2, len(keys) - 1):
            assert keys_of(port, after=keys[start]) == keys[start + 1 :]

    def test_a_list_started_before_a_change_goes_on(self, port: BlobStore) -> None:
        keys = [f"k{index:03}" for index in range(60)]
        put_all(port, keys)
        listing = port.list("")
        seen = [next(listing).key]
        for key in keys[1::2]:
            port.put(key, b"changed")
        port.delete(keys[0])
        seen += [info.key for info in listing]
        assert seen == keys

    def test_an_entry_tells_size_and_time(self, port: BlobStore) -> None:
        port.put("earlier", b"")
        port.put("later", b"12345")
        earlier, later = port.list("")
        assert (earlier.size_bytes, later.size_bytes) == (0, 5)
        assert later.modified_at.tzinfo is UTC or later.modified_at.utcoffset() == timedelta(0)
        # Clocks of stores tick as slowly as once a second.
        assert earlier.modified_at <= later.modified_at + timedelta(seconds=1)

    def test_a_list_shows_what_was_written_around_the_port(self, store: Any, port: BlobStore) -> None:
        port.put("folder/ours", b"1")
        self.raw_write(store, "folder/theirs", b"12")
        assert [(info.key, info.size_bytes) for info in port.list("folder/")] == [
            ("folder/ours", 1),
            ("folder/theirs", 2),
        ]


def keys_of(port: BlobStore, prefix: str = "", *, after: str | None = None) -> list[str]:
    """The keys of a listing."""
    return [info.key for info in port.list(prefix, after=after)]


def put_all(port: BlobStore, keys: Iterable[str]) -> None:
    """An empty object at each key, several at a time, since most of a put is waiting."""
    in_parallel([partial(port.put, key, b"") for key in keys])


__all__ = ["BlobKeysContract", "keys_of"]

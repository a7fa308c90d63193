"""Object stores that are right but for one fault, and the test of `BlobStoreContract` that must see it."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.backends.blob_rules import check_key
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.errors import InvalidKey, PreconditionFailed
from embedpipe.model import Blob, BlobInfo

SLOWLY_S: Final = 0.002
"""Long enough for another thread to come between."""


class LooksThenWrites(MemoryBlobStore):
    """Conditions are checked, but not in one step with the write."""

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        before = {info.key for info in self.list(key)}
        if if_none_match and key in before:
            raise PreconditionFailed("exists")
        if if_match and (key not in before or self.get(key).etag != if_match):
            raise PreconditionFailed("changed")
        if if_none_match or if_match:
            time.sleep(SLOWLY_S)
        return super().put(key, data)


class IgnoresIfMatch(MemoryBlobStore):
    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        return super().put(key, data, if_none_match=if_none_match)


class IfMatchCreates(MemoryBlobStore):
    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        missing = not any(info.key == key for info in self.list(key))
        return super().put(key, data, if_none_match=if_none_match, if_match=None if missing else if_match)


class WritesInPlace(MemoryBlobStore):
    """As a program that opens the file and writes into it."""

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        if len(data) > 1_000:
            old = self.contents().get(key, b"")
            self.write_raw(key, data[:1_000] + old[1_000:])
            time.sleep(SLOWLY_S)
        return super().put(key, data, **conditions)


class EtagIsACounter(MemoryBlobStore):
    writes = 0

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        super().put(key, data, **conditions)
        self.writes += 1
        return f'"{self.writes}"'


class CachesReads(MemoryBlobStore):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Blob] = {}

    def get(self, key: str) -> Blob:
        return self.cache.setdefault(key, super().get(key))

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        self.cache.pop(key, None)
        return super().put(key, data, **conditions)


class Listing(MemoryBlobStore):
    """Base of those that list wrongly: `order` sorts all entries."""

    @staticmethod
    def order(key: str) -> Any:
        return key

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        entries = sorted(super().list(prefix), key=lambda info: self.order(info.key))
        return (info for info in entries if after is None or self.order(info.key) > self.order(after))


class SortsFolders(Listing):
    """As a walk through directories sorted by their names."""

    @staticmethod
    def order(key: str) -> Any:
        return key.split("/")


class SortsUtf16(Listing):
    @staticmethod
    def order(key: str) -> Any:
        return key.encode("utf-16-be", "surrogatepass")


class SortsWithoutCase(Listing):
    @staticmethod
    def order(key: str) -> Any:
        return (key.lower(), key)


class PrefixIsAFolder(Listing):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        return super().list(folder, after=after)


class RepeatsTheMark(Listing):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        return (info for info in super().list(prefix) if after is None or info.key >= after)


class ResumesOnlyAfterKeys(Listing):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        if after is not None and after not in self.contents():
            return super().list(prefix)
        return super().list(prefix, after=after)


class OnePage(Listing):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        return (info for info, _ in zip(super().list(prefix, after=after), range(1_000), strict=False))


class Renaming(MemoryBlobStore):
    """Base of those that hold another key than they were given."""

    @staticmethod
    def name(key: str) -> str:
        return key

    def get(self, key: str) -> Blob:
        return super().get(self.name(key))

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        return super().put(self.name(key), data, **conditions)


class Normalises(Renaming):
    @staticmethod
    def name(key: str) -> str:
        try:
            return unicodedata.normalize("NFC", key)
        except ValueError:
            return key


class FoldsCase(Renaming):
    @staticmethod
    def name(key: str) -> str:
        return key.lower()


class Unquotes(Renaming):
    @staticmethod
    def name(key: str) -> str:
        return key.replace("%25", "%")


class CutsLongNames(Renaming):
    @staticmethod
    def name(key: str) -> str:
        return "/".join(segment[:255] for segment in key.split("/"))


class TakesDots(MemoryBlobStore):
    def get(self, key: str) -> Blob:
        return super().get(key.replace("../", ""))


class DeleteComplains(MemoryBlobStore):
    def delete(self, key: str) -> None:
        super().get(key)
        super().delete(key)


class DeletesFolders(MemoryBlobStore):
    def delete(self, key: str) -> None:
        super().delete(key)
        for info in self.list(f"{key}/"):
            super().delete(info.key)


class LosesTheParent(MemoryBlobStore):
    """A key that is a folder of another replaces it."""

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        for parent in (key[:end] for end, character in enumerate(key) if character == "/"):
            if parent in self.contents():
                super().delete(parent)
        return super().put(key, data, **conditions)


class UploadIgnoresConditions(MemoryBlobStore):
    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        return super().upload(key, path)


class DownloadTruncatesFirst(MemoryBlobStore):
    def download(self, key: str, path: Path) -> None:
        path.write_bytes(b"")
        super().download(key, path)


class LeaksKeyErrors(MemoryBlobStore):
    def get(self, key: str) -> Blob:
        check_key(key)
        return Blob(data=self.contents()[key], etag=super().get(key).etag)


class CachesInEachConnection(MemoryBlobStore):
    def connection(self) -> MemoryBlobStore:
        other = CachesReads()
        other.__dict__ = {**self.__dict__, "cache": {}}
        return other


class IgnoresIfNoneMatch(MemoryBlobStore):
    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        return super().put(key, data, if_match=if_match)


class StripsControls(Renaming):
    @staticmethod
    def name(key: str) -> str:
        return "".join(character for character in key if character.isprintable())


class UploadsOnePiece(MemoryBlobStore):
    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        with path.open("rb") as handle:
            return super().put(key, handle.read(1 << 16), if_none_match=if_none_match)


class UploadStartsEmpty(MemoryBlobStore):
    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        if not if_none_match:
            super().put(key, b"")
        return super().upload(key, path, if_none_match=if_none_match)


class RefusesEmpty(MemoryBlobStore):
    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        return super().put(key, data or b"\0", **conditions)


class ListsOnlyItsOwn(Listing):
    def __init__(self) -> None:
        super().__init__()
        self.own: set[str] = set()

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        self.own.add(key)
        return super().put(key, data, **conditions)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        return (info for info in super().list(prefix, after=after) if info.key in self.own)


class ListDiesOfChanges(Listing):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        before = self.contents()
        for info in super().list(prefix, after=after):
            if self.contents() != before:
                raise RuntimeError("dictionary changed during iteration")
            yield info


class ListEncodesPrefixes(Listing):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        return super().list(prefix.encode().decode(), after=after)


class ListsLocalTimes(Listing):
    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        found = super().list(prefix, after=after)
        return (attrs.evolve(info, modified_at=info.modified_at.replace(tzinfo=None)) for info in found)


class KeepsFolders(MemoryBlobStore):
    """A directory stays when its last object is deleted, and is in the way of an object of its name."""

    def __init__(self) -> None:
        super().__init__()
        self.folders: set[str] = set()

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        if key in self.folders:
            raise InvalidKey("a folder")
        self.folders |= {key[:end] for end, character in enumerate(key) if character == "/"}
        return super().put(key, data, **conditions)


class SharesABuffer(MemoryBlobStore):
    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        self.buffer = data
        time.sleep(SLOWLY_S)
        return super().put(key, self.buffer, **conditions)


FAULTS: Final[list[tuple[type[MemoryBlobStore], str]]] = [
    (LooksThenWrites, "test_of_sixteen_creators_one_wins"),
    (LooksThenWrites, "test_of_sixteen_replacers_one_wins"),
    (LooksThenWrites, "test_a_counter_moved_by_if_match_loses_no_step"),
    (IgnoresIfMatch, "test_if_match_writes_only_over_that_etag"),
    (IfMatchCreates, "test_if_match_writes_nothing_where_nothing_is"),
    (WritesInPlace, "test_a_reader_sees_the_old_object_or_the_new_one"),
    (EtagIsACounter, "test_etags_are_equal_where_the_bytes_are"),
    (EtagIsACounter, "test_what_is_put_is_got_and_lies_in_the_store"),
    (CachesReads, "test_what_others_write_is_got"),
    (SortsFolders, "test_a_list_is_in_the_order_of_utf8_bytes"),
    (SortsUtf16, "test_a_list_is_in_the_order_of_utf8_bytes"),
    (SortsWithoutCase, "test_a_list_is_in_the_order_of_utf8_bytes"),
    (PrefixIsAFolder, "test_a_prefix_is_compared_by_characters_not_by_folders"),
    (RepeatsTheMark, "test_a_list_resumes_after_any_text"),
    (ResumesOnlyAfterKeys, "test_a_list_resumes_after_any_text"),
    (OnePage, "test_a_long_list_is_complete_and_resumes"),
    (Normalises, "test_every_valid_key_is_held_as_it_is"),
    (FoldsCase, "test_every_valid_key_is_held_as_it_is"),
    (Unquotes, "test_every_valid_key_is_held_as_it_is"),
    (CutsLongNames, "test_every_valid_key_is_held_as_it_is"),
    (TakesDots, "test_an_invalid_key_is_refused_everywhere_before_any_effect"),
    (DeleteComplains, "test_delete_is_quiet_where_nothing_is"),
    (DeletesFolders, "test_delete_is_quiet_where_nothing_is"),
    (LosesTheParent, "test_a_folder_of_another_key_is_held_as_it_is_or_refused"),
    (UploadIgnoresConditions, "test_upload_is_put"),
    (DownloadTruncatesFirst, "test_a_download_appears_whole_or_not_at_all"),
    (LeaksKeyErrors, "test_what_is_missing_is_not_found"),
    (CachesInEachConnection, "test_a_second_connection_sees_every_change_at_once"),
    (IgnoresIfNoneMatch, "test_if_none_match_writes_only_where_nothing_is"),
    (StripsControls, "test_a_key_with_control_characters_is_held_as_it_is_or_refused"),
    (UploadsOnePiece, "test_a_large_object_goes_up_and_comes_down"),
    (UploadStartsEmpty, "test_uploading_what_is_not_there_changes_nothing"),
    (RefusesEmpty, "test_an_object_may_be_empty"),
    (ListsOnlyItsOwn, "test_a_list_shows_what_was_written_around_the_port"),
    (ListDiesOfChanges, "test_a_list_started_before_a_change_goes_on"),
    (ListEncodesPrefixes, "test_an_empty_store_lists_nothing"),
    (ListsLocalTimes, "test_an_entry_tells_size_and_time"),
    (KeepsFolders, "test_deleted_keys_leave_no_folder_behind"),
    (SharesABuffer, "test_one_connection_serves_many_threads"),
]

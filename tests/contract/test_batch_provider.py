"""The providers that live here, against the shipped suite."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from embedpipe.backends.local_model import LocalModelProvider
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.system import SystemClock
from embedpipe.errors import EmbedpipeError, NotFound
from embedpipe.model import ProviderBatch
from verify.contracts import BatchProviderContract


class TestMemoryProvider(BatchProviderContract):
    model = "any"
    dimensions = 8
    shorter = 4
    bad_text = None

    def create(self) -> MemoryProvider:
        return MemoryProvider(MemoryClock())

    def connect(self, store: MemoryProvider) -> MemoryProvider:
        return store

    def raw_read(self, store: MemoryProvider, file_id: str) -> bytes | None:
        return store.bytes_of(file_id)

    def raw_write(self, store: MemoryProvider, data: bytes) -> str:
        store.files["file-theirs"] = data
        return "file-theirs"


class TestLocalModelProvider(BatchProviderContract):
    shorter = 64

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.root = tmp_path_factory.mktemp("provider")

    def create(self) -> Path:
        return self.root

    def connect(self, store: Path) -> LocalModelProvider:
        return LocalModelProvider(store, SystemClock())

    def raw_read(self, store: Path, file_id: str) -> bytes | None:
        path = store / "files" / f"{file_id}.jsonl"
        return path.read_bytes() if path.exists() else None

    def raw_write(self, store: Path, data: bytes) -> str:
        (store / "files").mkdir(parents=True, exist_ok=True)
        (store / "files/file-theirs.jsonl").write_bytes(data)
        return "file-theirs"


class TestLocalModelProviderWithTime(TestLocalModelProvider):
    """The same while batches take their time."""

    def connect(self, store: Path) -> LocalModelProvider:
        return LocalModelProvider(store, SystemClock(), delay_s=0.05)

    pause_s = 0.005


# --- the suite catches what is broken ----------------------------------------------------------------------------------


class Doubling(MemoryProvider):
    """Writes each line twice."""

    def content(self, file_id: str) -> Iterator[bytes]:
        for line in b"".join(super().content(file_id)).splitlines(keepends=True):
            yield line
            yield line


class Losing(MemoryProvider):
    """Loses the last line, and does not count it."""

    def content(self, file_id: str) -> Iterator[bytes]:
        yield b"".join(b"".join(super().content(file_id)).splitlines(keepends=True)[:-1])

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        batch = super().retrieve(provider_batch_id)
        completed = max(batch.counts.completed - 1, 0)
        return attrs.evolve(batch, counts=attrs.evolve(batch.counts, completed=completed))


class Reusing(MemoryProvider):
    """Answers a second create of one file with the first batch."""

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        for made in self.paid:
            if made.input_file_id == input_file_id and made.provider_batch_id is not None:
                return self.retrieve(made.provider_batch_id)
        return super().create(input_file_id, metadata)


class OldestFirst(MemoryProvider):
    """Lists the wrong way round."""

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        yield from reversed([*super().list(after=after)])


class Misrouting(MemoryProvider):
    """Gives one request the vector of another."""

    def content(self, file_id: str) -> Iterator[bytes]:
        data = b"".join(super().content(file_id))
        yield data.replace(b'"r0"', b'"r?"').replace(b'"r1"', b'"r0"').replace(b'"r?"', b'"r1"')


class Forgetful(MemoryProvider):
    """Drops metadata."""

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        return super().create(input_file_id, {})


class Leaking(MemoryProvider):
    """Raises what its library raises."""

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        try:
            return super().retrieve(provider_batch_id)
        except NotFound as error:
            raise KeyError(provider_batch_id) from error


class Restless(MemoryProvider):
    """Cancels what has ended."""

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        batch = super().retrieve(provider_batch_id)
        return attrs.evolve(batch, status="cancelled") if provider_batch_id in self.cancelled else batch

    def cancel(self, provider_batch_id: str) -> None:
        super().cancel(provider_batch_id)
        self.cancelled = (*self.cancelled, provider_batch_id)

    cancelled: tuple[str, ...] = ()


class Hoarding(MemoryProvider):
    """Keeps what it was told to delete."""

    def delete_file(self, file_id: str) -> None:
        pass


class Sweeping(MemoryProvider):
    """Forgets a batch with its files."""

    def delete_file(self, file_id: str) -> None:
        super().delete_file(file_id)
        self._jobs = {name: job for name, job in self._jobs.items() if job.input_file_id != file_id}


class Fussy(MemoryProvider):
    """Wants to know what it deletes."""

    def delete_file(self, file_id: str) -> None:
        if self.bytes_of(file_id) is None:
            raise NotFound(f"There is no file {file_id!r}.")
        super().delete_file(file_id)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Hoarding, "test_a_deleted_file_is_gone"),
        (Fussy, "test_a_deleted_file_is_gone"),
        (Fussy, "test_deleting_an_unknown_file_changes_nothing"),
        (Hoarding, "test_an_ended_batch_outlives_its_files"),
        (Sweeping, "test_an_ended_batch_outlives_its_files"),
        (Doubling, "test_every_request_is_answered_once"),
        (Losing, "test_every_request_is_answered_once"),
        (Forgetful, "test_every_request_is_answered_once"),
        (Reusing, "test_two_creates_of_one_file_are_two_batches"),
        (OldestFirst, "test_the_list_is_newest_first_and_goes_on_after_any"),
        (Misrouting, "test_online_and_batch_vectors_agree"),
        (Leaking, "test_unknown_ids_are_not_found"),
        (Restless, "test_cancelling_what_has_ended_changes_nothing"),
    ],
)
def test_the_suite_catches(broken: type[MemoryProvider], test: str, tmp_path: Path) -> None:
    def attempt(port: MemoryProvider) -> None:
        suite = TestMemoryProvider()
        upload = BatchProviderContract.upload.__wrapped__(suite, port, tmp_path)  # type: ignore[attr-defined]  # pytest's
        given = {"store": port, "port": port, "upload": upload, "unknown": "batch_unknown"}
        method = getattr(suite, test)
        method(**{name: given[name] for name in inspect.signature(method).parameters})

    attempt(MemoryProvider(MemoryClock()))
    with pytest.raises((AssertionError, KeyError, EmbedpipeError)):
        attempt(broken(MemoryClock()))

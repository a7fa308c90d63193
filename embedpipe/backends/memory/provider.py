"""A provider's Batch API in memory that does what it is told: every delay, loss and refusal is scripted by a `Behaviour`.

Vectors are a function of model and text alone (`vector_of`), so a vector under the wrong id shows. `creates` remembers every
create call, so that payments can be counted. Time comes from the clock; nothing is random.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from embedpipe.backends.batch_files import check_metadata, issues, read_request, split_lines
from embedpipe.backends.disk import disk_errors
from embedpipe.backends.memory.behaviour import ENDED, Behaviour, ChooseBehaviour, CreateFault, always_good
from embedpipe.backends.memory.job import ERRORS, OUTPUT, Job, content, status, vector_of, view
from embedpipe.errors import EmbedpipeError, NotFound, RefusedRequest, Throttled, Unauthorized, Unavailable
from embedpipe.limits import Limits
from embedpipe.model import ProviderBatch
from embedpipe.ports import BatchProvider, Clock, QueryEmbedder

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

__all__ = ["Create", "MemoryProvider", "vector_of"]

CONTENT_PIECE_BYTES: Final = 4_099
"""Odd on purpose: lines are cut in the middle."""


@attrs.frozen(kw_only=True)
class Create:
    """One create call as the provider saw it."""

    nth: int
    input_file_id: str
    metadata: Mapping[str, str]
    custom_ids: tuple[str, ...]
    """Empty where the input file is invalid."""
    provider_batch_id: str | None
    """None where nothing was made, so nothing was paid."""
    fault: CreateFault
    at: datetime


class MemoryProvider:
    """A BatchProvider and QueryEmbedder whose batches behave as `behaviour(nth_create, metadata)` says.

    `dimensions`: length of a vector where a request names none. `prefix` parts the ids of two providers. While `closed_to`
    is set, every call raises it: `Unauthorized("...")` for a revoked key, `Unavailable("...")` for an outage. While `foreign`
    is true, every batch and file is a 404 and the list is empty, as with a key of another project.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        dimensions: int = 8,
        behaviour: ChooseBehaviour = always_good,
        limits: Limits | None = None,
        prefix: str = "",
    ) -> None:
        self.dimensions = dimensions
        self.behaviour = behaviour
        self.closed_to: EmbedpipeError | None = None
        self.foreign = False
        self.creates: list[Create] = []
        self.files: dict[str, bytes] = {}
        self._clock = clock
        self._limits = limits or Limits()
        self._prefix = prefix
        self._jobs: dict[str, Job] = {}
        self._uploads = 0
        self._deleted: set[str] = set()
        self._lock = threading.RLock()

    @property
    def paid(self) -> list[Create]:
        """The creates that had an effect, each of which costs money."""
        return [create for create in self.creates if create.provider_batch_id is not None]

    def upload(self, path: Path) -> str:
        """Keep a copy of the file."""
        with disk_errors(str(path)):
            data = path.read_bytes()
        with self._lock:
            self._admit()
            self._uploads += 1
            file_id = f"file-{self._prefix}{self._uploads:06d}"
            self.files[file_id] = data
            return file_id

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """As the batch's behaviour says. A call that comes this far is always remembered in `creates`."""
        with self._lock:
            self._admit()
            check_metadata(metadata)
            data = self._input(input_file_id)
            nth = len(self.creates) + 1
            job = self._job(nth, input_file_id, data, metadata)
            made = job.behaviour.create in (CreateFault.NONE, CreateFault.ANSWER_LOST)
            self.creates.append(
                Create(
                    nth=nth,
                    input_file_id=input_file_id,
                    metadata=job.metadata,
                    custom_ids=tuple(request.custom_id for request in job.requests),
                    provider_batch_id=job.id if made else None,
                    fault=job.behaviour.create,
                    at=job.created_at,
                )
            )
            if made:
                self._jobs[job.id] = job
            _raise_fault(job.behaviour)
            return view(job, job.created_at)

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """One look; each counts for behaviours that go by the number of retrieves."""
        with self._lock:
            self._admit()
            job = self._known(provider_batch_id)
            job.retrieves += 1
            behaviour = job.behaviour
            seen = job.retrieves - behaviour.unknown_retrieves
            if seen <= 0 or seen > behaviour.lost_after_retrieves:
                raise _no_batch(provider_batch_id)
            if seen <= behaviour.unauthorized_retrieves:
                raise Unauthorized("The provider answered 401.", hint="Check the key.")
            now = self._clock.now()
            if status(job, now) in ENDED:
                job.ended_retrieves += 1
                job.ended_at = job.ended_at or now
            return view(job, now)

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """Newest first, as of the first step of the iterator."""
        with self._lock:
            self._admit()
            jobs = [] if self.foreign else list(reversed(self._jobs.values()))
            if after is not None:
                jobs = jobs[1 + jobs.index(self._known(after)) :]
            now = self._clock.now()
            for job in jobs:
                job.listings += 1
            views = [view(job, now) for job in jobs if job.listings > job.behaviour.unlisted_calls]
        yield from views

    def content(self, file_id: str) -> Iterator[bytes]:
        """In pieces that cut lines in the middle."""
        with self._lock:
            self._admit()
            data = self._content(file_id)
        for start in range(0, len(data), CONTENT_PIECE_BYTES):
            yield data[start : start + CONTENT_PIECE_BYTES]

    def cancel(self, provider_batch_id: str) -> None:
        """The next retrieve says `cancelling`, then `cancelled`; the second half of the requests is not run."""
        with self._lock:
            self._admit()
            job = self._known(provider_batch_id)
            if status(job, self._clock.now()) not in ENDED and job.cancelled_after is None:
                job.cancelled_after = job.retrieves

    def delete_file(self, file_id: str) -> None:
        """Its bytes are gone; the batch goes on naming it."""
        with self._lock:
            self._admit()
            if not self.foreign and self.bytes_of(file_id) is not None:
                self.files.pop(file_id, None)
                self._deleted.add(file_id)

    def embed(self, texts: Sequence[str], *, model: str, dimensions: int) -> Vectors:
        """The vectors of `vector_of`."""
        import numpy as np

        with self._lock:
            self._admit()
        if not texts:
            return np.empty((0, dimensions), np.float32)
        return np.stack([vector_of(model, text, dimensions) for text in texts])

    def bytes_of(self, file_id: str) -> bytes | None:
        """Around the port: the bytes of a file as they are now; None where it is not. Counts as no read."""
        if file_id in self.files:
            return self.files[file_id]
        found = None if file_id in self._deleted else self._output_of(file_id)
        return None if found is None else content(*found)

    def _admit(self) -> None:
        if self.closed_to is not None:
            raise self.closed_to

    def _job(self, nth: int, input_file_id: str, data: bytes, metadata: Mapping[str, str]) -> Job:
        lines = list(split_lines([data]))
        found, _ = issues(lines, len(data), self._limits)
        return Job(
            id=f"batch_{self._prefix}{nth:06d}",
            input_file_id=input_file_id,
            metadata=dict(metadata),
            behaviour=self.behaviour(nth, dict(metadata)),
            requests=() if found else tuple(map(read_request, lines)),
            issues=found,
            dimensions=self.dimensions,
            created_at=self._clock.now(),
        )

    def _known(self, provider_batch_id: str) -> Job:
        job = None if self.foreign else self._jobs.get(provider_batch_id)
        if job is None:
            raise _no_batch(provider_batch_id)
        return job

    def _input(self, file_id: str) -> bytes:
        if self.foreign or file_id not in self.files:
            raise _no_file(file_id)
        return self.files[file_id]

    def _output_of(self, file_id: str) -> tuple[Job, str] | None:
        """The job and the kind of its file, where that file shows."""
        _, _, rest = file_id.partition("-")
        which, _, batch_id = rest.partition("-")
        job = self._jobs.get(batch_id)
        if job is None or which not in (OUTPUT, ERRORS):
            return None
        shown = view(job, self._clock.now())
        return (job, which) if file_id in (shown.output_file_id, shown.error_file_id) else None

    def _content(self, file_id: str) -> bytes:
        found = None if self.foreign or file_id in self._deleted else self._output_of(file_id)
        if found is None:
            return self._input(file_id)
        job, which = found
        job.reads += 1
        if job.reads <= job.behaviour.content_missing:
            raise _no_file(file_id)
        return content(job, which)


def _no_batch(provider_batch_id: str) -> NotFound:
    return NotFound(
        f"The provider knows no batch {ascii(provider_batch_id)[:80]}.", provider_batch_id=provider_batch_id
    )


def _no_file(file_id: str) -> NotFound:
    return NotFound(f"The provider knows no file {ascii(file_id)[:80]}.", file_id=file_id)


def _raise_fault(behaviour: Behaviour) -> None:
    match behaviour.create:
        case CreateFault.THROTTLED:
            raise Throttled("The provider answered 429 to a create.", retry_after_s=1.0)
        case CreateFault.REFUSED:
            raise RefusedRequest(f"The provider refused a batch: {behaviour.refusal}.", reason=behaviour.refusal)
        case CreateFault.UNAUTHORIZED:
            raise Unauthorized("The provider answered 401 to a create.", hint="Check the key.")
        case CreateFault.ANSWER_LOST | CreateFault.LOST:
            raise Unavailable("The provider did not answer a create.")
        case CreateFault.NONE:
            return


if TYPE_CHECKING:
    _provider: type[BatchProvider] = MemoryProvider
    _embedder: type[QueryEmbedder] = MemoryProvider

"""One batch inside the scripted provider: what it says of itself and what its files hold, as functions of its state.

The state is a few counters; everything shown follows from them and from the `Behaviour`. Knows no port and takes no lock.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import attrs

from embedpipe.backends.batch_files import CANCELLED, ItemError, Request, answer_line, error_line
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.model import ProviderBatch, ProviderIssue, RequestCounts

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

OUTPUT: Final = "output"
ERRORS: Final = "errors"


def vector_of(model: str, text: str, dimensions: int) -> Vectors:
    """The vector of a text: shape (dimensions,), float32, unit length, the same on every machine.

    >>> v = vector_of("m", "a", 4)
    >>> bool((v == vector_of("m", "a", 4)).all()), bool((v == vector_of("m", "b", 4)).all())
    (True, False)
    """
    import numpy as np

    seed = hashlib.shake_256(f"{len(model)}:{model}{text}".encode()).digest(4 * dimensions)
    numbers = np.frombuffer(seed, "<u4").astype(np.float64) / 2**31 - 1.0
    vector: Vectors = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return vector


@attrs.define(kw_only=True, eq=False)
class Job:
    """A batch and how often it was looked at."""

    id: str
    input_file_id: str
    metadata: Mapping[str, str]
    behaviour: Behaviour
    requests: tuple[Request, ...]
    issues: tuple[ProviderIssue, ...]
    """What is wrong with the input file; such a batch fails."""
    dimensions: int
    created_at: datetime
    retrieves: int = 0
    ended_retrieves: int = 0
    """Retrieves that found it ended."""
    ended_at: datetime | None = None
    listings: int = 0
    reads: int = 0
    cancelled_after: int | None = None
    """How many retrieves came before it was cancelled."""

    def file_id(self, which: str) -> str:
        """Id of its output or error file."""
        return f"file-{which}-{self.id}"


def status(job: Job, now: datetime) -> str:
    """The provider's word for it."""
    behaviour = job.behaviour
    if job.issues:
        return "failed" if job.retrieves else "validating"
    if job.cancelled_after is not None:
        return "cancelling" if job.retrieves <= job.cancelled_after + 1 else "cancelled"
    running = behaviour.running
    if behaviour.ends_after_s is None:
        ended, position = job.retrieves > len(running), max(job.retrieves - 1, 0)
    else:
        length = timedelta(seconds=behaviour.ends_after_s)
        elapsed = now - job.created_at
        ended = elapsed >= length
        position = 0 if ended else int(elapsed / length * len(running))
    if ended and behaviour.outcome is not None:
        return behaviour.outcome
    return running[min(position, len(running) - 1)] if running else "validating"


def fates(job: Job) -> dict[str, ItemError | None]:
    """Requests without a vector: their error, or None for no line at all."""
    named: dict[str, ItemError | None] = {}
    if job.cancelled_after is not None:
        named.update((request.custom_id, CANCELLED) for request in job.requests[len(job.requests) // 2 :])
    named.update(job.behaviour.fates)
    return {request.custom_id: named[request.custom_id] for request in job.requests if request.custom_id in named}


def counts(job: Job) -> RequestCounts:
    """Its `request_counts` once it has ended."""
    if job.issues or job.behaviour.outcome == "failed":
        return RequestCounts()
    missing = fates(job)
    failed = sum(error is not None for error in missing.values())
    silent = len(missing) - failed
    embedded = len(job.requests) - len(missing)
    return RequestCounts(
        total=len(job.requests), completed=embedded + silent * job.behaviour.counts_silent, failed=failed
    )


def view(job: Job, now: datetime) -> ProviderBatch:
    """What a retrieve or a listing shows."""
    word = status(job, now)
    shown = ProviderBatch(
        id=job.id,
        status=word,
        input_file_id=job.input_file_id,
        output_file_id=job.behaviour.absent_file_id,
        error_file_id=job.behaviour.absent_file_id,
        counts=RequestCounts(total=len(job.requests)),
        metadata=dict(job.metadata),
        created_at=job.created_at,
    )
    if word not in ("completed", "expired", "cancelled", "failed"):
        return shown
    if word == "failed":
        return attrs.evolve(shown, issues=job.issues or job.behaviour.issues, ended_at=job.ended_at, counts=counts(job))
    output, errors = (bool(parts) for parts in _parts(job))
    if not output or job.ended_retrieves <= job.behaviour.null_output_retrieves:
        output = False
    return attrs.evolve(
        shown,
        counts=counts(job),
        ended_at=job.ended_at,
        output_file_id=job.file_id(OUTPUT) if output else shown.output_file_id,
        error_file_id=job.file_id(ERRORS) if errors else shown.error_file_id,
    )


def content(job: Job, which: str) -> bytes:
    """The bytes of its output or error file, as far as they are there."""
    parts = _parts(job)[which == ERRORS]
    if job.ended_retrieves <= job.behaviour.late_retrieves:
        parts = parts[: len(parts) // 2]
    data = b"".join(parts)
    if which == OUTPUT and job.behaviour.torn and parts:
        data += parts[0][: max(len(parts[0]) // 2, 1)]
    return data


def _parts(job: Job) -> tuple[list[bytes], list[bytes]]:
    """Lines of the output and of the error file, in their final order."""
    missing = fates(job)
    output: list[bytes] = list(job.behaviour.extra_lines)
    errors: list[bytes] = []
    for number, request in enumerate(job.requests):
        line_id = f"batch_req_{job.id}_{number}"
        if request.custom_id not in missing:
            lines, line = output, _answer(job, request, line_id)
        elif (error := missing[request.custom_id]) is not None:
            lines, line = errors, error_line(request.custom_id, error, line_id=line_id)
        else:
            continue
        lines.extend([line] * (1 + (request.custom_id in job.behaviour.doubled)))
    if job.behaviour.shuffle_seed is not None:
        for lines in (output, errors):
            random.Random(f"{job.id}:{job.behaviour.shuffle_seed}").shuffle(lines)
    return output, errors


def _answer(job: Job, request: Request, line_id: str) -> bytes:
    import numpy as np

    dimensions = request.body.dimensions or job.dimensions
    texts = request.body.texts
    vectors = np.stack([vector_of(request.body.model, text, dimensions) for text in texts])
    return answer_line(request, vectors, line_id=line_id, tokens=sum(len(text.split()) for text in texts))

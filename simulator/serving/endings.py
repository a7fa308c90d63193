"""Batches that end otherwise than their provider would end them: failed, expired or cancelled, with a part of their answers.

A wrapper around any BatchProvider. What it changes is kept in memory: a server that starts again shows these batches as the
provider has them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import msgspec

from embedpipe.backends.batch_files import CANCELLED, EXPIRED, error_line, split_lines
from embedpipe.lifecycle import PROVIDER_PHASES, Phase
from embedpipe.model import ProviderBatch, ProviderIssue, RequestCounts
from embedpipe.ports import BatchProvider

FAILED: Final = "failed"
_REASONS: Final = {"expired": EXPIRED, "cancelled": CANCELLED}


@attrs.frozen(kw_only=True)
class Ending:
    """How a batch ends."""

    status: str
    """`failed`, `expired` or `cancelled`."""
    answered: int = 0
    """How many of its requests have vectors, at most, where it did not fail."""
    issues: tuple[ProviderIssue, ...] = ()
    """Why it failed."""


class _Line(msgspec.Struct):
    custom_id: str


class ForcedEndings:
    """The provider, with other endings for the batches given to `force`."""

    def __init__(self, provider: BatchProvider) -> None:
        self._provider = provider
        self._endings: dict[str, Ending] = {}
        self._files: dict[str, ProviderBatch] = {}
        """File id -> the batch, as its provider has it, whose file is shown otherwise."""
        self._lock = threading.Lock()

    def force(self, batch: ProviderBatch, ending: Ending) -> ProviderBatch:
        """From now on the batch ends so. What it says now."""
        with self._lock:
            self._endings[batch.id] = ending
        return batch

    def upload(self, path: Path) -> str:
        """The provider's."""
        return self._provider.upload(path)

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """The provider's."""
        return self._provider.create(input_file_id, metadata)

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """With its other ending, if it has one."""
        return self._view(self._provider.retrieve(provider_batch_id))

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """Likewise."""
        return map(self._view, self._provider.list(after=after))

    def content(self, file_id: str) -> Iterator[bytes]:
        """Of a batch that was cut short, the first answers, and an error for each of the others."""
        with self._lock:
            batch = self._files.get(file_id)
            ending = self._endings[batch.id] if batch else None
        if batch is None or ending is None:
            return self._provider.content(file_id)
        if file_id == batch.output_file_id:
            return _with_newlines(islice(self._lines(file_id), ending.answered))
        return self._errors(batch, ending)

    def cancel(self, provider_batch_id: str) -> None:
        """The provider's."""
        self._provider.cancel(provider_batch_id)

    def delete_file(self, file_id: str) -> None:
        """The provider's."""
        self._provider.delete_file(file_id)

    def _view(self, batch: ProviderBatch) -> ProviderBatch:
        with self._lock:
            ending = self._endings.get(batch.id)
        if ending is None or batch.status == FAILED:
            return batch
        if ending.status == FAILED:
            return attrs.evolve(
                batch,
                status=FAILED,
                output_file_id=None,
                error_file_id=None,
                counts=RequestCounts(),
                issues=ending.issues,
                ended_at=batch.created_at,
            )
        return self._cut_short(batch, ending) if PROVIDER_PHASES.get(batch.status) is Phase.ENDED else batch

    def _cut_short(self, batch: ProviderBatch, ending: Ending) -> ProviderBatch:
        completed = min(ending.answered, batch.counts.completed)
        failed = batch.counts.total - completed
        error_file_id = f"file-unrun-{batch.id}" if failed else None
        with self._lock:
            self._files.update({name: batch for name in (batch.output_file_id, error_file_id) if name})
        return attrs.evolve(
            batch,
            status=ending.status,
            output_file_id=batch.output_file_id if completed else None,
            error_file_id=error_file_id,
            counts=RequestCounts(total=batch.counts.total, completed=completed, failed=failed),
        )

    def _lines(self, file_id: str | None) -> Iterator[bytes]:
        return split_lines(self._provider.content(file_id)) if file_id else iter(())

    def _errors(self, batch: ProviderBatch, ending: Ending) -> Iterator[bytes]:
        yield from _with_newlines(self._lines(batch.error_file_id))
        for number, line in enumerate(islice(self._lines(batch.output_file_id), ending.answered, None)):
            custom_id = msgspec.json.decode(line, type=_Line).custom_id
            yield error_line(custom_id, _REASONS[ending.status], line_id=f"batch_req_{batch.id}_unrun_{number}")


def _with_newlines(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (line + b"\n" for line in lines)


class _Body(msgspec.Struct):
    model: str


class _Asked(msgspec.Struct):
    body: _Body


def model_issues(provider: BatchProvider, file_id: str, known: str | None) -> tuple[ProviderIssue, ...]:
    """What is wrong with the models that an input file asks for: another than `known`, or several. At most one issue.

    Lines that are no requests are left to the provider, which names them. `NotFound`.
    """
    first = known
    for number, line in enumerate(split_lines(provider.content(file_id)), start=1):
        try:
            model = msgspec.json.decode(line, type=_Asked).body.model
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ()
        first = first or model
        if model != first:
            code = "model_not_found" if known else "model_mismatch"
            said = (
                f"The model {model[:80]!a} does not exist."
                if known
                else f"A batch has one model; {first[:80]!a} came before."
            )
            return (ProviderIssue(code=code, message=said, line=number),)
    return ()


if TYPE_CHECKING:
    _provider: type[BatchProvider] = ForcedEndings

"""A batch provider on the local disk: the shape of OpenAI's Batch API, the model of the `wordllama` wheel, no network.

Layout below `root`: `files/{file_id}.jsonl`, `batches/{batch_id}.json` (made by create, never changed), `cancels/{batch_id}`,
`ended/{batch_id}.json` (written last: a batch is terminal when it exists), `locks/`. Every file appears whole or not at all,
and everything computed is a function of the input file, so a process that dies leaves nothing but work to do again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import msgspec

from embedpipe.backends.batch_files import CANCELLED, EXPIRED, ItemError, check_metadata
from embedpipe.backends.disk import copy_in, disk_errors, read_or_none, write_bytes, written
from embedpipe.backends.flock import locked
from embedpipe.backends.local_answers import Job, Tally, answer, examine
from embedpipe.backends.wordllama_model import DIMENSIONS, MODEL_NAME, WordLlamaModel, check_dimensions, check_settings
from embedpipe.errors import CorruptData, InvalidInput, NotFound
from embedpipe.limits import BATCH_WINDOW_S, Limits
from embedpipe.model import ProviderBatch, ProviderIssue, RequestCounts
from embedpipe.ports import BatchProvider, Clock, QueryEmbedder

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

T = TypeVar("T")

_FILE_ID: Final = re.compile(r"file-(?:[0-9A-Za-z-]{1,80}|(?:output|errors)-batch_[0-9A-Za-z_-]{1,80})")
_BATCH_ID: Final = re.compile(r"batch_[0-9]{9}_[0-9A-Za-z-]{1,64}")
CONTENT_PIECE_BYTES: Final = 1 << 20

# Shares of the delay after which a batch leaves each state.
_VALIDATING_SHARE: Final = 0.1
_IN_PROGRESS_SHARE: Final = 0.9


class _Created(msgspec.Struct, kw_only=True):
    """`batches/{batch_id}.json`."""

    id: str
    input_file_id: str
    metadata: dict[str, str]
    created_at: datetime


class _Issue(msgspec.Struct):
    code: str
    message: str
    line: int | None


class _Ended(msgspec.Struct, kw_only=True):
    """`ended/{batch_id}.json`."""

    status: str
    total: int
    completed: int
    failed: int
    issues: list[_Issue]
    ended_at: datetime


class LocalModelProvider:
    """BatchProvider and QueryEmbedder below `root`, a local directory shared by any number of threads and processes.

    A batch takes `delay_s` from its creation; with 0 the first retrieve computes it. The retrieve that finds the delay over
    computes the whole batch (about 15,000 short texts a CPU second), once, while others wait. Requests may ask for 64, 128 or
    256 `dimensions`. A cancelled batch keeps the part that its delay had allowed for (half of it where there is none), and
    one whose delay is longer than 24 hours expires like that.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        model: str = MODEL_NAME,
        dimensions: int = DIMENSIONS[-1],
        send_dimensions: bool = True,
        delay_s: float = 0.0,
        limits: Limits | None = None,
    ) -> None:
        """`dimensions`, `send_dimensions`: what requests will ask for. `ConfigError` where the model has no such vectors."""
        check_settings(dimensions, sent=send_dimensions)
        self._root = Path(root)
        self._clock = clock
        self._model_name = model
        self._delay_s = delay_s
        self._limits = limits or Limits()
        self._model = WordLlamaModel()

    # --- the port --------------------------------------------------------------------------------------------------

    def upload(self, path: Path) -> str:
        """Keep a copy of the file. `StorageFull`."""
        file_id = f"file-{self._clock.new_id()}"
        copy_in(path, self._file(file_id))
        return file_id

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """Nothing is read yet: a bad input file shows when the batch is validated. `NotFound` without the file."""
        check_metadata(metadata)
        self._existing_file(input_file_id)
        with self._locked("create"):
            last = max(self._batch_ids(), default=None)
            number = int(last.split("_")[1]) + 1 if last else 1
            made = _Created(
                id=f"batch_{number:09d}_{self._clock.new_id()}",
                input_file_id=input_file_id,
                metadata=dict(metadata),
                created_at=self._clock.now(),
            )
            write_bytes(self._path("batches", made.id), msgspec.json.encode(made))
        return self._view(made, "validating")

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """What it says now; computes the batch when its time has come."""
        made = self._made(provider_batch_id)
        word = self._status(made)
        if word is None:
            with self._locked(made.id):
                self._end(made)
            word = self._status(made)
        return self._view(made, word or "finalizing")

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """Newest first, as of the first step; computes nothing."""
        if after is not None and not _BATCH_ID.fullmatch(after):
            raise _no_batch(after)
        for batch_id in sorted(self._batch_ids(), reverse=True):
            if after is None or batch_id < after:
                made = self._made(batch_id)
                yield self._view(made, self._status(made) or "in_progress")

    def content(self, file_id: str) -> Iterator[bytes]:
        """In pieces of 1 MB."""
        with self._existing_file(file_id).open("rb") as stream:
            while piece := stream.read(CONTENT_PIECE_BYTES):
                yield piece

    def cancel(self, provider_batch_id: str) -> None:
        """The next retrieve ends it with what was done until now."""
        made = self._made(provider_batch_id)
        with self._locked(made.id):
            if self._ended(made.id) is None and self._cancelled_at(made.id) is None:
                write_bytes(self._path("cancels", made.id), msgspec.json.encode(self._clock.now()))

    def delete_file(self, file_id: str) -> None:
        """Unlink it."""
        if _FILE_ID.fullmatch(file_id):
            with disk_errors(file_id):
                self._file(file_id).unlink(missing_ok=True)

    def embed(self, texts: Sequence[str], *, model: str, dimensions: int) -> Vectors:
        """Unit vectors. `InvalidInput` for an empty or too long text, another model or other dimensions."""
        if model != self._model_name:
            raise InvalidInput(f"The local provider has no model {ascii(model)[:80]}.", hint=f"Use {self._model_name}.")
        check_dimensions(dimensions)
        for text in texts:
            if not text or self._model.certainly_longer_than(text, self._limits.tokens_per_input):
                raise _unfit_text(text, self._limits.tokens_per_input)
        tokens = self._model.tokens(texts)
        for text, numbers in zip(texts, tokens, strict=True):
            if not 0 < len(numbers) <= self._limits.tokens_per_input:
                raise _unfit_text(text, self._limits.tokens_per_input)
        return self._model.vectors(tokens, dimensions)

    def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text, by the model's own tokenizer."""
        return [len(numbers) for numbers in self._model.tokens(texts)]

    # --- state -----------------------------------------------------------------------------------------------------

    def _status(self, made: _Created) -> str | None:
        """The provider's word for it; None when it is time to compute its end."""
        ended = self._ended(made.id)
        if ended is not None:
            return ended.status
        elapsed_s = (self._clock.now() - made.created_at).total_seconds()
        if elapsed_s >= min(self._delay_s, BATCH_WINDOW_S) or self._cancelled_at(made.id) is not None:
            return None
        if elapsed_s < self._delay_s * _VALIDATING_SHARE:
            return "validating"
        return "in_progress" if elapsed_s < self._delay_s * _IN_PROGRESS_SHARE else "finalizing"

    def _end(self, made: _Created) -> None:
        """Compute and store the end, unless somebody has. The caller holds the batch's lock."""
        if self._ended(made.id) is not None:
            return
        path = self._existing_file(made.input_file_id)
        examined = examine(path, self._limits)
        total = len(examined.offsets)
        if examined.issues:
            status, tally = "failed", Tally()
        else:
            status, run, unrun = self._share(made, total)
            job = Job(
                model=self._model,
                model_name=self._model_name,
                limits=self._limits,
                seed=made.id,
                run=run,
                unrun=unrun,
            )
            with written(self._file(_output_id(made.id))) as output, written(self._file(_errors_id(made.id))) as errors:
                tally = answer(path, examined, job, output, errors)
        ended = _Ended(
            status=status,
            total=total,
            completed=tally.completed,
            failed=tally.failed,
            issues=[_Issue(issue.code, issue.message, issue.line) for issue in examined.issues],
            ended_at=self._clock.now(),
        )
        write_bytes(self._path("ended", made.id), msgspec.json.encode(ended))

    def _share(self, made: _Created, total: int) -> tuple[str, int, ItemError]:
        """How the batch ends, how many of its requests are run, and the error of the others."""
        cancelled_at = self._cancelled_at(made.id)
        if cancelled_at is not None:
            spent_s = (cancelled_at - made.created_at).total_seconds()
            share = min(spent_s / self._delay_s, 1.0) if self._delay_s else 0.5
            return "cancelled", int(total * share), CANCELLED
        if self._delay_s > BATCH_WINDOW_S:
            return "expired", int(total * BATCH_WINDOW_S / self._delay_s), EXPIRED
        return "completed", total, EXPIRED

    def _view(self, made: _Created, status: str) -> ProviderBatch:
        shown = ProviderBatch(
            id=made.id,
            status=status,
            input_file_id=made.input_file_id,
            metadata=made.metadata,
            created_at=made.created_at,
        )
        ended = self._ended(made.id)
        if ended is None or ended.status != status:
            return shown
        return attrs.evolve(
            shown,
            output_file_id=_output_id(made.id) if ended.completed else None,
            error_file_id=_errors_id(made.id) if ended.failed else None,
            counts=RequestCounts(total=ended.total, completed=ended.completed, failed=ended.failed),
            issues=tuple(ProviderIssue(code=one.code, message=one.message, line=one.line) for one in ended.issues),
            ended_at=ended.ended_at,
        )

    # --- files -----------------------------------------------------------------------------------------------------

    def _path(self, folder: str, batch_id: str) -> Path:
        return self._root / folder / f"{batch_id}.json"

    def _file(self, file_id: str) -> Path:
        return self._root / "files" / f"{file_id}.jsonl"

    def _existing_file(self, file_id: str) -> Path:
        # The pattern has neither dots nor slashes, so an id from outside never leaves the folder.
        path = self._file(file_id) if _FILE_ID.fullmatch(file_id) else None
        if path is None or not path.is_file():
            raise NotFound(f"The provider knows no file {ascii(file_id)[:80]}.", file_id=file_id)
        return path

    def _made(self, batch_id: str) -> _Created:
        data = read_or_none(self._path("batches", batch_id)) if _BATCH_ID.fullmatch(batch_id) else None
        if data is None:
            raise _no_batch(batch_id)
        return _decoded(data, _Created, batch_id)

    def _ended(self, batch_id: str) -> _Ended | None:
        data = read_or_none(self._path("ended", batch_id))
        return None if data is None else _decoded(data, _Ended, batch_id)

    def _cancelled_at(self, batch_id: str) -> datetime | None:
        data = read_or_none(self._path("cancels", batch_id))
        return None if data is None else _decoded(data, datetime, batch_id)

    def _batch_ids(self) -> Sequence[str]:
        folder = self._root / "batches"
        names = [path.stem for path in folder.glob("batch_*.json")] if folder.is_dir() else []
        return sorted(name for name in names if _BATCH_ID.fullmatch(name))

    def _locked(self, name: str) -> AbstractContextManager[None]:
        with disk_errors(f"the lock {name}"):
            (self._root / "locks").mkdir(parents=True, exist_ok=True)
        return locked(self._root / "locks" / f"{name}.lock")


def _output_id(batch_id: str) -> str:
    return f"file-output-{batch_id}"


def _errors_id(batch_id: str) -> str:
    return f"file-errors-{batch_id}"


def _decoded(data: bytes, kind: type[T], batch_id: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise CorruptData(f"The local provider's state of {batch_id} is damaged: {error}", batch=batch_id) from None


def _no_batch(batch_id: str) -> NotFound:
    return NotFound(f"The provider knows no batch {ascii(batch_id)[:80]}.", provider_batch_id=batch_id)


def _unfit_text(text: str, tokens_max: int) -> InvalidInput:
    return InvalidInput(f"The text {ascii(text)[:40]} can't be embedded.", hint=f"Use 1 to {tokens_max} tokens.")


if TYPE_CHECKING:
    _provider: type[BatchProvider] = LocalModelProvider
    _embedder: type[QueryEmbedder] = LocalModelProvider

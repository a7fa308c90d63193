"""OpenAI's Batch API, Azure's, and that of any server that speaks it, through the official SDK.

The rule: one call of the port is one call of the API (of the list, one a page); nothing is repeated. Answers are read with
suspicion, since compatible servers leave fields out. How the client is made and its errors are mapped is next door.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embedpipe.backends.disk import disk_errors
from embedpipe.backends.openai_client import Connection
from embedpipe.backends.openai_errors import redacted
from embedpipe.backends.wordllama_model import MODEL_NAME as LOCAL_MODEL
from embedpipe.errors import (
    CollectionMismatch,
    ConfigError,
    NotFound,
    RefusedRequest,
    ServiceError,
    Throttled,
    Unavailable,
)
from embedpipe.lifecycle import PROVIDER_PHASES, Phase
from embedpipe.limits import PROVIDER_LIST_PAGE
from embedpipe.model import ProviderBatch, ProviderIssue, RequestCounts
from embedpipe.ports import BatchProvider, Clock, QueryEmbedder

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

__all__ = ["OpenAIProvider"]

ENDPOINT: Final = "/v1/embeddings"
WINDOW: Final = "24h"
CONTENT_PIECE_BYTES: Final = 1 << 20
INPUTS_PER_REQUEST_MAX: Final = 2_048  # [openai] inputs of one embeddings request
FILE_LOOKS_S: Final = 2.0
"""[ours] Pause between two looks at a file that is being processed."""
FILE_BUSY: Final = frozenset({"pending", "running", "notRunning"})
"""Statuses of a file that Azure does not take into a batch yet. Others, `uploaded` too, are as ready as they get."""
LOOK_AGAIN_S: Final = 5.0
"""[ours] Advice where a file is there and a create does not see it yet."""

_ID: Final = re.compile(r"(?!\.{1,2}$)[!$&-.0-9:;=@A-Z_a-z|~]{1,1000}")
"""An id that stays one segment of a path, whoever decodes it."""


class OpenAIProvider:
    """BatchProvider and QueryEmbedder at `base_url`; the SDK's default (OPENAI_BASE_URL, else OpenAI) where that is empty.

    With `api_version` the server is Azure OpenAI: `base_url` (or AZURE_OPENAI_ENDPOINT) is the resource's endpoint, and the
    model is the name of the deployment. `send_dimensions`: whether the model takes `dimensions`; only then do questions
    carry it. A call is given up after `timeout_s` without a byte.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        base_url: str = "",
        api_version: str = "",
        timeout_s: float = 600.0,
        file_ready_s: float = 300.0,
        model: str = "",
        send_dimensions: bool = False,
    ) -> None:
        """Connects to nothing. `MissingExtra`, and `ConfigError` for a `base_url` that is none or holds a password, and
        for a `model` that only the local provider has.
        """
        if model == LOCAL_MODEL and not base_url and not os.environ.get("OPENAI_BASE_URL"):
            # A batch for it would be made, fail as a whole, and be halved again and again.
            hint = "Set provider.model and provider.dimensions, such as text-embedding-3-small and 1536."
            raise ConfigError(f"OpenAI has no model {LOCAL_MODEL}, which is the local provider's.", hint=hint)
        self._clock = clock
        self._file_ready_s = file_ready_s
        self._send_dimensions = send_dimensions
        self._connection = Connection(clock, base_url=base_url, api_version=api_version, timeout_s=timeout_s)

    # --- the port --------------------------------------------------------------------------------------------------

    def upload(self, path: Path) -> str:
        """Stream the file up; on Azure, also wait up to `file_ready_s` until a batch may use it."""
        with self._connection.asking("Uploading a file") as client, disk_errors(str(path)), path.open("rb") as stream:
            # The name decides: a provider takes only .jsonl into a batch.
            made = client.files.create(file=(f"{path.stem}.jsonl", stream), purpose="batch")
        file_id, status = _text(made, "id"), _text(made, "status")
        if file_id is None or not _ID.fullmatch(file_id):
            raise self._connection.nonsense("Uploading a file", "no id that can be asked for")
        self._wait_for(file_id, status)
        return file_id

    def create(self, input_file_id: str, metadata: Mapping[str, str]) -> ProviderBatch:
        """One call. A file that is there although the create does not see it yet is `Throttled`, with no effect."""
        what = "Creating a batch"
        try:
            with self._connection.asking(what) as client:
                made = client.batches.create(
                    input_file_id=_segment(input_file_id, "file"),
                    endpoint=ENDPOINT,
                    completion_window=WINDOW,
                    metadata=dict(metadata),
                )
        except NotFound:
            if not self._is_there(input_file_id):
                raise
            raise Throttled(
                f"{what}: file {input_file_id} is there and a batch can't use it yet; nothing was made.",
                retry_after_s=LOOK_AGAIN_S,
                file_id=input_file_id,
            ) from None
        return self._view(made, what)

    def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """What it says now."""
        what = f"Looking at batch {ascii(provider_batch_id)[:80]}"
        with self._connection.asking(what) as client:
            found = client.batches.retrieve(_segment(provider_batch_id, "batch"))
        return self._view(found, what)

    def list(self, *, after: str | None = None) -> Iterator[ProviderBatch]:
        """Every batch of the project, those of other endpoints too, in pages of 100."""
        from openai import omit

        what = "Listing batches"
        with self._connection.asking(what) as client:
            start = omit if after is None else _segment(after, "batch")
            for found in client.batches.list(limit=PROVIDER_LIST_PAGE, after=start):
                yield self._view(found, what)

    def content(self, file_id: str) -> Iterator[bytes]:
        """In pieces of up to 1 MB, straight from the connection."""
        what = f"Reading file {ascii(file_id)[:80]}"
        with self._connection.asking(what) as client:
            asked = client.files.with_streaming_response.content(_segment(file_id, "file"))
            with asked as response:
                yield from response.iter_bytes(CONTENT_PIECE_BYTES)

    def cancel(self, provider_batch_id: str) -> None:
        """One call, and a look at the batch where the answer is a no: it may have ended."""
        what = f"Cancelling batch {ascii(provider_batch_id)[:80]}"
        try:
            with self._connection.asking(what) as client:
                client.batches.cancel(_segment(provider_batch_id, "batch"))
        except (RefusedRequest, Unavailable):
            status = self.retrieve(provider_batch_id).status
            if PROVIDER_PHASES.get(status) is not Phase.ENDED and status != "cancelling":
                raise

    def delete_file(self, file_id: str) -> None:
        """One call. The provider also removes files by itself, 30 days after they were made."""
        with suppress(NotFound), self._connection.asking(f"Deleting file {ascii(file_id)[:80]}") as client:
            client.files.delete(_segment(file_id, "file"))

    def embed(self, texts: Sequence[str], *, model: str, dimensions: int) -> Vectors:
        """Shape (len(texts), dimensions), float32. `CollectionMismatch` where the model's vectors are of another length."""
        import numpy as np

        parts = [
            self._embed(texts[start : start + INPUTS_PER_REQUEST_MAX], model, dimensions)
            for start in range(0, len(texts), INPUTS_PER_REQUEST_MAX)
        ]
        return np.concatenate([np.empty((0, dimensions), np.float32), *parts])

    def close(self) -> None:
        """Close the connections; quiet when called twice."""
        self._connection.close()

    # --- questions -------------------------------------------------------------------------------------------------

    def _embed(self, texts: Sequence[str], model: str, dimensions: int) -> Vectors:
        from openai import omit

        what = f"Embedding {len(texts)} texts with {ascii(model)[:80]}"
        with self._connection.asking(what) as client:
            answer = client.embeddings.create(
                model=model,
                input=list(texts),
                encoding_format="base64",
                dimensions=dimensions if self._send_dimensions else omit,
            )
            found = {one.index: _vector(one.embedding) for one in answer.data}
        if found.keys() != set(range(len(texts))):
            raise self._connection.nonsense(what, f"{len(found)} of them")
        return _stacked([found[number] for number in range(len(texts))], model, dimensions)

    # --- files -----------------------------------------------------------------------------------------------------

    def _file_status(self, file_id: str) -> str | None:
        what = f"Looking at file {ascii(file_id)[:80]}"
        with self._connection.asking(what) as client:
            return _text(client.files.retrieve(_segment(file_id, "file")), "status")

    def _is_there(self, file_id: str) -> bool:
        try:
            self._file_status(file_id)
        except ServiceError:
            return False
        return True

    def _wait_for(self, file_id: str, status: str | None) -> None:
        """Until a batch may use the file."""
        end_s = self._clock.monotonic_s() + self._file_ready_s
        while status in FILE_BUSY:
            if self._clock.monotonic_s() >= end_s:
                raise Unavailable(f"File {file_id} is still {status} after {self._file_ready_s:g} s.", file_id=file_id)
            self._clock.sleep(FILE_LOOKS_S)
            status = self._file_status(file_id)
        if status == "error":
            raise RefusedRequest(f"The provider can't use the uploaded file {file_id}.", reason="file_error")

    # --- reading ---------------------------------------------------------------------------------------------------

    def _view(self, batch: object, what: str) -> ProviderBatch:
        """What a batch says, in our words. `Unavailable` where it is none."""
        batch_id, status = _text(batch, "id"), _text(batch, "status")
        if batch_id is None or status is None:
            raise self._connection.nonsense(what)
        if not _ID.fullmatch(batch_id):  # nobody could look at it again, nor perhaps keep it
            raise self._connection.nonsense(what, "no id that can be asked for")
        counts = getattr(batch, "request_counts", None)
        metadata = getattr(batch, "metadata", None)
        return ProviderBatch(
            id=batch_id,
            status=status,
            input_file_id=_text(batch, "input_file_id"),
            output_file_id=_text(batch, "output_file_id"),
            error_file_id=_text(batch, "error_file_id"),
            counts=RequestCounts(
                total=_count(counts, "total"), completed=_count(counts, "completed"), failed=_count(counts, "failed")
            ),
            issues=_issues(getattr(batch, "errors", None)),
            metadata={str(name): str(value) for name, value in metadata.items()} if isinstance(metadata, dict) else {},
            created_at=_time(batch, "created_at"),
            ended_at=_time(batch, f"{status}_at"),
        )


def _text(found: object, name: str) -> str | None:
    """A field that is a text; an empty one counts as absent."""
    value = getattr(found, name, None)
    return value if isinstance(value, str) and value else None


def _count(found: object, name: str) -> int:
    value = getattr(found, name, None)
    return max(value, 0) if isinstance(value, int) else 0


def _time(found: object, name: str) -> datetime | None:
    value = getattr(found, name, None)
    if not isinstance(value, int | float) or not 0 < value < 1e11:
        return None
    return datetime.fromtimestamp(value, UTC)


def _issues(errors: object) -> tuple[ProviderIssue, ...]:
    found = getattr(errors, "data", None)
    return tuple(
        ProviderIssue(
            code=_text(issue, "code") or "unknown",
            message=redacted(_text(issue, "message") or ""),
            line=_count(issue, "line") or None,
        )
        for issue in (found if isinstance(found, list) else [])
    )


def _vector(embedding: object) -> Vectors:
    """One vector as it came: packed, or as numbers from a server that does not pack."""
    import base64

    import numpy as np

    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
    return np.asarray(embedding, np.float32)


def _stacked(vectors: Sequence[Vectors], model: str, dimensions: int) -> Vectors:
    import numpy as np

    for vector in vectors:
        if vector.shape != (dimensions,):
            raise CollectionMismatch(
                f"{ascii(model)[:80]} gave a vector of {vector.size} dimensions; the collection has {dimensions}.",
                hint="Set provider.dimensions, and provider.send_dimensions where the model takes it.",
            )
    return np.stack(vectors)


def _segment(given: str, kind: str) -> str:
    if not _ID.fullmatch(given):
        raise NotFound(f"The provider knows no {kind} {ascii(given)[:80]}.")
    return given


if TYPE_CHECKING:
    _provider: type[BatchProvider] = OpenAIProvider
    _embedder: type[QueryEmbedder] = OpenAIProvider

"""The JSON of OpenAI's API, both ways: what a client may send, and the documents it is answered with. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from embedpipe.backends.batch_files import ENDPOINT, Body
from embedpipe.errors import (
    EmbedpipeError,
    MisuseError,
    NotFound,
    RefusedRequest,
    Throttled,
    Unauthorized,
)
from embedpipe.lifecycle import PROVIDER_PHASES, Phase
from embedpipe.limits import BATCH_WINDOW_S
from embedpipe.model import ProviderBatch, ProviderIssue

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

WINDOW: Final = "24h"
FILE_KEPT: Final = timedelta(days=30)
INPUTS_PER_REQUEST_MAX: Final = 2_048


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s


# --- what is sent --------------------------------------------------------------------------------------------------


class CreateBatch(msgspec.Struct):
    """Body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None

    def check(self) -> None:
        """`Refusal` of what the call itself has wrong."""
        if self.endpoint != ENDPOINT:
            raise Refusal(400, f"endpoint must be {ENDPOINT}.", code="invalid_value", param="endpoint")
        if self.completion_window != WINDOW:
            raise Refusal(400, f"completion_window must be {WINDOW}.", code="invalid_value", param="completion_window")


class CreateEmbeddings(Body):
    """Body of `POST /v1/embeddings`: what a line of an input file has, asked at once."""

    def check(self) -> None:
        """`Refusal` of what the call itself has wrong."""
        if self.encoding_format not in ("float", "base64"):
            raise Refusal(400, "encoding_format is neither float nor base64.", param="encoding_format")
        if not 1 <= len(self.texts) <= INPUTS_PER_REQUEST_MAX:
            raise Refusal(400, f"input must have 1 to {INPUTS_PER_REQUEST_MAX} texts.", param="input")


# --- what is answered ----------------------------------------------------------------------------------------------

_PARAMS: Final[Mapping[str, str]] = {
    "duplicate_custom_id": "custom_id",
    "missing_required_parameter": "custom_id",
    "mismatched_endpoint": "url",
    "invalid_method": "method",
    "model_mismatch": "body.model",
    "model_not_found": "body.model",
}
"""Code of an issue -> the parameter that it is about."""


def batch_document(batch: ProviderBatch, now: datetime) -> dict[str, Any]:
    """A batch. Times that its provider does not tell are those of its creation."""
    created_at = batch.created_at or now
    document: dict[str, Any] = {
        "id": batch.id,
        "object": "batch",
        "endpoint": ENDPOINT,
        "errors": _issues_document(batch.issues) if batch.issues else None,
        "input_file_id": batch.input_file_id,
        "completion_window": WINDOW,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": int(created_at.timestamp()),
        "expires_at": int(created_at.timestamp()) + BATCH_WINDOW_S,
        "request_counts": {
            "total": batch.counts.total,
            "completed": batch.counts.completed,
            "failed": batch.counts.failed,
        },
        "metadata": dict(batch.metadata),
    }
    if PROVIDER_PHASES.get(batch.status) is Phase.ENDED:
        document[f"{batch.status}_at"] = int((batch.ended_at or created_at).timestamp())
    return document


def _issues_document(issues: Sequence[ProviderIssue]) -> dict[str, Any]:
    data = [
        {"code": issue.code, "message": issue.message, "param": _PARAMS.get(issue.code), "line": issue.line}
        for issue in issues
    ]
    return {"object": "list", "data": data}


def file_document(
    file_id: str, size_bytes: int, name: str, created_at: datetime, *, purpose: str = "batch"
) -> dict[str, Any]:
    """A file."""
    return {
        "id": file_id,
        "object": "file",
        "bytes": size_bytes,
        "created_at": int(created_at.timestamp()),
        "expires_at": int((created_at + FILE_KEPT).timestamp()),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }


def list_document(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def embeddings_document(wanted: CreateEmbeddings, vectors: Vectors, tokens: int) -> dict[str, Any]:
    """Vectors, packed where that was asked for. `vectors`: shape (inputs, dimensions)."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if wanted.encoding_format == "base64"
            else [float(number) for number in vector],
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": wanted.model, "usage": usage}


def error_document(refusal: Refusal) -> dict[str, Any]:
    """An error."""
    if refusal.status >= 500:
        kind = "server_error"
    elif refusal.code == "insufficient_quota":
        kind = "insufficient_quota"
    else:
        kind = "requests" if refusal.status == 429 else "invalid_request_error"
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}


_STATUSES: Final[Sequence[tuple[type[EmbedpipeError], int, str | None]]] = (
    (NotFound, 404, None),
    (Unauthorized, 401, "invalid_api_key"),
    (Throttled, 429, "rate_limit_exceeded"),
    (MisuseError, 400, "invalid_value"),
)
"""Any other error of the provider is a 500."""


def refusal_of(error: EmbedpipeError) -> Refusal:
    """The answer that an error of the provider becomes."""
    if isinstance(error, RefusedRequest):
        return Refusal(429 if error.reason == "insufficient_quota" else 400, error.message, code=error.reason)
    fitting = ((status, code) for kind, status, code in _STATUSES if isinstance(error, kind))
    status, code = next(fitting, (500, None))
    advice_s = error.retry_after_s if isinstance(error, Throttled) else None
    return Refusal(status, error.message, code=code, retry_after_s=advice_s)

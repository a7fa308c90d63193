"""The endpoints of OpenAI's Files, Batches and Embeddings API in front of any BatchProvider.

The rule: what a client sees is what the real service shows, errors included; how a batch is worked on is the provider's
affair. Files deleted here, and endings forced by the table of failures, are remembered until the server ends.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import msgspec

from embedpipe.assembly import embedder_of
from embedpipe.errors import EmbedpipeError, missing_extra
from embedpipe.model import ProviderIssue
from embedpipe.ports import BatchProvider, Clock
from simulator.serving.endings import Ending, ForcedEndings, model_issues
from simulator.serving.failures import Answer, Call, Failures
from simulator.serving.shapes import (
    CreateBatch,
    CreateEmbeddings,
    Refusal,
    batch_document,
    embeddings_document,
    error_document,
    file_document,
    list_document,
    refusal_of,
)

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send
except ImportError as error:
    raise missing_extra("simulator", error.name or "starlette") from error

__all__ = ["Endpoints", "answer_broken", "answer_unknown"]

T = TypeVar("T")
Handler = Callable[[Request, Answer], Awaitable[Response]]

AS_USUAL: Final = Answer()
LIST_LIMIT: Final = 20
LIST_LIMIT_MAX: Final = 100
FILES_LIMIT: Final = 10_000

_log: Final = logging.getLogger(__name__)


class Torn(Response):
    """An answer that breaks off: the client knows no more than if it had never come."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  the protocol's
        """A length that is never reached, so the server closes the connection."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


class Endpoints:
    """Each is a coroutine that does its work in a thread, since ports are synchronous."""

    def __init__(
        self, provider: BatchProvider, clock: Clock, *, failures: Failures, model: str | None, dimensions: int
    ) -> None:
        self._provider = ForcedEndings(provider)
        self._embedder = embedder_of(provider)
        self._count_tokens = getattr(provider, "count_tokens", None)
        self._clock = clock
        self._failures = failures
        self._model = model
        self._dimensions = dimensions
        self._files: dict[str, dict[str, Any]] = {}
        """What clients uploaded here, oldest first."""
        self._deleted: set[str] = set()

    def routes(self) -> list[Route]:
        """Paths and what answers there."""
        table: list[tuple[str, str, Call, Handler]] = [
            ("POST", "/v1/files", "files.create", self.create_file),
            ("GET", "/v1/files", "files.list", self.list_files),
            ("GET", "/v1/files/{id}", "files.retrieve", self.retrieve_file),
            ("DELETE", "/v1/files/{id}", "files.delete", self.delete_file),
            ("GET", "/v1/files/{id}/content", "files.content", self.file_content),
            ("POST", "/v1/batches", "batches.create", self.create_batch),
            ("GET", "/v1/batches", "batches.list", self.list_batches),
            ("GET", "/v1/batches/{id}", "batches.retrieve", self.retrieve_batch),
            ("POST", "/v1/batches/{id}/cancel", "batches.cancel", self.cancel_batch),
            ("POST", "/v1/embeddings", "embeddings.create", self.create_embeddings),
        ]
        return [Route(path, self._answering(call, handler), methods=[method]) for method, path, call, handler in table]

    def _answering(self, call: Call, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The handler, with what the table of failures says about this call, and errors as answers."""

        async def endpoint(request: Request) -> Response:
            answer = self._failures.next(call) or AS_USUAL
            if answer.status is not None:
                response = _told(answer)
            elif answer.lose == "request":
                return Torn()
            else:
                response = await _answered(handler, request, answer)
            await anyio.sleep(answer.delay_s)
            return Torn() if answer.lose == "answer" else response

        return endpoint

    # --- files -----------------------------------------------------------------------------------------------------

    async def create_file(self, request: Request, _: Answer) -> Response:
        """Take an input file in, streamed through a temporary one."""
        async with request.form(max_files=1, max_fields=10) as form:
            upload, purpose = form.get("file"), form.get("purpose")
            if not isinstance(upload, UploadFile):
                raise Refusal(400, "'file' is a required property.", param="file")
            if purpose != "batch":
                raise Refusal(400, f"{str(purpose)[:80]!a} is not one of ['batch'] - 'purpose'.", param="purpose")
            name = Path(upload.filename or "").name
            if not name.endswith(".jsonl"):
                raise Refusal(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
            return await _in_thread(lambda: self._store(upload, name))

    def _store(self, upload: UploadFile, name: str) -> Response:
        with tempfile.TemporaryDirectory(prefix="embedpipe-serve-") as folder:
            path = Path(folder) / "input.jsonl"
            with path.open("wb") as target:
                shutil.copyfileobj(upload.file, target, 1 << 20)
            size_bytes = path.stat().st_size
            file_id = self._provider.upload(path)
        self._files[file_id] = file_document(file_id, size_bytes, name, self._clock.now())
        return _json(self._files[file_id])

    async def list_files(self, request: Request, _: Answer) -> Response:
        """The files uploaded here, newest first."""
        after, limit = _page(request, FILES_LIMIT, FILES_LIMIT)
        found = [document for name, document in reversed(self._files.items()) if name not in self._deleted]
        names = [document["id"] for document in found]
        start = names.index(after) + 1 if after in names else 0
        return _json(list_document(found[start : start + limit], has_more=len(found) > start + limit))

    async def retrieve_file(self, request: Request, _: Answer) -> Response:
        """What is known of one file; of an output file, its size."""
        file_id = self._existing(request)
        known = self._files.get(file_id)
        if known is not None:  # its provider may have lost it since, or it has expired there
            await self._look_at(file_id)
        else:
            size_bytes = await _in_thread(lambda: sum(map(len, self._provider.content(file_id))))
            known = file_document(file_id, size_bytes, f"{file_id}.jsonl", self._clock.now(), purpose="batch_output")
        return _json(known)

    async def delete_file(self, request: Request, _: Answer) -> Response:
        """Its provider removes it, and from now on it is not found."""
        file_id = self._existing(request)
        await self._look_at(file_id)
        await _in_thread(lambda: self._provider.delete_file(file_id))
        self._deleted.add(file_id)
        return _json({"id": file_id, "object": "file", "deleted": True})

    async def file_content(self, request: Request, _: Answer) -> Response:
        """Its bytes, in pieces. The first is read before anything is sent, so that an unknown file is a 404."""
        pieces = self._provider.content(self._existing(request))
        first = await _in_thread(lambda: next(pieces, b""))
        return StreamingResponse(_after(first, pieces), media_type="application/octet-stream")

    async def _look_at(self, file_id: str) -> None:
        """A 404 where its provider does not know it."""
        await _in_thread(lambda: next(iter(self._provider.content(file_id)), b""))

    def _existing(self, request: Request) -> str:
        file_id: str = request.path_params["id"]
        if file_id in self._deleted:
            raise _no_file(file_id)
        return file_id

    # --- batches ---------------------------------------------------------------------------------------------------

    async def create_batch(self, request: Request, answer: Answer) -> Response:
        """What concerns the call is refused here; what is wrong with the file shows when the batch is validated."""
        wanted = await _body(request, CreateBatch)
        wanted.check()
        if wanted.input_file_id in self._deleted:
            raise _no_file(wanted.input_file_id)
        return await _in_thread(lambda: self._create(wanted, answer))

    def _create(self, wanted: CreateBatch, answer: Answer) -> Response:
        found = model_issues(self._provider, wanted.input_file_id, self._model)
        batch = self._provider.create(wanted.input_file_id, wanted.metadata or {})
        ending = _ending(answer, found)
        if ending is not None:
            self._provider.force(batch, ending)
        return _json(batch_document(batch, self._clock.now()))

    async def list_batches(self, request: Request, _: Answer) -> Response:
        """A page, newest first."""
        after, limit = _page(request, LIST_LIMIT, LIST_LIMIT_MAX)
        found = await _in_thread(lambda: list(islice(self._provider.list(after=after), limit + 1)))
        now = self._clock.now()
        return _json(
            list_document([batch_document(batch, now) for batch in found[:limit]], has_more=len(found) > limit)
        )

    async def retrieve_batch(self, request: Request, _: Answer) -> Response:
        """What it says now."""
        return await _in_thread(lambda: self._shown(request.path_params["id"]))

    async def cancel_batch(self, request: Request, _: Answer) -> Response:
        """Ask for its end. A 409 where it had ended before, as the real service does."""
        return await _in_thread(lambda: self._cancel(request.path_params["id"]))

    def _cancel(self, batch_id: str) -> Response:
        self._provider.cancel(batch_id)
        batch = self._provider.retrieve(batch_id)
        if batch.status in ("completed", "failed", "expired"):
            raise Refusal(409, f"Cannot cancel a batch with status '{batch.status}'.")
        return _json(batch_document(batch, self._clock.now()))

    def _shown(self, batch_id: str) -> Response:
        return _json(batch_document(self._provider.retrieve(batch_id), self._clock.now()))

    # --- questions -------------------------------------------------------------------------------------------------

    async def create_embeddings(self, request: Request, _: Answer) -> Response:
        """A few vectors at once."""
        wanted = await _body(request, CreateEmbeddings)
        wanted.check()
        return await _in_thread(lambda: self._embed(wanted))

    def _embed(self, wanted: CreateEmbeddings) -> Response:
        dimensions = self._dimensions if wanted.dimensions is None else wanted.dimensions
        vectors = self._embedder.embed(wanted.texts, model=wanted.model, dimensions=dimensions)
        tokens = sum(self._count_tokens(wanted.texts)) if self._count_tokens else 0
        return _json(embeddings_document(wanted, vectors, tokens))


# --- answers -------------------------------------------------------------------------------------------------------


async def _answered(handler: Handler, request: Request, answer: Answer) -> Response:
    try:
        return await handler(request, answer)
    except Refusal as refusal:
        return _refused(refusal)
    except EmbedpipeError as error:
        return _refused(refusal_of(error))
    except HTTPException as error:  # a form that can't be read
        return _refused(Refusal(400, str(error.detail)))


def _told(answer: Answer) -> Response:
    """The answer that the table of failures gives."""
    assert answer.status is not None
    message = answer.message or f"The table of failures says {answer.status}."
    return _refused(Refusal(answer.status, message, code=answer.code, retry_after_s=answer.retry_after_s))


def _refused(refusal: Refusal) -> Response:
    headers = {} if refusal.retry_after_s is None else {"retry-after": f"{refusal.retry_after_s:g}"}
    return _json(error_document(refusal), refusal.status, headers)


def _json(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, headers, media_type="application/json")


def _ending(answer: Answer, found: tuple[ProviderIssue, ...]) -> Ending | None:
    if found:
        return Ending(status="failed", issues=found)
    if answer.end is None:
        return None
    issue = ProviderIssue(code=answer.code or "internal_error", message=answer.message or "Told so.", line=answer.line)
    return Ending(status=answer.end, answered=answer.answered, issues=(issue,))


def _no_file(file_id: str) -> Refusal:
    return Refusal(404, f"No such File object: {file_id[:80]}", param="id")


async def _in_thread(work: Callable[[], T]) -> T:
    return await run_in_threadpool(work)


def _after(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


D = TypeVar("D", bound=msgspec.Struct)


async def _body(request: Request, kind: type[D]) -> D:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"The request body is refused: {error}") from None


def _page(request: Request, usual: int, most: int) -> tuple[str | None, int]:
    limit = request.query_params.get("limit") or str(usual)
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= most:
        raise Refusal(400, f"limit must be a number from 1 to {most}.", param="limit")
    return request.query_params.get("after") or None, int(limit)


async def answer_unknown(_: Request, error: Exception) -> Response:
    """Where no endpoint is."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _refused(Refusal(status, "Invalid URL or method.", code="unknown_url"))


async def answer_broken(_: Request, error: Exception) -> Response:
    """What is no error of ours."""
    _log.error("An error in the server itself: %r", error)
    return _refused(Refusal(500, "The server had an error."))

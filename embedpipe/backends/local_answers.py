"""From an input file to the lines of its output and error files, in bounded memory: what the local provider computes.

The rule: the answers are a function of the file, the model and the seed, so computing them again gives the same bytes. Lines
come shuffled over the whole file, as a real provider's do. Knows nothing of batches, times or locks.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from embedpipe.backends.batch_files import ItemError, Request, answer_line, error_line, issues, read_request
from embedpipe.backends.wordllama_model import DIMENSIONS, WordLlamaModel
from embedpipe.limits import Limits
from embedpipe.model import ProviderIssue

INPUTS_PER_BLOCK: Final = 1_000
INPUTS_PER_REQUEST_MAX: Final = 2_048  # [openai] inputs of one embeddings request


@attrs.frozen(kw_only=True)
class Examined:
    """What validation found out about an input file."""

    issues: tuple[ProviderIssue, ...]
    offsets: array[int]
    """Where each line starts."""


@attrs.frozen(kw_only=True)
class Tally:
    """How many requests have an answer, and how many an error."""

    completed: int = 0
    failed: int = 0


@attrs.define(eq=False)
class _Item:
    """One request on its way to its line."""

    number: int
    """Its position in the input file, from 0."""
    request: Request
    error: ItemError | None = None
    tokens: Sequence[Sequence[int]] = ()
    vectors: Any = None


@attrs.frozen(kw_only=True)
class Job:
    """What to compute. Of the requests, the first `run` are; the others get `unrun` as their error."""

    model: WordLlamaModel
    model_name: str
    limits: Limits
    seed: str
    run: int
    unrun: ItemError


def examine(path: Path, limits: Limits) -> Examined:
    """Read the file once and validate it."""
    offsets = array("q")

    def lines(stream: BinaryIO) -> Iterator[bytes]:
        at = 0
        for line in stream:
            offsets.append(at)
            at += len(line)
            yield line.removesuffix(b"\n")

    with path.open("rb") as stream:
        found, _ = issues(lines(stream), path.stat().st_size, limits)
    return Examined(issues=found, offsets=offsets)


def answer(path: Path, examined: Examined, job: Job, output: BinaryIO, errors: BinaryIO) -> Tally:
    """Write all lines; each request has exactly one."""
    order = list(range(len(examined.offsets)))
    random.Random(job.seed).shuffle(order)
    completed = failed = 0
    with path.open("rb") as stream:
        for block in _blocks(stream, examined.offsets, order):
            for line, good in _lines(block, job):
                (output if good else errors).write(line)
                completed += good
                failed += not good
    return Tally(completed=completed, failed=failed)


def _blocks(stream: BinaryIO, offsets: Sequence[int], order: Sequence[int]) -> Iterator[list[_Item]]:
    """Requests in that order, in blocks of about `INPUTS_PER_BLOCK` texts, one request at least."""
    block: list[_Item] = []
    texts = 0
    for number in order:
        stream.seek(offsets[number])
        item = _Item(number, read_request(stream.readline()))
        block.append(item)
        texts += len(item.request.body.texts)
        if texts >= INPUTS_PER_BLOCK:
            yield block
            block, texts = [], 0
    if block:
        yield block


def _lines(block: Sequence[_Item], job: Job) -> Iterator[tuple[bytes, bool]]:
    """The line of each request, and whether it is an answer."""
    for item in block:
        item.error = job.unrun if item.number >= job.run else refusal(item.request, job)
    _tokenize([item for item in block if item.error is None], job)
    _embed([item for item in block if item.error is None], job)
    for item in block:
        line_id = f"batch_req_{job.seed}_{item.number}"
        if item.error is not None:
            yield error_line(item.request.custom_id, item.error, line_id=line_id), False
        else:
            used = sum(map(len, item.tokens))
            yield answer_line(item.request, item.vectors, line_id=line_id, tokens=used), True


def _tokenize(items: Sequence[_Item], job: Job) -> None:
    tokens = iter(job.model.tokens([text for item in items for text in item.request.body.texts]))
    for item in items:
        item.tokens = [next(tokens) for _ in item.request.body.texts]
        item.error = _too_long(item.tokens, job.limits)


def _embed(items: Sequence[_Item], job: Job) -> None:
    for dimensions in DIMENSIONS:
        wanted = [item for item in items if (item.request.body.dimensions or DIMENSIONS[-1]) == dimensions]
        vectors = job.model.vectors([own for item in wanted for own in item.tokens], dimensions)
        start = 0
        for item in wanted:
            item.vectors = vectors[start : start + len(item.tokens)]
            start += len(item.tokens)


def refusal(request: Request, job: Job) -> ItemError | None:
    """Why a request is refused before its tokens are counted."""
    body = request.body
    if body.model != job.model_name:
        return ItemError(404, "model_not_found", f"The model {body.model[:80]} does not exist; use {job.model_name}.")
    if body.dimensions is not None and body.dimensions not in DIMENSIONS:
        return ItemError(400, "invalid_dimensions", f"dimensions must be one of {DIMENSIONS}.")
    if not 1 <= len(body.texts) <= INPUTS_PER_REQUEST_MAX:
        return ItemError(400, "invalid_array_length", f"input must have 1 to {INPUTS_PER_REQUEST_MAX} texts.")
    if not all(body.texts):
        return ItemError(400, "empty_string", "input must not be an empty string.")
    if any(job.model.certainly_longer_than(text, job.limits.tokens_per_input) for text in body.texts):
        return _above(job.limits)
    return None


def _too_long(tokens: Sequence[Sequence[int]], limits: Limits) -> ItemError | None:
    if any(not own for own in tokens):
        return ItemError(400, "no_tokens", "The input has no tokens, and so no vector.")
    return _above(limits) if any(len(own) > limits.tokens_per_input for own in tokens) else None


def _above(limits: Limits) -> ItemError:
    limit = limits.tokens_per_input
    return ItemError(400, "string_above_max_length", f"An input has more tokens than this model's maximum of {limit}.")

"""Normalise, decided: exactly the listed batches, each once, each under its own name; and whether the provider is ours.

What can't be read stays in the array as `unreadable_result` with its reason: never skipped, and never in the way of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from embedpipe.errors import CorruptData, ProviderMismatch
from embedpipe.lifecycle import Action
from embedpipe.stages.poll import WaitReason
from embedpipe.wire import ManifestBatch, Result


def given_results(poll_results: Sequence[object] | None) -> dict[str, Result]:
    """Full results among what the Map returned, by `batch_id`. References, nulls and anything else are passed over.

    A deployment of the seed's design may return results in place of references.
    """
    found: dict[str, Result] = {}
    for item in poll_results or ():
        if isinstance(item, Mapping) and isinstance(item.get("batch_id"), str) and item.get("action") is not None:
            try:
                result = Result.load(item, f"poll_results of {ascii(item['batch_id'])[:80]}")
            except CorruptData:
                continue  # its register is read, and what it lacks is said there
            found.setdefault(result.batch_id, result)
    return found


def one(batch: ManifestBatch, register: Result | str, given: Result | None) -> Result:
    """The element of one listed batch: its register, else a full result that was handed over, else why there is none.

    `register`: the register, or the reason why it could not be read.
    """
    reason = register if isinstance(register, str) else _mismatch(batch, register)
    if isinstance(register, Result) and reason is None:
        return register
    if given is not None and _mismatch(batch, given) is None:
        return given
    return Result(
        batch_id=batch.batch_id,
        openai_batch_id=batch.openai_batch_id,
        action=Action.UNREADABLE_RESULT,
        reason=reason,
    )


def _mismatch(batch: ManifestBatch, result: Result) -> str | None:
    if result.batch_id != batch.batch_id:
        return f"the register holds batch_id {ascii(result.batch_id)[:80]}"
    if None not in (batch.openai_batch_id, result.openai_batch_id) and batch.openai_batch_id != result.openai_batch_id:
        return f"the register holds openai_batch_id {ascii(result.openai_batch_id)[:80]}"
    return None


def unreadable(results: Sequence[Result]) -> tuple[Result, ...]:
    """Those of which nothing is known."""
    return tuple(result for result in results if result.action is Action.UNREADABLE_RESULT)


def with_own_name(batch: ManifestBatch, result: Result) -> Result:
    """The result with the provider's name filled in where only the listing has it."""
    if result.openai_batch_id is None and batch.openai_batch_id is not None:
        return attrs.evolve(result, openai_batch_id=batch.openai_batch_id)
    return result


STRANGE = frozenset({WaitReason.NOT_FOUND.value, WaitReason.UNAUTHORIZED.value})


def check_provider(results: Sequence[Result], execution_id: str) -> None:
    """Stop an execution whose provider refuses, or does not know, most of its batches: likely another key or project.

    Nothing but `wait` registers has been written then, so nothing is lost and nothing submitted again. What an earlier
    execution was told, of batches whose poll has failed in this one, says nothing of the provider as it is now.
    """
    strange = [
        result
        for result in results
        if result.action is Action.WAIT and result.reason in STRANGE and result.execution_id == execution_id
    ]
    if not strange or 2 * len(strange) <= len(results):
        return
    refused = sum(result.reason == WaitReason.UNAUTHORIZED for result in strange)
    what = f"refused access (401 or 403) for {refused}" if refused else f"does not know (404) {len(strange)}"
    raise ProviderMismatch(
        f"The provider {what} of {len(results)} batches; nothing was changed.",
        hint="Check that the API key belongs to the project that the batches were created in, then run again.",
    )

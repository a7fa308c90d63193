"""Steps by name, JSON object in and out: what the local runner and every handler call. No decision is made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from embedpipe.errors import CorruptData
from embedpipe.layout import safe_id
from embedpipe.steps.context import Context

CARRY: Final = "Check that every path of the workflow carries it."


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value:
        raise CorruptData(f"The step's input has no '{name}'.", hint=CARRY, field=name)
    return value


def _execution(event: Mapping[str, Any], name: str = "execution_id") -> str:
    return safe_id(_text(event, name), name)


def _number(event: Mapping[str, Any], name: str) -> int:
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CorruptData(
            f"The step's input '{name}' is {ascii(value)[:40]}, not a whole number from 0.", hint=CARRY, field=name
        )
    return value


def _results(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    bucket = event.get("poll_results_s3_bucket")
    if bucket is not None and bucket != ctx.objects.bucket:
        raise CorruptData(f"poll_results_s3_bucket is {ascii(bucket)[:80]}; this pipeline's is '{ctx.objects.bucket}'.")
    return {"poll_results_s3_key": _text(event, "poll_results_s3_key"), "poll_results_s3_bucket": bucket}


def _submit(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.reading import read_copy
    from embedpipe.steps.submit import submit

    key = _text(event, "records_s3_key")
    with ctx.scratch() as folder:
        path = folder / "records.jsonl"
        ctx.objects.download(key, path)
        return submit(ctx, read_copy(path, f"{ctx.objects.bucket}/{key}"), execution_id=_execution(event)).to_dict()


def _create_pending(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.create import finish

    done = finish(ctx, execution_id=_execution(event))
    return {
        "created": done.created,
        "waiting": done.waiting,
        "ambiguous": done.ambiguous,
        "refusals": list(done.refusals[:3]),
    }


def _list_pending(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.list_pending import list_pending

    return list_pending(ctx, execution_id=_execution(event)).to_dict()


def _poll(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.poll import poll

    return poll(ctx, batch_id=_text(event, "batch_id"), execution_id=_execution(event)).to_dict()


def _normalize(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.normalize import normalize

    # `batch_id` is the execution's id here: the seed's name for it.
    given = event.get("poll_results")
    if given is not None and not isinstance(given, list):
        raise CorruptData(f"poll_results is {type(given).__name__}, not an array.")
    return normalize(ctx, execution_id=_execution(event, "batch_id"), poll_results=given).to_dict()


def _split(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.chunk import split

    return split(ctx, execution_id=_execution(event), **_results(ctx, event)).to_dict()


def _process_chunk(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.chunk import process

    return process(ctx, execution_id=_execution(event), index=_number(event, "index")).to_dict()


def _final_merge(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.merge import final_merge

    return final_merge(
        ctx,
        execution_id=_execution(event),
        next_chunk=0 if event.get("next_chunk") is None else _number(event, "next_chunk"),  # the first call has none
        **_results(ctx, event),
    ).to_dict()


def _mark_complete(ctx: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    from embedpipe.steps.mark_complete import mark_complete

    key = _results(ctx, event)["poll_results_s3_key"]
    return mark_complete(ctx, execution_id=_execution(event), poll_results_s3_key=key).to_dict()


CALLS: Final[Mapping[str, Callable[[Context, Mapping[str, Any]], dict[str, Any]]]] = {
    "submit": _submit,
    "create_pending": _create_pending,
    "list_pending": _list_pending,
    "poll": _poll,
    "normalize": _normalize,
    "split": _split,
    "process_chunk": _process_chunk,
    "final_merge": _final_merge,
    "mark_complete": _mark_complete,
}
"""Name in `flow` -> the call."""

"""The shipped property for `batch_id`s: our own normalise stage has it, and steps that lose ids are found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from embedpipe.stages import normalize
from embedpipe.wire import ManifestBatch
from verify.properties import batch_ids_are_conserved


def ours(listed: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> list[dict[str, Any]]:
    given = normalize.given_results(outputs)
    manifest = [ManifestBatch(index=index, **batch) for index, batch in enumerate(listed)]
    return [normalize.one(batch, "no register", given.get(batch.batch_id)).to_dict() for batch in manifest]


def test_ours_conserves_batch_ids() -> None:
    batch_ids_are_conserved(ours)


def skips_nulls(_: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> list[dict[str, Any]]:
    return [output for output in outputs if output and "action" in output]


def doubles(listed: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> list[dict[str, Any]]:
    return ours(listed, outputs) + ours(listed[:1], outputs)


def mixes_names(listed: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> list[dict[str, Any]]:
    found = ours(listed, outputs)
    return [{**found[0], "openai_batch_id": found[-1]["openai_batch_id"]}, *found[1:]] if found else []


def stops_at_a_bad_one(listed: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> list[dict[str, Any]]:
    found = ours(listed, outputs)
    bad = [at for at, result in enumerate(found) if result["action"] == "unreadable_result"]
    return found[: bad[0]] if bad else found


@pytest.mark.parametrize("step", [skips_nulls, doubles, mixes_names, stops_at_a_bad_one])
def test_a_step_that_does_not_is_found_out(step: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="batch_ids"):
        batch_ids_are_conserved(step, batches_max=5, max_examples=30)

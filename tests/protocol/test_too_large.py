"""Batches that the account's limit of enqueued tokens refuses: those that wait in line, and those that are too large alone."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from embedpipe.backends.memory.behaviour import Behaviour, ChooseBehaviour
from embedpipe.limits import Limits
from embedpipe.model import ProviderIssue
from tests.protocol.scenes import QUICK_ONE, records, settle, texts
from tests.worlds import CONFIG, SmallWorld


def accepts_at_once(world: SmallWorld, tokens: int) -> ChooseBehaviour:
    """A provider whose account may have so many requests open at once; what is above fails validation, as OpenAI's does."""
    issues = (ProviderIssue(code="token_limit_exceeded", message="Enqueued token limit reached"),)

    def behaviour(_: int, metadata: Mapping[str, str]) -> Behaviour:
        rows = world.observe().rows
        running = [batch for batch in world.provider.list() if batch.status == "in_progress"]
        open_ = sum(rows[batch.metadata["batch_id"]].request_count or 0 for batch in running)
        if open_ + (rows[metadata["batch_id"]].request_count or 0) > tokens:
            return attrs.evolve(QUICK_ONE, outcome="failed", issues=issues)
        return Behaviour(running=("in_progress",), ends_after_s=300.0)

    return behaviour


def test_a_batch_above_the_limit_of_its_account_is_halved():
    """No wait helps a batch that is too large alone: it ends in pieces that fit, and costs no record a try."""
    world = SmallWorld(config=attrs.evolve(CONFIG, limits=Limits()))
    world.provider.behaviour = accepts_at_once(world, 130)
    names = " ".join(f"r{at}" for at in range(250))
    world.pipeline().submit(records(names, "1"))
    seen = settle(world, texts(names, "1"), executions=100)
    assert max(row.request_count or 0 for row in seen.rows.values() if row.status == "COMPLETED") == 125
    assert {record.tries for group in seen.records.values() for record in group} == {1}


def test_a_batch_that_waits_in_a_queue_is_never_halved():
    """It fits alone: however often the others leave it no room, it is submitted as it is."""
    world = SmallWorld(config=attrs.evolve(CONFIG, limits=Limits(requests_per_batch=120)))
    world.provider.behaviour = accepts_at_once(world, 150)
    names = " ".join(f"r{at}" for at in range(480))
    world.pipeline().submit(records(names, "1"))
    seen = settle(world, texts(names, "1"), executions=300)
    assert {row.request_count for row in seen.rows.values()} == {120}
    assert max(row.attempt for row in seen.rows.values()) > 3

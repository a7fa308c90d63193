"""What the traces have in common: small submissions, scripted batches, and the end that every trace must come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from embedpipe.backends.batch_files import EXPIRED, ItemError
from embedpipe.backends.memory.behaviour import Behaviour, ChooseBehaviour, CreateFault
from embedpipe.model import Claim, ProviderIssue, Record
from tests.harness import SnapshotVectors
from tests.worlds import SmallWorld
from verify.invariants import World, check

NAMES: Final = "abcdefghijklmnopqrstuvwxyz"
SERVER_ERROR: Final = ItemError(status_code=500, code="server_error", message="later")

QUICK_ONE: Final = Behaviour(running=())
SLOW: Final = Behaviour(running=("in_progress",) * 6)
EXPIRED_ALL: Final = Behaviour(running=(), outcome="expired", fates=dict.fromkeys(NAMES, EXPIRED))
LOST_CREATE: Final = Behaviour(create=CreateFault.LOST)

EXECUTIONS_MAX: Final = 40
BETWEEN_S: Final = 10.0


def behaviours(*first: Behaviour) -> ChooseBehaviour:
    """The first creates behave like that, all later ones end well and at once: faults stop."""
    return lambda nth, _: first[nth - 1] if nth <= len(first) else QUICK_ONE


QUICK: Final = behaviours()


def records(names: str, text: str) -> list[Record]:
    """One record for each word of `names`, whose text says whose it is."""
    return [Record(id=name, text=said) for name, said in texts(names, text).items()]


def texts(names: str, text: str) -> dict[str, str]:
    """What `records` says, by id: no two records have one text."""
    return {name: f"{name} {text}" for name in names.split()}


def settle(world: SmallWorld, expected: Mapping[str, str], *, executions: int = EXECUTIONS_MAX) -> World:
    """Faults have stopped: within so many executions all is terminal, every guarantee holds, and the texts are there."""
    seen = _ended(world, executions)
    assert (seen.collection or {}) == expected, seen.collection
    return seen


def settle_snapshots(world: SmallWorld, expected: Mapping[str, str]) -> World:
    """As `settle`, where each version has a collection of its own."""
    assert isinstance(world.vectors, SnapshotVectors)
    seen = _ended(world, EXECUTIONS_MAX)
    assert seen.latest is not None
    rows = world.vectors.versions[seen.latest.version].rows
    found = {name: row.document for name, row in rows.items()}
    assert found == expected, found
    assert seen.catalog.keys() == expected.keys(), seen.catalog
    return seen


def _ended(world: SmallWorld, executions: int) -> World:
    pipe = world.pipeline()
    pipe.submit([])  # takes up what a dead submitter left in the ledger
    for _ in range(executions):
        if not pipe.open_rows():
            break
        pipe.ingest()
        world.clock.sleep(BETWEEN_S)
    seen = world.observe()
    broken = check(seen, settled=True)
    assert not broken, broken
    return seen


def claims(world: SmallWorld) -> dict[str, Claim]:
    """The published catalog."""
    return {name: entry.claim for name, entry in world.observe().catalog.items()}


def keys(world: SmallWorld, part: str) -> list[str]:
    """Keys of the object store that contain `part`."""
    return [info.key for info in world.objects.list("") if part in info.key]


def fails_with(world: SmallWorld, name: str, *, line: int | None) -> ChooseBehaviour:
    """A provider that fails the validation of every batch that holds the record `name`, and maybe says in which line."""

    def behaviour(_: int, metadata: Mapping[str, str]) -> Behaviour:
        requests = world.objects.get(world.config.layout.requests_key(metadata["batch_id"])).data
        if f'"custom_id":"{name}"'.encode() not in requests:
            return QUICK_ONE
        return attrs.evolve(QUICK_ONE, outcome="failed", issues=(ProviderIssue(code="bad_line", line=line),))

    return behaviour

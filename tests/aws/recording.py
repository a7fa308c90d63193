"""Executions as a release ran them, kept for all later ones: each invocation's event and result, and what it wrote.

`python -m tests.aws.recording` records this release's, once. A recording is never changed: an execution that began under
it may still be running when the functions are replaced.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.aws.template import files
from embedpipe.backends.batch_files import EXPIRED
from embedpipe.backends.memory.behaviour import ChooseBehaviour
from embedpipe.ports import VectorRows
from tests.aws.functions import RECORDS_KEY, Deliver, Functions, ingest, submit
from tests.harness import SnapshotVectors
from tests.protocol.scenes import QUICK_ONE, SERVER_ERROR, behaviours, records, texts
from tests.worlds import KIND, SmallWorld

CORPUS: Final = Path(__file__).parents[1] / "corpus" / "aws"
NAME: Final = "executions.json"
INPUTS: Final = RECORDS_KEY.partition("{")[0]
"""Where users put records: there before the submission."""
LAST: Final = texts("a b c d", "2")
"""What the collection holds when all has ended."""

Invocation = Mapping[str, Any]


def behaviour() -> ChooseBehaviour:
    """The first batch ends well, the next two expire, with and without a vector; what comes later ends well."""
    ends_early = attrs.evolve(QUICK_ONE, outcome="expired", fates={"a": SERVER_ERROR, "d": EXPIRED})
    return behaviours(QUICK_ONE, ends_early, ends_early)


def play(world: SmallWorld, deliver: Deliver) -> None:
    """What is recorded: something is published; then a submission and an execution with all that can happen to records."""
    submit(world, records("a b", "1"), "before", deliver)
    ingest(world, "before", deliver)
    submit(world, records("a b c d", "2"), "main", deliver)
    ingest(world, "main", deliver)


def record() -> list[dict[str, Any]]:
    """All invocations, in their order."""
    world = SmallWorld(behaviour())
    functions = Functions(world)
    made: list[dict[str, Any]] = []
    objects: dict[str, str] = {}

    def deliver(step: str, event: Mapping[str, Any]) -> dict[str, Any]:
        items, creates = rows(world), len(world.provider.creates)
        result = functions(step, event)
        now = stored(world)
        made.append(
            {
                "step": step,
                "event": event,
                "result": result,
                "objects": {key: data for key, data in now.items() if objects.get(key) != data},
                "deleted": sorted(objects.keys() - now.keys()),
                "items": [item for name, item in rows(world).items() if items.get(name) != item],
                "creates": [dict(create.metadata) for create in world.provider.creates[creates:]],
                "collection": collection(world),
            }
        )
        objects.clear()
        objects.update(now)
        return result

    play(world, deliver)
    return made


@functools.cache
def todays() -> tuple[Invocation, ...]:
    """What this release does."""
    return tuple(record())


def resume(made: Sequence[Invocation], at: int, world: SmallWorld, deliver: Deliver) -> None:
    """Go on from invocation `at`, in a world where the earlier ones have happened: they are answered as recorded."""
    names = [name_of(invocation["step"], invocation["event"]) for invocation in made]

    def delivered(step: str, event: Mapping[str, Any]) -> dict[str, Any]:
        name = name_of(step, event)
        place = names.index(name) if name in names else len(made)
        return dict(made[place]["result"]) if place < at else deliver(step, event)

    play(world, delivered)


def name_of(step: str, event: Mapping[str, Any]) -> tuple[object, ...]:
    """What tells an invocation from others."""
    return step, *(event.get(field) for field in ("execution_id", "batch_id", "index"))


def stored(world: SmallWorld) -> dict[str, str]:
    """Every object; what is no text in base64."""
    found = {info.key: world.objects.get(info.key).data for info in world.objects.list("")}
    return {
        key: base64.b64encode(data).decode() if key.endswith(".arrow") else data.decode() for key, data in found.items()
    }


def rows(world: SmallWorld) -> dict[str, dict[str, Any]]:
    """Every item of the table."""
    names = world.observe().rows
    return {name: dict(world.table.read_raw(name) or {}) for name in names}


def collection(world: SmallWorld) -> list[list[Any]]:
    """Every row of the collection."""
    if world.observe().collection is None:
        return []
    found = world.vectors.stored(KIND.database, KIND.collection)
    kept = found.get(list(found.ids()))
    columns = zip(kept.ids, kept.vectors.tolist(), kept.documents, kept.metadatas, strict=True)
    return [[name, vector, document, dict(metadata)] for name, vector, document, metadata in columns]


def restored(made: Sequence[Invocation], count: int, *, snapshots: bool = False) -> SmallWorld:
    """The world as it was after so many invocations. `snapshots`: each version has a collection of its own."""
    world = SmallWorld(behaviour(), seed="of another process")
    if snapshots:
        world.vectors = SnapshotVectors()  # type: ignore[assignment]
    for key, text in made[count]["objects"].items() if count < len(made) else ():
        if key.startswith(INPUTS):
            world.objects.put(key, text.encode())
    kept: list[list[Any]] = []
    for invocation in made[:count]:
        for key, text in invocation["objects"].items():
            world.objects.put(key, base64.b64decode(text) if key.endswith(".arrow") else text.encode())
        for key in invocation["deleted"]:
            world.objects.delete(key)
        for item in invocation["items"]:
            world.table.write_raw(item)
        for metadata in invocation["creates"]:
            _create(world, metadata)
        kept = invocation["collection"]
    _write(world, kept)
    return world


def _create(world: SmallWorld, metadata: Mapping[str, str]) -> None:
    """The provider has the batch, under the name that it had."""
    with world.pipeline().context.scratch() as folder:
        path = folder / "request.jsonl"
        world.objects.download(world.config.layout.requests_key(metadata["batch_id"]), path)
        world.provider.create(world.provider.upload(path), metadata)


def _write(world: SmallWorld, kept: list[list[Any]]) -> None:
    import numpy as np

    if not kept:
        return
    ids, vectors, documents, metadatas = zip(*kept, strict=True)
    version = json.loads(world.objects.get(world.config.layout.latest_key(KIND.database)).data)["version"]
    with world.vectors.editing(
        KIND.database, KIND.collection, version=None, dimensions=world.config.model.dimensions
    ) as edition:
        edition.collection.upsert(
            VectorRows(ids=ids, vectors=np.array(vectors, np.float32), documents=documents, metadatas=metadatas)
        )
        edition.seal(world.config.layout.snapshot_prefix(KIND.database, version))


def releases() -> list[Path]:
    """A folder for each release that was recorded."""
    return sorted(path for path in CORPUS.iterdir() if path.is_dir())


def invocations(release: Path) -> list[Invocation]:
    """What was recorded of a release."""
    found: list[Invocation] = json.loads((release / NAME).read_text())
    return found


def main() -> None:
    """Record this release."""
    folder = CORPUS / version("embedpipe")
    folder.mkdir(parents=True)  # a recording is never written over
    (folder / NAME).write_text(json.dumps(record(), indent=1, ensure_ascii=True) + "\n")
    for name, body in files(KIND).items():
        if name.endswith(".asl.json"):
            (folder / name).write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()

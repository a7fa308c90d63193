"""The faults of the simulator, and what stands for each on the wire of the real service.

Both must give the caller the same: the class of the error, what the call left behind, and the answer where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from embedpipe.errors import EmbedpipeError, Throttled, Unavailable, WriteConflict
from embedpipe.lifecycle import Status
from simulator.faults import Fault
from simulator.serving.failures import Answer, Call
from tests.contract.aws import Wire, made_up
from tests.simulation.conformance.stores import WORDS, row

OnWire = Callable[[Wire], None]


@attrs.frozen(kw_only=True)
class FaultCase:
    """One fault at one effect."""

    service: str
    effect: str
    fault: Fault
    says: str
    error: type[EmbedpipeError] | None
    """None: there is an answer."""
    happened: bool
    """Whether the call had its effect."""
    wire: OnWire | tuple[tuple[Call, Answer], ...]
    """On AWS, what is done to the next request; of a provider, what its server answers."""
    wired: str
    """The same in words."""

    @property
    def name(self) -> str:
        return f"{self.effect}/{self.fault}/{self.wired.partition(',')[0].replace(' ', '_')}"


# --- what is called --------------------------------------------------------------------------------------------------


def prepare(service: str, port: Any, folder: Path) -> Any:
    """What is there before; an id, where calls need one."""
    (folder / "new").write_bytes(b"new")
    (folder / "target").unlink(missing_ok=True)
    if service == "objects":
        return port.put("there", b"old")
    if service == "table":
        return port.put_new(row("there"))
    asked = {"custom_id": "r0", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "text"}}
    (folder / "in.jsonl").write_bytes(json.dumps(asked).encode() + b"\n")
    file_id = port.upload(folder / "in.jsonl")
    return port.create(file_id, {"batch_id": "first"}), file_id


CALLS: Final[Mapping[str, Callable[[Any, Path, Any], object]]] = {
    "objects.get": lambda port, _, __: port.get("there").data,
    "objects.put": lambda port, _, __: port.put("new", b"new", if_none_match=True),
    "objects.list": lambda port, _, __: [info.key for info in port.list("")],
    "objects.delete": lambda port, _, __: port.delete("there"),
    "objects.upload": lambda port, folder, _: port.upload("new", folder / "new", if_none_match=True),
    "objects.download": lambda port, folder, _: port.download("there", folder / "target"),
    "table.put_new": lambda port, _, __: port.put_new(row("new")),
    "table.get_many": lambda port, _, __: dict(port.get_many(["there"])),
    "table.by_status": lambda port, _, __: list(port.by_status(WORDS, Status.PENDING)),
    "table.update": lambda port, _, __: port.update("there", {"reason": "x"}, status=Status.PENDING, revision=0),
    "provider.upload": lambda port, folder, _: port.upload(folder / "in.jsonl"),
    "provider.create": lambda port, _, made: port.create(made[1], {"batch_id": "second"}),
    "provider.retrieve": lambda port, _, made: port.retrieve(made[0].id).id,
    "provider.list": lambda port, _, __: [batch.metadata["batch_id"] for batch in port.list()],
    "provider.content": lambda port, _, made: b"".join(port.content(made[1])),
    "provider.cancel": lambda port, _, made: port.cancel(made[0].id),
    "provider.delete_file": lambda port, _, made: port.delete_file(made[1]),
}


def left(service: str, port: Any, books: Any, folder: Path) -> object:
    """What is there afterwards. `books`: the provider's own."""
    if service == "objects":
        return {info.key: port.get(info.key).data for info in port.list("")}, (folder / "target").exists()
    if service == "table":
        return dict(port.get_many(["there", "new"]))
    (first,) = (batch for batch in books.list() if batch.metadata["batch_id"] == "first")
    made = [batch.metadata["batch_id"] for batch in books.list()]
    return len(books.files), made, first.status in ("cancelling", "cancelled")


# --- the table -------------------------------------------------------------------------------------------------------


def _lost(wire: Wire) -> None:
    wire.lose_answer()


def _answers(status: int, code: str) -> OnWire:
    return lambda wire: wire.fail(status, code)


def _keys_are_left(wire: Wire) -> None:
    def unprocessed(_: str, request: Any) -> Any:
        asked = json.loads(request.body)["RequestItems"]
        return made_up(request, 200, {}, json.dumps({"Responses": {}, "UnprocessedKeys": asked}).encode())

    wire.refused["BatchGetItem"] = unprocessed


def _index_is_behind(wire: Wire) -> None:
    wire.answer(lambda request: made_up(request, 200, {}, b'{"Items": [], "Count": 0, "ScannedCount": 0}'))


SDK: Final[Mapping[str, Call]] = {
    "provider.upload": "files.create",
    "provider.create": "batches.create",
    "provider.retrieve": "batches.retrieve",
    "provider.list": "batches.list",
    "provider.content": "files.content",
    "provider.cancel": "batches.cancel",
    "provider.delete_file": "files.delete",
}
LOSABLE: Final = frozenset(
    {
        *("objects.put", "objects.delete", "objects.upload", "table.put_new", "table.update"),
        *("provider.upload", "provider.create", "provider.delete_file"),
    }
)
"""Writes whose answer may be lost: after a `cancel` the backend looks by itself."""
ON_AWS: Final[Mapping[tuple[str, Fault], tuple[str, OnWire]]] = {
    ("objects", Fault.THROTTLED): ("503 SlowDown", _answers(503, "SlowDown")),
    ("objects", Fault.UNAVAILABLE): ("500 InternalError", _answers(500, "InternalError")),
    ("objects", Fault.ANSWER_LOST): ("a lost answer", _lost),
    ("objects", Fault.CONFLICT): ("409 ConditionalRequestConflict", _answers(409, "ConditionalRequestConflict")),
    ("table", Fault.THROTTLED): (
        "400 ProvisionedThroughputExceededException",
        _answers(400, "ProvisionedThroughputExceededException"),
    ),
    ("table", Fault.UNAVAILABLE): ("500 InternalServerError", _answers(500, "InternalServerError")),
    ("table", Fault.ANSWER_LOST): ("a lost answer", _lost),
}
ON_HTTP: Final[Mapping[Fault, tuple[str, Answer]]] = {
    Fault.THROTTLED: ("429", Answer(status=429, code="rate_limit_exceeded", retry_after_s=1)),
    Fault.UNAVAILABLE: ("500", Answer(status=500)),
    Fault.ANSWER_LOST: ("a lost answer", Answer(lose="answer")),
}
ERRORS: Final[Mapping[Fault, tuple[type[EmbedpipeError], bool, str]]] = {
    Fault.THROTTLED: (Throttled, False, "is refused for load, and had no effect."),
    Fault.UNAVAILABLE: (Unavailable, False, "fails, and nobody knows whether it had an effect; it had none."),
    Fault.ANSWER_LOST: (Unavailable, True, "fails, and nobody knows whether it had an effect; it had."),
    Fault.CONFLICT: (WriteConflict, False, "meets another writer; the race is not decided, and it had no effect."),
}


def _plain() -> Iterator[FaultCase]:
    """Those that meet every call of their kind alike."""
    for effect in CALLS:
        service, _, call = effect.partition(".")
        for fault, (error, happened, says) in ERRORS.items():
            if fault is Fault.ANSWER_LOST and effect not in LOSABLE:
                continue
            if fault is Fault.CONFLICT and effect not in ("objects.put", "objects.upload"):
                continue
            wire: Any
            if service == "provider":
                wired, answer = ON_HTTP[fault]
                wire = ((SDK[effect], answer),)
            else:
                wired, wire = ON_AWS[service, fault]
            yield FaultCase(
                service=service,
                effect=effect,
                fault=fault,
                says=f"A `{call}` {says}",
                error=error,
                happened=happened,
                wire=wire,
                wired=wired,
            )


SPECIAL: Final = (
    FaultCase(
        service="table",
        effect="table.get_many",
        fault=Fault.THROTTLED,
        says="Keys that stay unprocessed are a refusal for load.",
        error=Throttled,
        happened=False,
        wire=_keys_are_left,
        wired="UnprocessedKeys, each time",
    ),
    FaultCase(
        service="table",
        effect="table.by_status",
        fault=Fault.LAG,
        says="The index does not show a new row yet.",
        error=None,
        happened=False,
        wire=_index_is_behind,
        wired="an empty page",
    ),
    FaultCase(
        service="objects",
        effect="objects.upload",
        fault=Fault.UNAVAILABLE,
        says="An upload that breaks off leaves nothing under its key: neither a part nor an older one's end.",
        error=Unavailable,
        happened=False,
        wire=lambda wire: wire.fail(500, "InternalError", on="UploadPart"),
        wired="500 to a part",
    ),
    FaultCase(
        service="provider",
        effect="provider.create",
        fault=Fault.THROTTLED,
        says="A file that a create does not see yet, a moment after its upload, is a refusal for load: nothing was made.",
        error=Throttled,
        happened=False,
        wire=(("batches.create", Answer(status=404)),),
        wired="404 although the file is there",
    ),
)

FAULTS: Final[Mapping[str, FaultCase]] = {found.name: found for found in (*_plain(), *SPECIAL)}

OF_THEIR_OWN: Final = (
    (
        "provider",
        "A listing that is behind lacks the newest batch, and none of the others, however many pages it has.",
        "provider.list/lag/newest_not_listed",
        "a listing without the newest",
        "an answer",
    ),
    (
        "provider",
        "With the key of another project nothing of ours is there: no batch, no file, and an empty listing.",
        "provider/foreign/another_project",
        "a server that has other books",
        "`NotFound`, an empty answer",
    ),
)
"""Rows of the documentation; each case is a test of its own."""

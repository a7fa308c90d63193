"""What a provider's Batch API does in the hours that a batch takes, and what it does wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedpipe.backends.batch_files import EXPIRED, TIMEOUT
from embedpipe.backends.memory.behaviour import Behaviour, CreateFault
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.errors import NotFound, RefusedRequest, Throttled, Unauthorized, Unavailable
from embedpipe.limits import BATCH_WINDOW_S
from embedpipe.model import ProviderBatch
from embedpipe.ports import BatchProvider, Clock
from tests.simulation.conformance.cases import case

HOUR_S = 3_600.0
AT_ONCE = ()
IDS = [f"r{number}" for number in range(6)]


def uploaded(provider: BatchProvider, folder: Path) -> str:
    """Six requests, `r0` to `r5`."""
    asked = [
        {"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": f"text {name}"}}
        for name in IDS
    ]
    path = folder / "input.jsonl"
    path.write_bytes(b"".join(json.dumps(each).encode() + b"\n" for each in asked))
    return provider.upload(path)


def created(provider: BatchProvider, folder: Path) -> str:
    return provider.create(uploaded(provider, folder), {"batch_id": "b1"}).id


def lines(provider: BatchProvider, file_id: str | None) -> list[Any]:
    assert file_id
    return [json.loads(line) for line in b"".join(provider.content(file_id)).splitlines()]


def names(found: list[Any]) -> list[str]:
    return [line["custom_id"] for line in found]


def counted(batch: ProviderBatch) -> tuple[int, int, int]:
    return batch.counts.total, batch.counts.completed, batch.counts.failed


@case("provider", "A batch takes hours and says how far it is.", behaviour=Behaviour(ends_after_s=3 * HOUR_S))
def states_go_by_over_hours(provider: BatchProvider, clock: Clock, folder: Path) -> None:
    batch_id, said = created(provider, folder), []
    for _ in range(4):
        said.append(provider.retrieve(batch_id).status)
        clock.sleep(HOUR_S)
    assert said == ["validating", "in_progress", "finalizing", "completed"]
    assert provider.retrieve(batch_id).output_file_id


@case(
    "provider",
    "After 24 hours it expires; what was embedded until then has its lines, and each other request an error.",
    behaviour=Behaviour(
        ends_after_s=BATCH_WINDOW_S, outcome="expired", running=("in_progress",), fates={"r4": EXPIRED, "r5": EXPIRED}
    ),
)
def a_batch_expires_with_what_it_has(provider: BatchProvider, clock: Clock, folder: Path) -> None:
    batch_id = created(provider, folder)
    clock.sleep(BATCH_WINDOW_S - HOUR_S)
    assert provider.retrieve(batch_id).status == "in_progress"
    clock.sleep(HOUR_S)
    batch = provider.retrieve(batch_id)
    assert (batch.status, counted(batch)) == ("expired", (6, 4, 2))
    assert sorted(names(lines(provider, batch.output_file_id))) == IDS[:4]
    errors = lines(provider, batch.error_file_id)
    assert {error["custom_id"]: error["error"]["code"] for error in errors} == dict.fromkeys(IDS[4:], "batch_expired")


@case(
    "provider", "Lines come in another order than the requests.", behaviour=Behaviour(running=AT_ONCE, shuffle_seed=1)
)
def output_has_no_order(provider: BatchProvider, folder: Path) -> None:
    found = names(lines(provider, provider.retrieve(created(provider, folder)).output_file_id))
    assert sorted(found) == IDS
    assert found != IDS


@case(
    "provider",
    "A request fails alone, in the error file; the others are embedded.",
    behaviour=Behaviour(running=AT_ONCE, fates={"r2": TIMEOUT}),
)
def one_request_fails_alone(provider: BatchProvider, folder: Path) -> None:
    batch = provider.retrieve(created(provider, folder))
    assert (batch.status, counted(batch)) == ("completed", (6, 5, 1))
    assert "r2" not in names(lines(provider, batch.output_file_id))
    assert names(lines(provider, batch.error_file_id)) == ["r2"]


@case(
    "provider",
    "A batch whose requests all failed is completed and has no output file.",
    behaviour=Behaviour(running=AT_ONCE, fates=dict.fromkeys(IDS, TIMEOUT)),
)
def only_errors_are_no_output_file(provider: BatchProvider, folder: Path) -> None:
    batch = provider.retrieve(created(provider, folder))
    assert (batch.status, batch.output_file_id, counted(batch)) == ("completed", None, (6, 0, 6))
    assert sorted(names(lines(provider, batch.error_file_id))) == IDS


@case(
    "provider",
    "A request may get no line at all; then the counts do not add up.",
    behaviour=Behaviour(running=AT_ONCE, fates={"r3": None}),
)
def a_request_may_vanish(provider: BatchProvider, folder: Path) -> None:
    batch = provider.retrieve(created(provider, folder))
    assert counted(batch) == (6, 5, 0)
    assert sorted(names(lines(provider, batch.output_file_id))) == [name for name in IDS if name != "r3"]


@case("provider", "Counts may be ahead of the lines.", behaviour=Behaviour(running=AT_ONCE, late_retrieves=1))
def counts_may_be_ahead(provider: BatchProvider, folder: Path) -> None:
    batch = provider.retrieve(created(provider, folder))
    assert counted(batch) == (6, 6, 0)
    assert len(lines(provider, batch.output_file_id)) == 3
    assert len(lines(provider, provider.retrieve(batch.id).output_file_id)) == 6


@case(
    "provider",
    "A completed batch may show no output file at first.",
    behaviour=Behaviour(running=AT_ONCE, null_output_retrieves=1),
)
def output_may_come_late(provider: BatchProvider, folder: Path) -> None:
    batch = provider.retrieve(created(provider, folder))
    assert (batch.status, batch.output_file_id, counted(batch)) == ("completed", None, (6, 6, 0))
    assert len(lines(provider, provider.retrieve(batch.id).output_file_id)) == 6


@case(
    "provider",
    "The output file may end in the middle of a line, twice the same.",
    behaviour=Behaviour(running=AT_ONCE, torn=True),
)
def output_may_be_torn(provider: BatchProvider, folder: Path) -> None:
    file_id = provider.retrieve(created(provider, folder)).output_file_id
    assert file_id
    *whole, torn = b"".join(provider.content(file_id)).split(b"\n")
    assert sorted(names([json.loads(line) for line in whole])) == IDS
    assert torn
    with pytest.raises(ValueError, match="."):
        json.loads(torn)


@case(
    "provider",
    "A file that was named a moment ago may not be found yet.",
    behaviour=Behaviour(running=AT_ONCE, content_missing=1),
)
def a_file_may_not_be_there_yet(provider: BatchProvider, folder: Path) -> None:
    file_id = provider.retrieve(created(provider, folder)).output_file_id
    assert file_id
    with pytest.raises(NotFound):
        list(provider.content(file_id))
    assert len(lines(provider, file_id)) == 6


@case("provider", "A new batch may be unknown for a while.", behaviour=Behaviour(unknown_retrieves=1))
def a_new_batch_may_be_unknown(provider: BatchProvider, folder: Path) -> None:
    batch_id = created(provider, folder)
    with pytest.raises(NotFound):
        provider.retrieve(batch_id)
    assert provider.retrieve(batch_id).id == batch_id


@case("provider", "It may lose a batch that it showed before.", behaviour=Behaviour(lost_after_retrieves=1))
def a_batch_may_be_lost(provider: BatchProvider, folder: Path) -> None:
    batch_id = created(provider, folder)
    provider.retrieve(batch_id)
    for _ in range(2):
        with pytest.raises(NotFound):
            provider.retrieve(batch_id)


@case("provider", "A listing may not show a new batch yet.", behaviour=Behaviour(unlisted_calls=1))
def the_listing_may_lag(provider: BatchProvider, folder: Path) -> None:
    batch_id = created(provider, folder)
    assert list(provider.list()) == []
    assert [batch.id for batch in provider.list()] == [batch_id]


@case(
    "provider",
    "A create whose answer is lost has made a batch, and the listing shows it.",
    behaviour=Behaviour(create=CreateFault.ANSWER_LOST),
)
def an_answer_may_be_lost(provider: BatchProvider, folder: Path) -> None:
    with pytest.raises(Unavailable):
        created(provider, folder)
    assert [batch.metadata["batch_id"] for batch in provider.list()] == ["b1"]


def _not_created(provider: BatchProvider, folder: Path, error: type[Exception]) -> Any:
    with pytest.raises(error) as raised:
        created(provider, folder)
    assert type(raised.value) is error
    assert list(provider.list()) == []
    return raised.value


@case("provider", "A create that is throttled made nothing.", behaviour=Behaviour(create=CreateFault.THROTTLED))
def a_throttled_create_made_nothing(provider: BatchProvider, folder: Path) -> None:
    _not_created(provider, folder, Throttled)


@case(
    "provider",
    "A create that is refused made nothing, and has the provider's reason.",
    behaviour=Behaviour(create=CreateFault.REFUSED, refusal="insufficient_quota"),
)
def a_refused_create_made_nothing(provider: BatchProvider, folder: Path) -> None:
    assert _not_created(provider, folder, RefusedRequest).reason == "insufficient_quota"


@case("provider", "A create under a revoked key made nothing.", behaviour=Behaviour(create=CreateFault.UNAUTHORIZED))
def an_unauthorized_create_made_nothing(provider: BatchProvider, folder: Path) -> None:
    _not_created(provider, folder, Unauthorized)


@case("provider", "A key of another project knows no file and no batch, and its listing is empty.")
def another_project_knows_nothing(provider: BatchProvider, books: MemoryProvider, folder: Path) -> None:
    file_id = uploaded(provider, folder)
    batch_id = provider.create(file_id, {}).id
    books.foreign = True
    calls: list[Callable[[], object]] = [
        lambda: provider.retrieve(batch_id),
        lambda: provider.cancel(batch_id),
        lambda: provider.create(file_id, {}),
        lambda: list(provider.content(file_id)),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert list(provider.list()) == []
    provider.delete_file(file_id)
    books.foreign = False
    assert [batch.id for batch in provider.list()] == [batch_id]
    assert len(lines(provider, file_id)) == 6


@case(
    "provider", "A file that has expired is not found; the batch that it came of is.", behaviour=Behaviour(running=())
)
def a_file_expires(provider: BatchProvider, books: MemoryProvider, folder: Path) -> None:
    batch = provider.retrieve(created(provider, folder))
    assert batch.input_file_id
    assert batch.output_file_id
    for file_id in (batch.input_file_id, batch.output_file_id):
        books.delete_file(file_id)
        with pytest.raises(NotFound):
            list(provider.content(file_id))
    with pytest.raises(NotFound):
        provider.create(batch.input_file_id, {})
    assert provider.retrieve(batch.id).output_file_id == batch.output_file_id


@case("provider", "An outage meets every call, and nothing happens meanwhile.")
def an_outage_meets_every_call(provider: BatchProvider, books: MemoryProvider, folder: Path) -> None:
    file_id = uploaded(provider, folder)
    batch_id = provider.create(file_id, {}).id
    books.closed_to = Unavailable("The provider is down.")
    calls: list[Callable[[], object]] = [
        lambda: uploaded(provider, folder),
        lambda: provider.create(file_id, {}),
        lambda: provider.retrieve(batch_id),
        lambda: list(provider.list()),
        lambda: list(provider.content(file_id)),
        lambda: provider.cancel(batch_id),
        lambda: provider.delete_file(file_id),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call()
    books.closed_to = None
    assert [batch.id for batch in provider.list()] == [batch_id]
    assert len(lines(provider, file_id)) == 6

"""Each fault that the simulator injects is what the real backend makes of the service's own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.behaviour import Behaviour
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.openai import OpenAIProvider
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.errors import EmbedpipeError, NotFound
from embedpipe.limits import PROVIDER_LIST_PAGE
from embedpipe.ports import BatchProvider
from simulator.faults import EFFECTS, Fault, Planned, Strike
from simulator.serving import server
from simulator.serving.failures import Failure, Failures
from simulator.world import World
from tests.contract.aws import Cloud, Wire, over_http
from tests.serving import Switch, switch
from tests.simulation.conformance.crashes import COLLECTION, DATABASE, HALF, ROWS, WHOLE, Crash, merge, rows
from tests.simulation.conformance.faults import CALLS, FAULTS, LOSABLE, FaultCase, left, prepare
from tests.simulation.inside import ask

SEEN_ELSEWHERE = {
    *(Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.CRASH_HALF),  # test_a_process_that_dies below
    *(Fault.SLOW, Fault.PAUSE),  # time passes, and nothing else
    Fault.CORRUPT,  # the list of differences says why
}
Outcome = tuple[object, object]


@pytest.fixture(scope="module")
def http() -> Iterator[Cloud]:
    with over_http() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def switched() -> Iterator[Switch]:
    with switch() as made:
        yield made


@pytest.fixture(scope="module")
def wire() -> Wire:
    """One session: it takes a while to read the SDK's models."""
    return Wire()


@pytest.fixture
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_PROJECT_ID", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)


def outcome(call: Callable[[], object], answered: bool) -> object:
    """The class of an error; of an answer, what it says where a case is about that."""
    try:
        found = call()
    except EmbedpipeError as error:
        return type(error)
    return found if answered else "an answer"


def simulated(case: FaultCase, folder: Path) -> Outcome:
    strike = Strike(actor="test", effect=case.effect, nth=1, fault=case.fault)
    with World(1, Planned([strike])) as world:
        port = getattr(world, case.service)
        made = prepare(case.service, port, folder)
        found = ask(
            world, lambda: outcome(lambda: CALLS[case.effect](port, folder, made), case.error is None), name="test"
        )
        assert [struck.where for struck in world.faults.struck] == [strike.where]
        return found, left(case.service, port, world.stores.provider, folder)


def on_aws(case: FaultCase, folder: Path, http: Cloud, wire: Wire, patch: pytest.MonkeyPatch) -> Outcome:
    options = {"session": wire.session, "attempts": 1, **http.where}
    made = (
        S3BlobStore(http.new_bucket(), **options)
        if case.service == "objects"
        else DynamoDBBatchTable(http.new_table(), MemoryClock(), **options)
    )
    with closing(made) as port:
        prepare(case.service, port, folder)
        if case.wired == "500 to a part":
            patch.setattr("embedpipe.backends.s3.PART_BYTES", 2)
        assert callable(case.wire)
        case.wire(wire)
        found = outcome(lambda: CALLS[case.effect](port, folder, None), case.error is None)
        assert not wire.faults
        wire.refused.clear()
        return found, left(case.service, port, None, folder)


def over_wire(case: FaultCase, folder: Path, switched: Switch) -> Outcome:
    assert not callable(case.wire)
    books = MemoryProvider(MemoryClock())
    switched.app = server.application(books, MemoryClock(), dimensions=8)
    with closing(OpenAIProvider(MemoryClock(), base_url=switched.url)) as port:
        made = prepare(case.service, port, folder)
        failures = Failures([Failure(call=call, answer=answer) for call, answer in case.wire])
        switched.app = server.application(books, MemoryClock(), failures=failures, dimensions=8)
        found = outcome(lambda: CALLS[case.effect](port, folder, made), case.error is None)
        assert failures.count(case.wire[0][0]) == 1
        return found, left(case.service, port, books, folder)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.usefixtures("_no_keys")
def test_a_fault_is_what_the_service_shows(
    name: str, http: Cloud, wire: Wire, switched: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = FAULTS[name]
    in_world = simulated(case, tmp_path)
    real = (
        over_wire(case, tmp_path, switched)
        if case.service == "provider"
        else on_aws(case, tmp_path, http, wire, monkeypatch)
    )
    assert in_world == real
    if case.error is not None:
        assert in_world[0] is case.error


@pytest.mark.usefixtures("_no_keys")
def test_a_listing_that_is_behind_lacks_the_newest_alone(switched: Switch, tmp_path: Path) -> None:
    """Also where it has more than one page."""
    count = PROVIDER_LIST_PAGE + 20

    def listed(port: BatchProvider, create: BatchProvider) -> list[str]:
        _, file_id = prepare("provider", create, tmp_path)
        for number in range(1, count):
            create.create(file_id, {"batch_id": f"{number}"})
        return [batch.metadata["batch_id"] for batch in port.list()]

    newest_hidden = MemoryProvider(MemoryClock(), behaviour=lambda nth, _: Behaviour(unlisted_calls=int(nth == count)))
    switched.app = server.application(newest_hidden, MemoryClock(), dimensions=8)
    with closing(OpenAIProvider(MemoryClock(), base_url=switched.url)) as port:
        real = listed(port, newest_hidden)
    with World(1, Planned([Strike(actor="test", effect="provider.list", nth=1, fault=Fault.LAG)])) as world:
        found = ask(world, lambda: listed(world.provider, world.stores.provider), "test")
    assert found == real == [*map(str, range(count - 2, 0, -1)), "first"]


FOREIGN = ("provider.retrieve", "provider.content", "provider.list")


@pytest.mark.usefixtures("_no_keys")
@pytest.mark.parametrize("effect", FOREIGN)
def test_the_key_of_another_project(effect: str, switched: Switch, tmp_path: Path) -> None:
    """A server with other books is what such a key sees."""
    ours = MemoryProvider(MemoryClock())
    made = prepare("provider", ours, tmp_path)
    switched.app = server.application(MemoryProvider(MemoryClock()), MemoryClock(), dimensions=8)
    with closing(OpenAIProvider(MemoryClock(), base_url=switched.url)) as port:
        real = outcome(lambda: CALLS[effect](port, tmp_path, made), True)
    with World(1, Planned([Strike(actor="test", effect=effect, nth=1, fault=Fault.FOREIGN)])) as world:
        known = prepare("provider", world.stores.provider, tmp_path)
        found = ask(world, lambda: outcome(lambda: CALLS[effect](world.provider, tmp_path, known), True), "test")
    assert found == real == ([] if effect == "provider.list" else NotFound)


def test_every_fault_of_every_service_has_a_case() -> None:
    effects = {effect: faults for effect, faults in EFFECTS.items() if effect in CALLS}
    claimed = {(effect, fault) for effect, faults in effects.items() for fault in faults}
    cases = {(case.effect, case.fault) for case in FAULTS.values()} | {
        ("provider.list", Fault.LAG),
        *((effect, Fault.FOREIGN) for effect in FOREIGN),
    }  # above
    assert {(effect, fault) for effect, fault in claimed - cases if fault not in SEEN_ELSEWHERE} == set()
    assert cases <= claimed


# --- a process that dies -----------------------------------------------------------------------------------------------


def _left_by(effect: str, fault: Fault | None, folder: Path) -> object:
    service = effect.partition(".")[0]
    strikes = [Strike(actor="test", effect=effect, nth=1, fault=fault)] if fault else []
    went_on = []
    with World(1, Planned(strikes)) as world:
        port = getattr(world, service)
        made = prepare(service, port, folder)

        def work() -> None:
            try:
                CALLS[effect](port, folder, made)
            finally:
                went_on.append(effect)

        actor = world.spawn("test", work)
        world.run()
        assert actor.killed == bool(fault)
        assert bool(went_on) == (not fault), "who is killed runs no finally"
        return left(service, port, world.stores.provider, folder)


@pytest.mark.parametrize("effect", WHOLE)
def test_a_process_dies_before_or_after_a_call(effect: str, tmp_path: Path) -> None:
    service = effect.partition(".")[0]
    with World(1) as world:
        port = getattr(world, service)
        prepare(service, port, tmp_path)
        untouched = left(service, port, world.stores.provider, tmp_path)
    done = _left_by(effect, None, tmp_path)
    assert _left_by(effect, Fault.CRASH_BEFORE, tmp_path) == untouched
    assert _left_by(effect, Fault.CRASH_AFTER, tmp_path) == done
    assert (done != untouched) == (effect in {*LOSABLE, "objects.download", "provider.cancel"})


@pytest.mark.parametrize("crash", HALF, ids=lambda crash: crash.name)
def test_a_process_dies_half_way(crash: Crash) -> None:
    def ids(version: str) -> tuple[str, ...]:
        with world.vectors.reading(DATABASE, COLLECTION, version=version) as found:
            stored = found.get(list(found.ids()))
        assert [dict(metadata) for metadata in stored.metadatas] == [{"of": name} for name in stored.ids]
        assert list(stored.documents) == list(stored.ids)
        return tuple(stored.ids)

    strikes = [Strike(actor="test", effect=crash.effect, nth=1, fault=Fault.CRASH_HALF)]
    with World(1, Planned(strikes), in_place=crash.in_place) as world:
        ask(world, lambda: merge(world, "1-a", None, lambda collection: collection.upsert(rows(ROWS[:3]))), "before")
        assert world.spawn("test", lambda: crash.work(world)).error is None
        world.run()
        assert [struck.effect for struck in world.faults.struck] == [crash.effect]
        assert ask(world, lambda: ids(crash.version), "reader") == crash.left
        if not crash.in_place:
            assert ask(world, lambda: ids("1-a"), "reader") == tuple(ROWS[:3])
        ask(world, lambda: crash.work(world), "again")
        again = ask(world, lambda: ids("2-b"), "reader")
        assert again == (("r2",) if crash.effect == "collection.delete" else tuple(ROWS))


def test_an_upload_of_a_process_that_died_is_not_there(http: Cloud, tmp_path: Path) -> None:
    """Its parts are, and cost until the bucket's lifecycle removes them; no key shows them."""
    bucket, s3 = http.new_bucket(), http.client("s3")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="new")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="new", UploadId=upload, PartNumber=1, Body=b"new")
    with closing(S3BlobStore(bucket, **http.where)) as port:
        port.put("there", b"old")
        assert left("objects", port, None, tmp_path) == _left_by("objects.upload", Fault.CRASH_BEFORE, tmp_path)

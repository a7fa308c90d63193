"""Each fault that the simulator injects is what the real backend makes of the service's own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from embedpipe.backends.dynamodb import DynamoDBBatchTable
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.openai import OpenAIProvider
from embedpipe.backends.s3 import S3BlobStore
from embedpipe.errors import EmbedpipeError
from simulator import server
from simulator.failures import Failure, Failures
from simulator.faults import EFFECTS, Fault, Planned, Strike
from simulator.world import World
from tests.contract.aws import Cloud, Wire, over_http
from tests.serving import Switch, switch
from tests.simulation.conformance.faults import CALLS, FAULTS, FaultCase, left, prepare
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


def test_every_fault_of_every_service_has_a_case() -> None:
    effects = {effect: faults for effect, faults in EFFECTS.items() if effect in CALLS}
    claimed = {(effect, fault) for effect, faults in effects.items() for fault in faults}
    cases = {(case.effect, case.fault) for case in FAULTS.values()} | {("provider.list", Fault.LAG)}
    assert {(effect, fault) for effect, fault in claimed - cases if fault not in SEEN_ELSEWHERE} == set()
    assert cases <= claimed

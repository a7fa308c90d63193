"""Each behaviour that the simulator claims, wherever that service is. `docs/fidelity.md` is the list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.aws import Cloud, in_process
from tests.serving import Switch, switch
from tests.simulation.conformance import provider, stores  # noqa: F401  they fill the table
from tests.simulation.conformance.cases import AWS, CASES, MEMORY, SERVICES
from tests.simulation.conformance.differences import DIFFERENCES, Difference
from tests.simulation.conformance.places import RUN, Around
from tests.simulation.conformance.suites import RUNS as RUNS_OF_SUITES
from tests.simulation.conformance.suites import SUITES

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def switched() -> Iterator[Switch]:
    with switch() as made:
        yield made


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with in_process() as made:
        yield made


@pytest.fixture
def around(cloud: Cloud, switched: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Around:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_PROJECT_ID", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    return Around(folder=tmp_path, cloud=lambda: cloud, switch=lambda: switched)


RUNS = [(name, place) for name, case in CASES.items() for place in case.places if place != AWS]  # see test_on_aws.py


@pytest.mark.parametrize(("name", "place"), RUNS)
def test_a_behaviour(name: str, place: str, around: Around) -> None:
    RUN[place](CASES[name], around)


@pytest.mark.parametrize("found", [found for found in DIFFERENCES if found.differs], ids=lambda found: found.name)
def test_a_known_difference_still_differs(found: Difference, around: Around) -> None:
    assert found.differs is not None
    assert found.differs(around), f"{found.name} does not differ any longer: take it off the list"


def test_differences_are_named_once() -> None:
    names = [found.name for found in DIFFERENCES]
    assert len(set(names)) == len(names)
    assert {place for case in CASES.values() for place in SERVICES[case.service] if place not in case.places} <= {
        MEMORY
    }


@pytest.mark.parametrize("service", SUITES)
def test_the_suites_run_where_the_page_says(service: str) -> None:
    for classes in RUNS_OF_SUITES[service].values():
        for place in classes:
            module, _, name = place.partition(":")
            tree = ast.parse((TESTS / f"{module.replace('.', '/')}.py").read_text())
            bases = {
                node.name: [ast.unparse(base) for base in node.bases]
                for node in tree.body
                if isinstance(node, ast.ClassDef)
            }
            assert _derives(name, SUITES[service].__name__, bases), place


def _derives(name: str, suite: str, bases: dict[str, list[str]]) -> bool:
    return any(base == suite or _derives(base, suite, bases) for base in bases.get(name, ()))

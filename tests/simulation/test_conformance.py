"""Each behaviour that the simulator claims, wherever that service is. `docs/fidelity.md` is the list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.aws import Cloud, in_process
from tests.serving import Switch, switch
from tests.simulation.conformance import provider, stores  # noqa: F401  they fill the table
from tests.simulation.conformance.cases import AWS, CASES
from tests.simulation.conformance.places import BUCKET, RUN, TABLE, Around

REAL = {name: os.environ.get(name) for name in (BUCKET, TABLE)}


@pytest.fixture(scope="module")
def switched() -> Iterator[Switch]:
    with switch() as made:
        yield made


@pytest.fixture
def around(switched: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Around]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_PROJECT_ID", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:

        def cloud() -> Cloud:
            return stack.enter_context(in_process())

        yield Around(folder=tmp_path, cloud=cloud, switch=lambda: switched)


@pytest.mark.parametrize(("name", "place"), [(name, place) for name, case in CASES.items() for place in case.places])
def test_a_behaviour(name: str, place: str, around: Around) -> None:
    if place == AWS and not all(REAL.values()):
        pytest.skip(f"{BUCKET} and {TABLE} name no bucket and table of AWS")
    RUN[place](CASES[name], around)

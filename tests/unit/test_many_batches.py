"""More batches than a process may have files open: submitting beside them, and merging them, still works."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator

import attrs
import pytest

from embedpipe.limits import Limits, Policy
from embedpipe.model import Record
from tests.worlds import CONFIG, SmallWorld

BATCHES = 120
SPARE_FILES = 60


@pytest.fixture
def _few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + SPARE_FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="counts its open files in /proc")
@pytest.mark.usefixtures("_few_files")
def test_more_open_batches_than_open_files() -> None:
    world = SmallWorld(config=attrs.evolve(CONFIG, limits=Limits(requests_per_batch=1), policy=Policy()))
    pipe = world.pipeline()
    pipe.submit([Record(id=f"{at:04d}", text="x") for at in range(BATCHES)])
    pipe.submit([Record(id="one more", text="y")])
    assert pipe.run().collection_count == BATCHES + 1
    assert world.violations(settled=True) == []

"""The contract suites: most behaviours are cases of theirs, and each service runs them under a class of its own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Final

from tests.simulation.conformance.cases import AWS, HTTP, MEMORY, MOTO, SIMULATOR
from verify.contracts import BatchProviderContract, BatchTableContract, BlobStoreContract, VectorStoreContract
from verify.contracts._base import Contract

SUITES: Final[Mapping[str, type[Contract]]] = {
    "objects": BlobStoreContract,
    "table": BatchTableContract,
    "provider": BatchProviderContract,
    "vectors": VectorStoreContract,
}

RUNS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "objects": {
        SIMULATOR: ("simulation.test_contracts:TestSimulatedObjects",),
        MEMORY: ("contract.test_blob_store:TestMemoryBlobStore",),
        MOTO: ("contract.test_s3:TestInProcess", "contract.test_s3:TestOverHttp"),
        AWS: ("simulation.test_on_aws:TestObjectsOnAws",),
    },
    "table": {
        SIMULATOR: ("simulation.test_contracts:TestSimulatedTable",),
        MEMORY: ("contract.test_batch_table:TestMemoryBatchTable",),
        MOTO: ("contract.test_dynamodb:TestInProcess", "contract.test_dynamodb:TestOverHttp"),
        AWS: ("simulation.test_on_aws:TestTableOnAws",),
    },
    "provider": {
        SIMULATOR: ("simulation.test_contracts:TestSimulatedProvider",),
        MEMORY: ("contract.test_batch_provider:TestMemoryProvider",),
        HTTP: ("contract.test_openai:TestOverMemoryProvider", "contract.test_openai:TestOverLocalModel"),
    },
    "vectors": {
        SIMULATOR: (
            "simulation.test_contracts:TestSimulatedVectors",
            "simulation.test_contracts:TestSimulatedVersions",
        ),
        MEMORY: ("contract.test_vector_store:TestMemoryVectorStore",),
    },
}
"""Service -> place -> the classes, below `tests`, that run its suite there."""


def behaviours(service: str) -> Iterator[tuple[str, str]]:
    """Each test of a service's suite: what it says, and its name."""
    suite = SUITES[service]
    tests = (name for name, _ in inspect.getmembers(suite, inspect.isfunction) if name.startswith("test_"))
    for name in sorted(tests, key=lambda name: _place_in_source(suite, name)):
        said = name.removeprefix("test_").replace("_", " ")
        yield f"{said[:1].upper()}{said[1:]}.", f"{suite.__name__}.{name}"


def _place_in_source(suite: type[Contract], name: str) -> tuple[int, int]:
    depth = next(depth for depth, cls in enumerate(suite.__mro__) if name in vars(cls))
    return depth, getattr(suite, name).__code__.co_firstlineno

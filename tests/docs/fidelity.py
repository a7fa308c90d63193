"""The tables of `docs/fidelity.md`: what the simulator claims, where each claim is tested, and what is known to differ."""

from __future__ import annotations

from tests.docs.tables import code, rows
from tests.simulation.conformance import provider, stores  # noqa: F401  they fill the table of cases
from tests.simulation.conformance.cases import CASES, PLACES, SERVICES
from tests.simulation.conformance.crashes import HALF, WHOLE
from tests.simulation.conformance.differences import DIFFERENCES
from tests.simulation.conformance.faults import FAULTS, OF_THEIR_OWN
from tests.simulation.conformance.suites import RUNS, SUITES, behaviours

HEADER = ["service", "behaviour", "case", "where"]


def places_table() -> str:
    return rows(["where", "what runs there"], list(PLACES.items()))


def behaviours_table() -> str:
    body = [[case.service, case.says, code(case.name), ", ".join(case.places)] for case in CASES.values()]
    return rows(HEADER, sorted(body, key=lambda line: list(SERVICES).index(line[0])))


def suites_table() -> str:
    body = [
        [service, said, code(name), ", ".join(RUNS[service])]
        for service in SUITES
        for said, name in behaviours(service)
    ]
    return rows(HEADER, body)


def faults_table() -> str:
    body = [
        [
            case.service,
            case.says,
            code(case.name),
            case.wired,
            code(case.error.__name__) if case.error else "an answer",
        ]
        for case in FAULTS.values()
    ]
    body += [[service, says, code(name), *rest] for service, says, name, *rest in OF_THEIR_OWN]
    return rows(["service", "behaviour", "case", "on the wire of the service", "what the caller gets"], body)


def crashes_table() -> str:
    whole = [[effect.partition(".")[0], said, code(f"{effect}/crash")] for effect, said in WHOLE.items()]
    half = [["vectors", crash.says, code(crash.name)] for crash in HALF]
    return rows(["service", "behaviour", "case"], [*whole, *half])


def differences_table() -> str:
    body = [
        [code(found.name), found.between, found.says, found.reason, "yes" if found.differs else "no"]
        for found in DIFFERENCES
    ]
    return rows(["name", "between", "what differs", "why it may", "looked at"], body)

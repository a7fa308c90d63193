"""The fixed point: which documents reach each state, by which path.

Documents are kept apart as long as they differ and are few, so that each has a shortest path that explains it; beyond
`DOCUMENTS_MAX` in one state they are joined and widened, so that every loop ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from verify.audit.findings import WrongQuestion
from verify.flow.contract import Contract
from verify.flow.effects import Outcome, Way, run_state
from verify.flow.paths import Scope
from verify.flow.values import Value, join, of_kind, record, unknown, widen

__all__ = ["Arrival", "Walk", "walk"]

DOCUMENTS_MAX: Final = 24
"""[ours] Different documents in one state before they are joined."""
VISITS_MAX: Final = 50_000
"""[ours] Evaluations of a state in one analysis."""


@attrs.frozen(kw_only=True)
class Arrival:
    """A document that reaches a state, and how. `label` is the way that led here."""

    state: str
    document: Value
    outcome: Outcome
    label: str = ""
    before: Arrival | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def path(self) -> tuple[Arrival, ...]:
        """From the first state to this one."""
        found, at = [self], self.before
        while at is not None:
            found.append(at)
            at = at.before
        return tuple(reversed(found))


@attrs.define
class Walk:
    """All arrivals, in the order of their discovery."""

    arrivals: list[Arrival] = attrs.field(factory=list)

    def at(self, state: str) -> list[Arrival]:
        """Those of one state."""
        return [arrival for arrival in self.arrivals if arrival.state == state]


def walk(definition: Mapping[str, Any], contract: Contract) -> Walk:
    """Everything that can happen, from an input of which nothing is known. `WrongQuestion` where that is too much."""
    found = Walk()
    start = unknown("the execution's input")
    _machine(_spread(definition), Scope(input=start, context=_context(start)), contract, found, None, "")
    return found


def _context(start: Value) -> Value:
    text = of_kind("string")
    execution = dict.fromkeys(("Id", "Name", "RoleArn", "StartTime"), text)
    execution["RedriveTime"] = of_kind("string", "absent")
    state = record({"Name": text, "EnteredTime": text, "RetryCount": of_kind("number")}, others=True)
    return record(
        {
            "Execution": record(execution | {"Input": start}, others=True),
            "State": state,
            "StateMachine": record({"Id": text, "Name": text}, others=True),
        },
        others=True,
    )


def _spread(definition: Mapping[str, Any], language: str = "JSONPath") -> Mapping[str, Any]:
    """Each state with the query language that it has from its machine."""
    own = definition.get("QueryLanguage", language)
    states = {}
    for name, written in definition["States"].items():
        state = {**written, "QueryLanguage": written.get("QueryLanguage", own)}
        if state["Type"] == "Map":
            key = "ItemProcessor" if "ItemProcessor" in state else "Iterator"
            state[key] = _spread(state[key], own)
        elif state["Type"] == "Parallel":
            state["Branches"] = [_spread(branch, own) for branch in state["Branches"]]
        states[name] = state
    return {**definition, "States": states}


def _machine(
    definition: Mapping[str, Any],
    scope: Scope,
    contract: Contract,
    found: Walk,
    before: Arrival | None,
    label: str,
) -> Sequence[Value]:
    """Explore one machine; the documents that it can end with."""
    ends: dict[Value, None] = {}
    seen: dict[str, list[Value]] = {}
    queue = deque([(Way(label=label, target=definition["StartAt"], document=scope.input), before)])
    while queue:
        way, previous = queue.popleft()
        if way.target is None:
            ends[way.document] = None
            continue
        document = _admitted(seen.setdefault(way.target, []), way.document)
        if document is None:
            continue
        arrival = _visit(definition, way, document, scope, contract, found, previous)
        queue.extend((after, arrival) for after in arrival.outcome.ways)
    return tuple(ends)


def _visit(
    definition: Mapping[str, Any],
    way: Way,
    document: Value,
    scope: Scope,
    contract: Contract,
    found: Walk,
    previous: Arrival | None,
) -> Arrival:
    if len(found.arrivals) >= VISITS_MAX:
        raise WrongQuestion(f"The machine has more than {VISITS_MAX:,} ways to go through its states.")
    name = str(way.target)
    nothing = Outcome(given=document, ways=())
    here = Arrival(state=name, document=document, outcome=nothing, label=way.label, before=previous)

    def inner(machine: Mapping[str, Any], inside: Scope, label: str) -> Sequence[Value]:
        return _machine(machine, inside, contract, found, here, label)

    outcome = run_state(name, definition["States"][name], scope.with_input(document), contract, inner)
    arrival = attrs.evolve(here, outcome=outcome)
    found.arrivals.append(arrival)
    return arrival


def _admitted(known: list[Value], document: Value) -> Value | None:
    """The document to look at, or None where it was looked at."""
    if document in known:
        return None
    if len(known) >= DOCUMENTS_MAX:
        document = widen(join(known[-1] if len(known) > DOCUMENTS_MAX else _all(known), document))
        if document in known:
            return None
    known.append(document)
    return document


def _all(values: Sequence[Value]) -> Value:
    first, *rest = values
    for value in rest:
        first = join(first, value)
    return first

"""The question and its answer: does a field reach a state, on each path; and what else must go wrong.

One frozen report feeds every format. A path is a chain of states with what is known of the field before each.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

import attrs

from verify.flow.contract import Contract
from verify.flow.reading import Machine
from verify.flow.reasons import leaves_payload, reason
from verify.flow.shape import nested
from verify.flow.values import Value, get, size_min_bytes
from verify.flow.walk import Arrival, Walk, walk

__all__ = ["RULES", "Answer", "Finding", "FlowReport", "Link", "Question", "Status", "analyse", "together"]

STATE_BYTES_MAX: Final = 262_144
"""[aws] A state's payload."""
WRAPPER: Final = "poll_results_data"
"""Where the seed carries the fields."""
MARK: Final = re.compile(r"Mark\w*?Batch(es)?Complete", re.IGNORECASE)
"""Name of the state that marks, whatever the kind word in it."""

RULES: Final[Mapping[str, tuple[str, str]]] = {
    "F601": ("critical", "The field is certainly missing in the state, on this path"),
    "F602": ("critical", "The field is certainly null in the state, on this path"),
    "F603": ("critical", "A reference must fail at run time: nothing is at its path"),
    "F604": ("warning", "No path leads to this state"),
    "F605": ("error", "A Map's result outgrows what a state may carry"),
    "F606": ("warning", "A caught failure leads to marking"),
    "F607": ("not_evaluated", "A handler's output decides whether the field is there"),
    "F608": ("not_evaluated", "No state has the name that was asked for"),
}
"""Code -> severity, meaning."""


class Status(StrEnum):
    """Of a field in a state, on one path."""

    THERE = "there"
    NULL = "null"
    MISSING = "missing"
    UNKNOWN = "unknown"


@attrs.frozen(kw_only=True)
class Question:
    """What is asked."""

    fields: tuple[str, ...] = ("poll_results_s3_key", "poll_results_s3_bucket")
    state: str | None = None
    """Name or pattern; None: the state that marks batches complete."""
    items: int = 0
    """Items of each Map, to ask whether its result fits; 0 asks nothing."""


@attrs.frozen(kw_only=True)
class Link:
    """One state of a path, and where the field is in the document that reaches it."""

    state: str
    way: str
    """How the path came here: a rule, Default, Catch, or nothing."""
    known: str


@attrs.frozen(kw_only=True)
class Answer:
    """One field in one target state, for the paths that agree; `path` is the shortest of them."""

    state: str
    field: str
    status: Status
    why: str
    path: tuple[Link, ...]
    paths: int = 1


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that is wrong, or that could not be told."""

    code: str
    state: str
    message: str
    line: int
    column: int
    path: tuple[Link, ...] = ()

    @property
    def severity(self) -> str:
        """As in `RULES`."""
        return RULES[self.code][0]


@attrs.frozen(kw_only=True)
class FlowReport:
    """The analysis of one machine."""

    file: str
    name: str
    targets: tuple[str, ...]
    answers: tuple[Answer, ...]
    findings: tuple[Finding, ...]

    @property
    def title(self) -> str:
        """The file, and which of its machines."""
        return f"{self.file}: {self.name}" if self.name else self.file

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings, 3 something could not be told."""
        if any(finding.severity != "not_evaluated" for finding in self.findings):
            return 1
        return 3 if self.findings else 0

    @property
    def verdict(self) -> str:
        """In one word."""
        return {0: "clean", 1: "findings", 3: "incomplete"}[self.exit_code]


def analyse(machine: Machine, question: Question | None = None, contract: Contract | None = None) -> FlowReport:
    """Answer for one machine. Runs nothing. `WrongQuestion` where it has too many ways to be followed.

    >>> from verify.flow.reading import machines_of
    >>> a = '{"Type": "Pass", "Result": {"key": 1}, "Next": "B"}'
    >>> text = f'{{"StartAt": "A", "States": {{"A": {a}, "B": {{"Type": "Succeed"}}}}}}'
    >>> report = analyse(machines_of(text, file="a.json")[0], Question(fields=("key",), state="B"))
    >>> report.answers[0].status.value, report.verdict
    ('there', 'clean')
    """
    asked = question or Question()
    found = walk(machine.definition, contract or Contract())
    states = dict(_states(machine.definition))
    targets = tuple(name for name in states if _is_target(name, asked.state))
    answers = tuple(_answers(found, states, targets, asked.fields))
    findings = [
        *_of_answers(answers),
        *_references(found),
        *_unreachable(found, states),
        *_sizes(found, asked.items),
        *_caught(found, targets),
    ]
    if not targets:
        wanted = asked.state or "Mark…BatchesComplete"
        findings.append(_finding("F608", machine.definition["StartAt"], f"{wanted}: no state has that name"))
    placed = [attrs.evolve(one, line=(at := machine.line(one.state))[0], column=at[1]) for one in findings]
    return FlowReport(file=machine.file, name=machine.name, targets=targets, answers=answers, findings=tuple(placed))


def together(reports: Iterable[FlowReport]) -> tuple[FlowReport, ...]:
    """Reports of machines that belong together: it is enough that one of them has the state that was asked for."""
    made = tuple(reports)
    if not any(report.targets for report in made):
        return made
    return tuple(
        attrs.evolve(one, findings=tuple(finding for finding in one.findings if finding.code != "F608")) for one in made
    )


def _finding(code: str, state: str, message: str, path: tuple[Link, ...] = ()) -> Finding:
    return Finding(code=code, state=state, message=message, line=1, column=1, path=path)


def _states(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, state in definition["States"].items():
        yield name, state
        for inner in nested(state):
            yield from _states(inner)


def _is_target(name: str, wanted: str | None) -> bool:
    return bool(MARK.fullmatch(name)) if wanted is None else fnmatch.fnmatchcase(name, wanted)


def _answers(
    found: Walk, states: Mapping[str, Any], targets: tuple[str, ...], fields: tuple[str, ...]
) -> Iterator[Answer]:
    for target in targets:
        for field in fields:
            grouped: dict[tuple[Status, str], Answer] = {}
            for arrival in found.at(target):
                status, why = _answer(arrival, states, field)
                same = grouped.get((status, why))
                if same is None:
                    chain = _chain(arrival, field)
                    grouped[status, why] = Answer(state=target, field=field, status=status, why=why, path=chain)
                else:
                    grouped[status, why] = attrs.evolve(same, paths=same.paths + 1)
            yield from grouped.values()


def _answer(arrival: Arrival, states: Mapping[str, Any], field: str) -> tuple[Status, str]:
    if arrival.outcome.failures:
        where, path = arrival.outcome.failures[0]
        return Status.MISSING, f"{where} of {arrival.state} must fail: {path}; {_lost(arrival, states, field)}"
    event = _event(arrival.outcome.given, states[arrival.state])
    places = [get(event, field), get(get(event, WRAPPER), field)]
    direct, wrapped = (_status(place) for place in places)
    status = wrapped if direct is Status.MISSING or wrapped is Status.THERE else direct
    if status is Status.UNKNOWN:
        origin = next((place.origin for place in places if place.origin), "")
        return status, f"{origin or 'the output of an earlier state'} decides"
    return status, "" if status is Status.THERE else _lost(arrival, states, field)


def _event(given: Value, state: Mapping[str, Any]) -> Value:
    """What the handler is given: with `lambda:invoke` that is the Payload."""
    wrapped = state["Type"] == "Task" and "lambda:invoke" in str(state.get("Resource"))
    return get(given, "Payload") if wrapped else given


def _status(value: Value) -> Status:
    if value.certain:
        return Status.THERE
    if value.kinds == {"absent"}:
        return Status.MISSING
    return Status.NULL if value.kinds == {"null"} else Status.UNKNOWN


def _chain(arrival: Arrival, field: str) -> tuple[Link, ...]:
    return tuple(Link(state=one.state, way=one.label, known=_known(one.document, field)) for one in arrival.path)


def _known(document: Value, field: str) -> str:
    place = _place(document, field)
    return "" if place is None else f"{place[1].value} at {place[0]}"


def _place(document: Value, field: str, path: str = "$", levels: int = 3) -> tuple[str, Status] | None:
    """Where a document has the field, the surest place first."""
    here = dict(document.fields).get(field)
    found = [(f"{path}.{field}", _status(here))] if here is not None else []
    if levels:
        deeper = [_place(value, field, _below(path, name), levels - 1) for name, value in document.fields]
        found += [place for place in deeper if place is not None]
    order = (Status.THERE, Status.UNKNOWN, Status.NULL)
    found = [place for place in found if place[1] in order]
    return min(found, key=lambda place: order.index(place[1]), default=None)


def _below(path: str, name: str | int) -> str:
    return f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}"


def _lost(arrival: Arrival, states: Mapping[str, Any], field: str) -> str:
    """In which state the field went away."""
    path = arrival.path
    for before, after in zip(path[-2::-1], path[:0:-1], strict=True):
        had, has = _place(before.document, field), _place(after.document, field)
        if had is not None and ((had[1] is Status.THERE and has != had) or has is None):
            moved = f" (it is at {has[0]} now)" if has is not None and has[1] is Status.THERE else ""
            verb = "makes it null" if has is not None and has[1] is Status.NULL else f"drops it{moved}"
            return f"{before.state} {verb}: {reason(states[before.state], after)}"
    last = _place(arrival.document, field)
    if last is None:
        wrapped = next((one.state for one in path[-2::-1] if leaves_payload(states[one.state])), None)
        return f"{wrapped} leaves what its function returns in Payload" if wrapped else "no state before sets it"
    return f"{arrival.state} is not given it, though its input has it at {last[0]} ({last[1].value})"


def _of_answers(answers: tuple[Answer, ...]) -> Iterator[Finding]:
    codes = {Status.MISSING: "F601", Status.NULL: "F602", Status.UNKNOWN: "F607"}
    for answer in answers:
        if answer.status in codes:
            message = f"{answer.field} is {answer.status.value} in {answer.state}: {answer.why}"
            yield _finding(codes[answer.status], answer.state, message, answer.path)


def _references(found: Walk) -> Iterator[Finding]:
    seen = set()
    for arrival in found.arrivals:
        for field, path in arrival.outcome.failures:
            if (arrival.state, field, path) in seen:
                continue
            seen.add((arrival.state, field, path))
            every = all((field, path) in one.outcome.failures for one in found.at(arrival.state))
            often = "on every path" if every else "on this path"
            yield _finding("F603", arrival.state, f"{field} refers to {path}, which fails {often}", _chain(arrival, ""))


def _unreachable(found: Walk, states: Mapping[str, Any]) -> Iterator[Finding]:
    reached = {arrival.state for arrival in found.arrivals}
    for name in states:
        if name not in reached:
            yield _finding("F604", name, f"nothing leads to {name}, whatever the input is")


def _sizes(found: Walk, items: int) -> Iterator[Finding]:
    seen = set()
    for arrival in found.arrivals:
        if arrival.outcome.size is None or arrival.state in seen:
            continue
        output, most = arrival.outcome.size
        count = items if most is None else min(items, most)
        size = (size_min_bytes(output) + 1) * count
        if size > STATE_BYTES_MAX:
            seen.add(arrival.state)
            message = f"{count:,} items make at least {size:,} bytes; a state carries {STATE_BYTES_MAX:,}"
            yield _finding("F605", arrival.state, message, _chain(arrival, ""))


def _caught(found: Walk, targets: tuple[str, ...]) -> Iterator[Finding]:
    seen = set()
    for target in targets:
        for arrival in found.at(target):
            path = arrival.path
            caught = [before.state for before, after in pairwise(path) if after.label == "Catch"]
            if caught and (target, caught[-1]) not in seen:
                seen.add((target, caught[-1]))
                message = f"a failure of {caught[-1]} is caught and leads to {target}"
                yield _finding("F606", target, message, _chain(arrival, ""))

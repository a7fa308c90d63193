"""The lifecycles as tables: what is not in them raises, and nothing leaves a terminal state."""

from __future__ import annotations

from itertools import product

import pytest

from embedpipe.errors import IllegalTransition
from embedpipe.lifecycle import (
    ENDINGS,
    OPEN,
    PROVIDER_PHASES,
    REGISTER_MOVES,
    TERMINAL,
    TERMINAL_ACTIONS,
    TRANSITIONS,
    Action,
    Event,
    Phase,
    Status,
    advance,
    diagram,
)


@pytest.mark.parametrize(("status", "event"), list(product(Status, Event)))
def test_every_pair_is_in_the_table_or_raises(status: Status, event: Event) -> None:
    if (status, event) in TRANSITIONS:
        assert advance(status, event) is TRANSITIONS[status, event]
        return
    with pytest.raises(IllegalTransition, match=f"A {status} row cannot take '{event}'"):
        advance(status, event)


def test_a_status_is_open_or_terminal() -> None:
    assert OPEN | TERMINAL == frozenset(Status)
    assert OPEN & TERMINAL == frozenset()
    assert {status.value for status in TERMINAL} == {"COMPLETED", "EXPIRED", "CANCELLED", "FAILED"}


def test_nothing_leaves_a_terminal_status() -> None:
    assert {before for before, _ in TRANSITIONS} == OPEN


def test_every_status_is_reached_and_every_open_one_can_end() -> None:
    reached = {Status.INTENT}
    for _ in Status:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(Status)
    ends = set(TERMINAL)
    for _ in Status:
        ends |= {before for (before, _), after in TRANSITIONS.items() if after in ends}
    assert ends == set(Status)


def test_only_a_batch_that_was_created_completes() -> None:
    assert [before for (before, event) in TRANSITIONS if event is Event.PROVEN] == [Status.PENDING]
    assert [before for before, event in TRANSITIONS if event is Event.CREATED] == [Status.CREATING]
    # Of a create without a known answer all that can be said is that it failed.
    from_creating = {event for before, event in TRANSITIONS if before is Status.CREATING}
    assert from_creating == {Event.REFUSED, Event.CREATED, Event.ENDED_FAILED}


def test_every_ended_word_of_the_provider_ends_a_row() -> None:
    ended = {word for word, phase in PROVIDER_PHASES.items() if phase is Phase.ENDED}
    assert ended == {"completed", "expired", "cancelled", "failed"}
    assert ENDINGS.keys() == ended | {"create_lost", "lost"}
    assert all((Status.PENDING, event) in TRANSITIONS for event in ENDINGS.values())


def test_a_register_moves_forward_only() -> None:
    assert {before for before, _ in REGISTER_MOVES} == {None, Action.WAIT}
    assert {after for _, after in REGISTER_MOVES} == TERMINAL_ACTIONS | {Action.WAIT}
    assert Action.UNREADABLE_RESULT not in TERMINAL_ACTIONS


def test_the_diagram_is_the_table() -> None:
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> INTENT"]
    assert "    CREATING --> PENDING: created" in lines
    assert "    FAILED --> [*]" in lines
    assert len(lines) == 2 + len(TRANSITIONS) + len(TERMINAL) == len(set(lines))

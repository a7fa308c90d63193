"""The lifecycles as tables: a batch row, the provider's batch, and a poll register. What is not in a table raises.

The diagrams in the docs are generated from these tables. Nothing here reads or writes anything.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from embedpipe.errors import IllegalTransition


class Status(StrEnum):
    """Status of a row in the batch table."""

    INTENT = "INTENT"
    CREATING = "CREATING"
    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


OPEN: Final = frozenset({Status.INTENT, Status.CREATING, Status.PENDING})
TERMINAL: Final = frozenset(Status) - OPEN


class Event(StrEnum):
    """What may happen to a row, and who says so."""

    CLAIM_CREATE = "claim_create"  # one invocation wins the right to call create
    REFUSED = "refused"  # the provider said no: nothing exists there
    CREATED = "created"  # the create answered, or a search found the batch
    PROVEN = "proven"  # mark: every record is accounted for
    ENDED_EXPIRED = "ended_expired"  # mark: no usable vector
    ENDED_CANCELLED = "ended_cancelled"
    ENDED_FAILED = "ended_failed"


TRANSITIONS: Final = MappingProxyType(
    {
        (Status.INTENT, Event.CLAIM_CREATE): Status.CREATING,
        (Status.CREATING, Event.REFUSED): Status.INTENT,
        (Status.CREATING, Event.CREATED): Status.PENDING,
        (Status.PENDING, Event.PROVEN): Status.COMPLETED,
        (Status.PENDING, Event.ENDED_EXPIRED): Status.EXPIRED,
        (Status.PENDING, Event.ENDED_CANCELLED): Status.CANCELLED,
        (Status.PENDING, Event.ENDED_FAILED): Status.FAILED,
        # A lost create ends without ever having had a provider batch that we know of.
        (Status.CREATING, Event.ENDED_FAILED): Status.FAILED,
    }
)


def advance(status: Status, event: Event) -> Status:
    """The status after `event`.

    >>> advance(Status.CREATING, Event.CREATED)
    <Status.PENDING: 'PENDING'>
    >>> advance(Status.COMPLETED, Event.CREATED)
    Traceback (most recent call last):
    embedpipe.errors.IllegalTransition: A COMPLETED row cannot take 'created'.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(f"A {status} row cannot take '{event}'.", status=status, event=event) from None


class Phase(StrEnum):
    """What a provider's batch status means to us."""

    RUNNING = "running"
    ENDED = "ended"


PROVIDER_PHASES: Final = MappingProxyType(
    {
        "validating": Phase.RUNNING,
        "in_progress": Phase.RUNNING,
        "finalizing": Phase.RUNNING,
        "cancelling": Phase.RUNNING,
        "completed": Phase.ENDED,
        "expired": Phase.ENDED,
        "cancelled": Phase.ENDED,
        "failed": Phase.ENDED,
    }
)

CAPACITY_REASONS: Final = frozenset(
    {
        "insufficient_quota",
        "rate_limit_exceeded",
        "token_limit_exceeded",
        "batch_queue_full",
        "billing_hard_limit_reached",
        "billing_not_active",
        "throttled",
    }
)
"""Words of the provider that mean "not now": waiting helps, and costs no try. [openai] error codes of batches."""

# How mark ends a row without usable vectors, by the provider's (or our own) word for the batch.
ENDINGS: Final = MappingProxyType(
    {
        "completed": Event.PROVEN,
        "expired": Event.ENDED_EXPIRED,
        "cancelled": Event.ENDED_CANCELLED,
        "failed": Event.ENDED_FAILED,
        "create_lost": Event.ENDED_FAILED,
        "lost": Event.ENDED_FAILED,
    }
)


class Action(StrEnum):
    """The `action` of a poll result."""

    PROCESS_RESULTS = "process_results"
    PROCESS_PARTIAL = "process_partial"
    WAIT = "wait"
    HANDLE_FAILURE = "handle_failure"
    UNREADABLE_RESULT = "unreadable_result"


# The register `poll_results/{batch_id}/result.json` only moves forward: a wait may be replaced, a terminal result only
# by a revision, when its delta is damaged. `unreadable_result` lives in poll_results.json and never in a register.
REGISTER_MOVES: Final = frozenset(
    {(before, after) for before in (None, Action.WAIT) for after in Action if after is not Action.UNREADABLE_RESULT}
)
TERMINAL_ACTIONS: Final = frozenset({Action.PROCESS_RESULTS, Action.PROCESS_PARTIAL, Action.HANDLE_FAILURE})


def diagram() -> str:
    """The row lifecycle as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> INTENT"]
    lines += [f"    {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()]
    lines += [f"    {status} --> [*]" for status in Status if status in TERMINAL]
    return "\n".join(lines) + "\n"

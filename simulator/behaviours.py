"""What a simulated provider does with the batches of a run: how each fares, drawn from the seed and its number."""

from __future__ import annotations

from typing import Final

import attrs

from embedpipe.backends.batch_files import CANCELLED, EXPIRED, TIMEOUT, ItemError
from embedpipe.backends.memory.behaviour import FOR_EVER, SILENT, Behaviour, CreateFault
from embedpipe.model import ProviderIssue
from simulator.chance import fraction, number, pick
from simulator.records import ODD_IDS

__all__ = ["NEVER_ENDS", "QUICK", "calm", "crowded", "odd_half", "refusing"]

QUICK: Final = Behaviour(running=())
"""Ends well at the first look."""
NEVER_ENDS: Final = Behaviour(running=("in_progress",), outcome=None)
"""Until somebody cancels it."""

_BAD: Final = ItemError(400, "invalid_input", "This text can't be embedded.")

_ERRORS: Final[tuple[ItemError | None, ...]] = (EXPIRED, CANCELLED, TIMEOUT, _BAD, SILENT)
_ENDS: Final = ("completed", "completed", "completed", "completed", "expired", "cancelled", "failed")
_CREATES: Final = (
    *(Behaviour(create=CreateFault.REFUSED, refusal=word) for word in ("insufficient_quota", "invalid_request")),
    Behaviour(create=CreateFault.THROTTLED),
    Behaviour(create=CreateFault.LOST),
    Behaviour(create=CreateFault.ANSWER_LOST, running=()),
)
_ISSUES: Final[tuple[tuple[ProviderIssue, ...], ...]] = (
    (),
    (ProviderIssue(code="invalid_json_line", message="line 1 is no JSON", line=1),),
    (ProviderIssue(code="token_limit_exceeded", message="too many tokens are in the queue"),),
)
_ODD_LINES: Final = (b"no JSON\n", b'{"id": "x", "custom_id": "nobody\'s", "response": null, "error": null}\n')


def odd_half(seed: int, nth: int) -> Behaviour:
    """Half of the batches are good, an eighth is not made at first, some are lost, some never end."""
    lot = fraction(seed, "lot", nth)
    running = ("in_progress",) * (number(seed, "running", nth) % 3)
    if lot < 0.5:
        return Behaviour(running=running, shuffle_seed=nth)
    if lot < 0.62:
        return pick(_CREATES, seed, "create", nth)
    if lot < 0.65:
        return Behaviour(unknown_retrieves=FOR_EVER)
    if lot < 0.68:
        return NEVER_ENDS

    def once_in(runs: int, what: str) -> bool:
        return number(seed, what, nth) % runs == 0

    named = [f"r{at}" for at in range(10) if fraction(seed, "fated", nth, at) < 0.2]
    return Behaviour(
        running=running,
        outcome=pick(_ENDS, seed, "outcome", nth),
        issues=pick(_ISSUES, seed, "issues", nth),
        fates={name: pick(_ERRORS, seed, "fate", nth, name) for name in named},
        shuffle_seed=nth,
        doubled=frozenset({"r1", "r2"}) if once_in(5, "doubled") else frozenset(),
        extra_lines=_ODD_LINES if once_in(5, "odd lines") else (),
        late_retrieves=number(seed, "late", nth) % 2,
        null_output_retrieves=int(once_in(4, "null output")),
        absent_file_id="" if once_in(4, "absent") else None,
        unknown_retrieves=number(seed, "unknown", nth) % 2,
        unlisted_calls=number(seed, "unlisted", nth) % 3,
        content_missing=FOR_EVER if once_in(12, "gone") else int(once_in(6, "content")),
        torn=once_in(5, "torn"),
        counts_silent=once_in(2, "silent"),
    )


def calm(seed: int, nth: int) -> Behaviour:
    """Seven in eight are good, and most of those at the first look: what is submitted and merged decides."""
    if fraction(seed, "calm", nth) < 7 / 8:
        return Behaviour(running=("in_progress",) * (number(seed, "running", nth) % 4 == 0), shuffle_seed=nth)
    return odd_half(seed, nth)


def crowded(seed: int, nth: int) -> Behaviour:
    """A third never ends, so that others have to get past it."""
    return NEVER_ENDS if fraction(seed, "crowded", nth) < 1 / 3 else calm(seed, nth)


REFUSALS: Final = (
    _BAD,
    ItemError(413, "too_long", "This text has too many tokens."),
    ItemError(403, "moderation_blocked", "This text is against the rules."),
    ItemError(500, "server_error", "Try again."),
)


def refusing(seed: int, nth: int) -> Behaviour:
    """Some requests fail, each for a reason of its own, and what else happens is as in calm runs."""
    named = {
        name: pick(REFUSALS, seed, "refusal", nth, name) for name in ODD_IDS if fraction(seed, "no", nth, name) < 0.2
    }
    return attrs.evolve(calm(seed, nth), fates=named)

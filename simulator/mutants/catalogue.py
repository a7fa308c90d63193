"""The planted bugs. Each is what somebody could well have written, against one guarantee."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from simulator.mutants.loader import Patch

__all__ = ["MUTANTS", "Mutant"]


@attrs.frozen(kw_only=True)
class Mutant:
    """One planted bug."""

    name: str
    guarantee: str
    """Which of G1 to G10 it breaks."""
    story: str
    """What was thought by whoever wrote it."""
    patches: tuple[Patch, ...]


def _mutant(name: str, guarantee: str, story: str, *patches: tuple[str, str, str]) -> Mutant:
    changed = tuple(Patch(f"embedpipe.{module}", before, after) for module, before, after in patches)
    return Mutant(name=name, guarantee=guarantee, story=story, patches=changed)


_ALL: Final = (
    _mutant(
        "wait_is_marked",
        "G3",
        "A result is a result: whatever was polled is marked.",
        (
            "stages.mark_complete",
            "    if result.action in TERMINAL_ACTIONS:\n        return None\n",
            "    return None\n",
        ),
        ("steps.mark_complete", "if result.embedding_count or row.request_count is not None:", "if False:"),
    ),
    _mutant(
        "listing_without_creating",
        "G4",
        "Only what was created can be polled.",
        ("stages.list_pending", "LISTED = (Status.PENDING, Status.CREATING)", "LISTED = (Status.PENDING,)"),
    ),
    _mutant(
        "capped_listing",
        "G4",
        "One batch at a time keeps an execution short.",
        (
            "stages.list_pending",
            "return tuple(sorted(listed.values(), key=lambda row: (row.claim, row.batch_id)))",
            "return tuple(sorted(listed.values(), key=lambda row: row.batch_id))[:1]",
        ),
    ),
    _mutant(
        "proof_is_skipped",
        "G3",
        "The merge has succeeded, so its rows are in the catalog.",
        ("steps.mark_complete", "        if lacking:\n", "        if False:\n"),
    ),
    _mutant(
        "zero_results_never_marked",
        "G4",
        "Without a vector there is nothing to mark.",
        (
            "stages.mark_complete",
            "    if result.action in TERMINAL_ACTIONS:\n        return None\n",
            "    if result.action in TERMINAL_ACTIONS and result.embedding_count:\n        return None\n",
        ),
    ),
    _mutant(
        "parent_before_retry",
        "G2",
        "First end the parent, then store what has to be sent again.",
        (
            "steps.mark_complete",
            "        for batch in retry:\n            _store_retry(ctx, found.row, batch)\n",
            "",
        ),
        (
            "steps.mark_complete",
            "    except PreconditionFailed:\n        return _changed_meanwhile(ctx, found.row, execution_id)\n",
            "        for batch in retry:\n            _store_retry(ctx, found.row, batch)\n"
            "    except PreconditionFailed:\n        return _changed_meanwhile(ctx, found.row, execution_id)\n",
        ),
    ),
    _mutant(
        "lesser_claim_wins",
        "G6",
        "The last one to be merged wins.",
        (
            "stages.merge",
            "newer = (seq > old_seq) | ((seq == old_seq) & (attempt > old_attempt))",
            "newer = (seq != old_seq) | (attempt != old_attempt)",
        ),
    ),
    _mutant(
        "distrust_forgotten",
        "G6",
        "What is equal need not be written again, whoever has died.",
        ("steps.merge", "distrusted=inherited.ids,", "distrusted=None,"),
    ),
    _mutant(
        "no_journal",
        "G6",
        "A merge that dies is merged again by the next one.",
        ("steps.merge", "        journal.begin(ctx, group.chunks, inherited, execution_id)\n", "        pass\n"),
    ),
    _mutant(
        "late_wait_overwrites",
        "G3",
        "The newest look at a batch is the truest.",
        (
            "stages.poll",
            "    if stored is not None and stored.action in TERMINAL_ACTIONS:\n",
            "    if proposed.action is Action.WAIT:\n        return True\n"
            "    if stored is not None and stored.action in TERMINAL_ACTIONS:\n",
        ),
    ),
    _mutant(
        "partial_thrown_away",
        "G9",
        "A batch that has expired has failed.",
        (
            "stages.conclude",
            "    rejected: list[Rejected] = []\n",
            "    if batch.status != 'completed':\n        fold.slots[:] = [-1] * len(fold.ids)\n"
            "    rejected: list[Rejected] = []\n",
        ),
    ),
)

MUTANTS: Final[Mapping[str, Mutant]] = MappingProxyType({mutant.name: mutant for mutant in _ALL})
"""By name."""

"""Applying a plan, and undoing it: each action on the condition that its target is as it was seen, and written down first.

The journal is one object an action, below `quarantine/`, with a copy of what was there before. It is written before the
action and again after it, so a plan that was interrupted is applied again and goes on; applied once more, it changes nothing.
Nothing is deleted but what a copy was made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import attrs
import msgspec

from embedpipe.errors import CorruptData, NewerSchema, PreconditionFailed
from embedpipe.retry import call
from embedpipe.wire import decode, encode, format_time
from verify.audit.findings import WrongQuestion
from verify.repair.acts import ACTS, body
from verify.repair.plan import Action, Do, Plan
from verify.repair.stores import Stores

__all__ = ["Came", "Done", "Stores", "apply_plan", "undo"]

QUARANTINE: Final = "quarantine"
SCHEMA: Final = 1
_NAME: Final = re.compile(r"[0-9a-f]{16}")


class Came(StrEnum):
    """What became of an action."""

    DONE = "done"
    ALREADY = "already"
    STALE = "stale"
    UNDONE = "undone"
    LEFT = "left"


@attrs.frozen(kw_only=True)
class Done:
    """One action and what became of it."""

    action: Action
    came: Came
    why: str = ""


class _Entry(msgspec.Struct, kw_only=True):
    """One object of the journal."""

    schema: int = SCHEMA
    action: dict[str, Any]
    began_at: str
    ended: bool
    undone: bool = False


def apply_plan(plan: Plan, stores: Stores, *, dry_run: bool = False) -> Iterator[Done]:
    """Each action in order. One whose target has moved is refused, and the others go on. `WrongQuestion`, `CorruptData`."""
    if plan.place != stores.place:
        raise WrongQuestion(
            f"This plan is for {plan.place or 'stores without a name'}, and not for {stores.place or 'these'}.",
            hint="Name what it was planned for, or plan again.",
        )
    for number, action in enumerate(plan.actions):
        yield call(lambda at=number, one=action: _applied(plan, at, one, stores, dry_run), stores.retry, stores.clock)  # type: ignore[misc]


def _applied(plan: Plan, number: int, action: Action, stores: Stores, dry_run: bool) -> Done:
    """One action, as often as a service that fails makes it begin again."""
    act, journal = ACTS[action.do], _Journal(stores, plan.id, number)
    if journal.entry is not None and _read_action(journal.entry.action, journal.key) != action:
        raise CorruptData(
            f"{journal.key} is of another plan.", hint="Plan again: the new plan has a journal of its own."
        )
    begun = journal.entry is not None and not journal.entry.undone
    if begun and journal.entry is not None and journal.entry.ended:
        return Done(action=action, came=Came.ALREADY)  # whatever has become of its target since
    if begun and act.is_done(action, stores):  # killed between the action and its entry
        return _ended(action, journal, Came.ALREADY, dry_run=dry_run)
    seen = act.seen(action, stores)
    if seen != action.saw:
        return Done(action=action, came=Came.STALE, why=f"it is {_shown(seen)}; the plan saw {_shown(action.saw)}")
    if dry_run:
        return Done(action=action, came=Came.DONE, why="not done: a rehearsal")
    journal.keep(act.before(action, stores))
    journal.write(action, ended=False)
    try:
        act.do(action, stores)
    except PreconditionFailed as error:
        return Done(action=action, came=Came.STALE, why=error.message)
    return _ended(action, journal, Came.DONE)


def _ended(action: Action, journal: _Journal, came: Came, *, dry_run: bool = False) -> Done:
    if not dry_run:
        journal.write(action, ended=True)
    return Done(action=action, came=came)


def undo(plan_id: str, stores: Stores) -> Iterator[Done]:
    """Put back what each action found, last first, where nothing newer stands. `WrongQuestion` where there is no journal."""
    entries = list(_entries(plan_id, stores)) if _NAME.fullmatch(plan_id) else []
    if not entries:
        where = f" in {stores.place}" if stores.place else ""
        raise WrongQuestion(
            f"There is no journal {plan_id[:40]!a}{where}.", hint="Its name is what `repair apply` printed."
        )
    for journal, action in reversed(entries):
        yield call(lambda kept=journal, one=action: _undone(kept, one, stores), stores.retry, stores.clock)  # type: ignore[misc]


def _undone(journal: _Journal, action: Action, stores: Stores) -> Done:
    act = ACTS[action.do]
    if journal.entry is not None and journal.entry.undone:
        return Done(action=action, came=Came.ALREADY)
    if act.put_back is None:
        return Done(action=action, came=Came.LEFT, why=act.one_way)
    before = journal.before()
    if act.is_done(action, stores):
        try:
            act.put_back(action, before, stores)
        except PreconditionFailed as error:
            return Done(action=action, came=Came.LEFT, why=error.message)
    elif journal.entry is not None and not journal.entry.ended and act.seen(action, stores) == action.saw:
        return Done(action=action, came=Came.LEFT, why="it was never done")
    elif not act.is_back(action, before, stores):
        return Done(action=action, came=Came.LEFT, why="something newer stands there")
    journal.write(action, ended=True, undone=True)
    return Done(action=action, came=Came.UNDONE)


def _shown(seen: str | None) -> str:
    return "not there" if seen is None else seen[:24]


# --- the journal ---------------------------------------------------------------------------------------------------


class _Journal:
    """What is written down of one action."""

    def __init__(self, stores: Stores, plan_id: str, number: int) -> None:
        self._stores = stores
        self._prefix = f"{QUARANTINE}/{plan_id}/{number:06d}"
        self.key = f"{self._prefix}.json"
        data = body(self.key, stores)
        self.entry = _entry(data, self.key) if data is not None else None

    def keep(self, found: bytes | None) -> None:
        """A copy of what is there, made once."""
        if found is None:
            return
        try:
            self._stores.objects.put(f"{self._prefix}.before", found, if_none_match=True)
        except PreconditionFailed:
            if self.before() != found:
                raise

    def before(self) -> bytes | None:
        """That copy."""
        return body(f"{self._prefix}.before", self._stores)

    def write(self, action: Action, *, ended: bool, undone: bool = False) -> None:
        """What is about to be done, or has been, or was put back."""
        began_at = self.entry.began_at if self.entry else format_time(self._stores.clock.now())
        self.entry = _Entry(action=attrs.asdict(action), began_at=began_at, ended=ended, undone=undone)
        self._stores.objects.put(self.key, encode(msgspec.to_builtins(self.entry)))


def _entry(data: bytes, key: str) -> _Entry:
    try:
        found = msgspec.convert(decode(data, key), _Entry)
    except msgspec.ValidationError as error:
        raise CorruptData(f"{key} is no entry of a journal: {error}") from None
    if found.schema != SCHEMA:
        raise NewerSchema(
            f"{key} has schema {found.schema}; this version reads {SCHEMA}.", hint="Use a newer embedpipe."
        )
    return found


def _entries(plan_id: str, stores: Stores) -> Iterator[tuple[_Journal, Action]]:
    """Those of a plan, in order."""
    prefix = f"{QUARANTINE}/{plan_id}/"
    for info in list(stores.objects.list(prefix)):
        name = info.key.removeprefix(prefix).removesuffix(".json")
        if info.key.endswith(".json") and name.isdecimal():
            journal = _Journal(stores, plan_id, int(name))
            if journal.entry is not None:
                yield journal, _read_action(journal.entry.action, journal.key)


def _read_action(found: dict[str, Any], key: str) -> Action:
    try:
        known = {**found, "do": Do(found["do"]), "mends": tuple(found["mends"]), "batch_ids": tuple(found["batch_ids"])}
        return Action(**known)
    except (KeyError, TypeError, ValueError):
        raise CorruptData(f"{key} is no entry of a journal: its action can't be read.") from None

"""Applying a plan, and undoing it: each action on the condition that its target is as it was seen, and written down first.

The journal is one object an action, below `quarantine/`, with a copy of what was there before. It is written before the
action and again after it, so a plan that was interrupted is applied again and goes on; applied once more, it changes nothing.
Nothing is deleted but what a copy was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final

import attrs
import msgspec

from embedpipe.errors import CorruptData, NotFound, PreconditionFailed
from embedpipe.lifecycle import Status
from embedpipe.ports import BatchTable, BlobStore, Clock
from embedpipe.wire import decode, encode, format_time
from verify.audit.findings import WrongQuestion
from verify.repair.plan import Action, Do, Plan
from verify.repair.reading import digest

__all__ = ["Came", "Done", "Stores", "apply_plan", "undo"]

QUARANTINE: Final = "quarantine"


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


@attrs.frozen(kw_only=True)
class Stores:
    """What a repair writes to."""

    objects: BlobStore
    table: BatchTable
    clock: Clock


class _Entry(msgspec.Struct, kw_only=True):
    """One object of the journal."""

    action: dict[str, Any]
    began_at: str
    ended: bool
    undone: bool = False


def apply_plan(plan: Plan, stores: Stores, *, dry_run: bool = False) -> Iterator[Done]:
    """Each action in order. One whose target has moved is refused, and the others go on."""
    for number, action in enumerate(plan.actions):
        journal = _Journal(stores, plan.id, number)
        begun = journal.entry is not None and not journal.entry.undone
        if begun and journal.entry is not None and journal.entry.ended:
            yield Done(action=action, came=Came.ALREADY)  # whatever has become of its target since
            continue
        if begun and _is_there(action, stores):  # killed between the action and its entry
            if not dry_run:
                journal.write(action, ended=True)
            yield Done(action=action, came=Came.ALREADY)
            continue
        seen = _seen(action, stores)
        if seen != action.saw:
            yield Done(action=action, came=Came.STALE, why=f"it is {_shown(seen)}; the plan saw {_shown(action.saw)}")
            continue
        if dry_run:
            yield Done(action=action, came=Came.DONE, why="not done: a rehearsal")
            continue
        journal.keep_before(action)
        journal.write(action, ended=False)
        try:
            _ACTIONS[action.do](action, stores)
        except PreconditionFailed as error:
            yield Done(action=action, came=Came.STALE, why=error.message)
            continue
        journal.write(action, ended=True)
        yield Done(action=action, came=Came.DONE)


def undo(plan_id: str, stores: Stores) -> Iterator[Done]:
    """Put back what each action found, last first, where nothing newer stands."""
    entries = list(_entries(plan_id, stores))
    if not entries:
        raise WrongQuestion(f"There is no journal {plan_id[:40]!a}.", hint="Its name is what `repair apply` printed.")
    for journal, action in reversed(entries):
        if journal.entry is not None and journal.entry.undone:
            yield Done(action=action, came=Came.ALREADY)
        elif action.do is Do.REINDEX:
            yield Done(
                action=action, came=Came.LEFT, why="index keys follow from the status: there is nothing to put back"
            )
        elif not _is_there(action, stores):
            why = "it was never done" if _seen(action, stores) == action.saw else "something newer stands there"
            yield Done(action=action, came=Came.LEFT, why=why)
        else:
            _put_back(action, journal.before(), stores)
            journal.write(action, ended=True, undone=True)
            yield Done(action=action, came=Came.UNDONE)


def _put_back(action: Action, before: bytes | None, stores: Stores) -> None:
    if before is None:
        stores.objects.delete(action.target)  # it was made here, and its body is in the journal
    elif action.do is Do.QUARANTINE:
        stores.objects.put(action.target, before, if_none_match=True)
    else:
        stores.objects.put(action.target, before, if_match=stores.objects.get(action.target).etag)


# --- one action ----------------------------------------------------------------------------------------------------


def _body(key: str, stores: Stores) -> bytes | None:
    try:
        return stores.objects.get(key).data
    except NotFound:
        return None


def _seen(action: Action, stores: Stores) -> str | None:
    """The state of the target now, in the words of `Action.saw`."""
    if action.do is Do.REINDEX:
        row = stores.table.get_many([action.target]).get(action.target)
        return f"{row.status} {row.revision}" if row is not None else None
    return digest(_body(action.target, stores))


def _is_there(action: Action, stores: Stores) -> bool:
    """Whether the target is as the action leaves it."""
    if action.do is Do.REINDEX:
        status, _, revision = (action.saw or "").partition(" ")
        return _seen(action, stores) == f"{status} {int(revision or 0) + 1}"
    found = _body(action.target, stores)
    return found is None if action.do is Do.QUARANTINE else found == (action.body or "").encode()


def _shown(seen: str | None) -> str:
    return "not there" if seen is None else seen[:24]


def _write(action: Action, stores: Stores) -> None:
    body = (action.body or "").encode()
    if action.saw is None:
        stores.objects.put(action.target, body, if_none_match=True)
        return
    now = stores.objects.get(action.target)
    if digest(now.data) != action.saw:
        raise PreconditionFailed(f"{action.target} has changed.")
    stores.objects.put(action.target, body, if_match=now.etag)


def _move_away(action: Action, stores: Stores) -> None:
    stores.objects.delete(action.target)


def _reindex(action: Action, stores: Stores) -> None:
    status, _, revision = (action.saw or "").partition(" ")
    stores.table.update(action.target, {"status": Status(status)}, status=Status(status), revision=int(revision))


_ACTIONS: Final[dict[Do, Callable[[Action, Stores], None]]] = {
    Do.WRITE: _write,
    Do.QUARANTINE: _move_away,
    Do.REINDEX: _reindex,
}


# --- the journal ---------------------------------------------------------------------------------------------------


class _Journal:
    """What is written down of one action."""

    def __init__(self, stores: Stores, plan_id: str, number: int) -> None:
        self._stores = stores
        self._prefix = f"{QUARANTINE}/{plan_id}/{number:06d}"
        data = _body(f"{self._prefix}.json", stores)
        self.entry = _entry(data, self._prefix) if data is not None else None

    def keep_before(self, action: Action) -> None:
        """A copy of what is there, made once."""
        found = _body(action.target, self._stores) if action.do is not Do.REINDEX else None
        if found is not None:
            try:
                self._stores.objects.put(f"{self._prefix}.before", found, if_none_match=True)
            except PreconditionFailed:
                if _body(f"{self._prefix}.before", self._stores) != found:
                    raise

    def before(self) -> bytes | None:
        """That copy."""
        return _body(f"{self._prefix}.before", self._stores)

    def write(self, action: Action, *, ended: bool, undone: bool = False) -> None:
        """What is about to be done, or has been, or was put back."""
        began_at = self.entry.began_at if self.entry else format_time(self._stores.clock.now())
        self.entry = _Entry(action=attrs.asdict(action), began_at=began_at, ended=ended, undone=undone)
        self._stores.objects.put(f"{self._prefix}.json", encode(msgspec.to_builtins(self.entry)))


def _entry(data: bytes, where: str) -> _Entry:
    try:
        return msgspec.convert(decode(data, where), _Entry)
    except msgspec.ValidationError as error:
        raise CorruptData(f"{where}.json is no entry of a journal: {error}") from None


def _entries(plan_id: str, stores: Stores) -> Iterator[tuple[_Journal, Action]]:
    """Those of a plan, in order."""
    prefix = f"{QUARANTINE}/{plan_id}/"
    for info in list(stores.objects.list(prefix)):
        name = info.key.removeprefix(prefix).removesuffix(".json")
        if info.key.endswith(".json") and name.isdecimal():
            journal = _Journal(stores, plan_id, int(name))
            if journal.entry is not None:
                yield journal, _action(journal.entry.action)


def _action(found: dict[str, Any]) -> Action:
    known = {**found, "do": Do(found["do"]), "mends": tuple(found["mends"]), "batch_ids": tuple(found["batch_ids"])}
    return Action(**known)

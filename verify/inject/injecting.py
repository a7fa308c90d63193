"""Planting a fault by its code: which ways there are, which of them a root allows, and what `check` has to be asked then."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from embedpipe.config import Config
from embedpipe.errors import NotFound
from embedpipe.model import Kind, kind_named
from verify.audit.catalogue import RULES, Rule, rule
from verify.audit.enumeration import ledgers
from verify.audit.findings import WrongQuestion
from verify.inject.ground import CannotPlant
from verify.inject.local import copied, ground_of, moved
from verify.inject.mutators import MUTATORS, Mutator
from verify.inject.plant import Plant
from verify.observation import observe

__all__ = ["ON_AWS", "PLANTED", "Injected", "inject", "variants"]

ON_AWS: Final = frozenset({"X301", "X302", "X303", "X304", "L801"})
"""Codes of what only Step Functions and CloudWatch keep."""
PLANTED: Final[Mapping[str, tuple[str, ...]]] = {
    code: tuple(mutator.__name__ for mutator in MUTATORS[code]) for code in RULES if code in MUTATORS
}
"""Code -> the names of the ways to bring it about."""


@attrs.frozen(kw_only=True)
class Injected:
    """One fault that was planted."""

    code: str
    variant: str
    copy: str
    changed: tuple[str, ...]
    """`objects:KEY`, `row:BATCH_ID`, `vectors:DATABASE/COLLECTION`, `provider`."""
    batch_ids: tuple[str, ...]
    """Those that `check` has to name; none where the fault is one of the collection or of a listing."""


def variants(code: str) -> list[Mutator]:
    """The ways to bring a code about. `WrongQuestion` where there is none, which says why."""
    wanted = rule(code)
    if wanted.code in MUTATORS:
        return MUTATORS[wanted.code]
    raise WrongQuestion(f"{wanted.code} can't be planted in a root: {_why_not(wanted)}", hint=_instead(wanted))


def _why_not(wanted: Rule) -> str:
    if wanted.code in ON_AWS:
        return "it is about what only AWS keeps, the history or the log of an execution."
    return "it is brought about by a run, and not by damage."


def _instead(wanted: Rule) -> str:
    return f"To reproduce it: {wanted.reproduce}"


def inject(
    code: str, config: Config, copy: Path, *, kind: str | None = None, seed: int = 0, variant: str | None = None
) -> Injected:
    """Copy the root of a configuration to `copy`, and plant a fault there. The root itself is only read.

    Without `variant` the seed says which way is tried first, and then the others in turn. `CannotPlant` where the root lacks
    what the fault takes, `WrongQuestion`; no copy is left then.
    """
    ways = _ways(variants(code), code.upper(), seed, variant)
    reasons: list[str] = []
    copied(config, copy)
    try:
        chosen = _kind(moved(config, copy), kind)
        for way in ways:
            try:
                return _planted(code.upper(), way, moved(config, copy), copy, chosen, seed)
            except _Unfit as error:
                reasons.append(error.why)
                if error.dirty:
                    shutil.rmtree(copy)
                    copied(config, copy)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    shutil.rmtree(copy)
    raise CannotPlant(
        f"{code.upper()} can't be planted in {config.root}: {' '.join(dict.fromkeys(reasons))}",
        hint="Use a root with more in it: batches that have ended, retries, and batches that are still open.",
    )


def _kind(config: Config, named: str | None) -> Kind:
    """What records to damage: those that are named, else the configuration's, else the only ones that the root has."""
    wanted = kind_named(named or config.kind)
    with ground_of(config, wanted, version="") as ground:
        there = sorted((kind for _, kind in ledgers(ground.objects, config.layout)), key=lambda kind: kind.name)
    if wanted in there or not there:
        return wanted
    if named is None and len(there) == 1:
        return there[0]
    raise WrongQuestion(
        f"{config.root} has nothing of the kind {wanted.name!a}.",
        hint=f"Name one with --kind: {', '.join(kind.name for kind in there)}.",
    )


def _ways(found: list[Mutator], code: str, seed: int, variant: str | None) -> list[Mutator]:
    if variant is None:
        start = seed % len(found)
        return [*found[start:], *found[:start]]
    chosen = [way for way in found if way.__name__ == variant]
    if not chosen:
        raise WrongQuestion(f"{code} has no variant {variant[:60]!a}.", hint=f"Use one of {', '.join(PLANTED[code])}.")
    return chosen


class _Unfit(Exception):
    """One way is none for this root."""

    def __init__(self, why: str, *, dirty: bool) -> None:
        super().__init__(why)
        self.why, self.dirty = why, dirty


def _planted(code: str, way: Mutator, config: Config, copy: Path, chosen: Kind, seed: int) -> Injected:
    with ground_of(config, chosen, version="") as ground:
        seen = observe(kind=chosen, objects=ground.objects, table=ground.table, layout=config.layout)
    with ground_of(config, chosen, version=seen.latest.version if seen.latest else "") as ground:
        plant = Plant(ground, seen, seed)
        try:
            named = way(plant)
        except CannotPlant as error:
            raise _Unfit(error.message, dirty=bool(plant.changed)) from None
        except NotFound as error:
            raise _Unfit(f"What it takes is not there: {error.message}", dirty=bool(plant.changed)) from None
    return Injected(
        code=code,
        variant=way.__name__,
        copy=str(copy),
        changed=tuple(plant.changed),
        batch_ids=tuple(sorted(named)),
    )

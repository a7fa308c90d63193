"""A run written down: scenario, seed, faults, and what of the scenario is left out. Replayed, it gives the same trace.

The digest names the code that was run: on other code a plan may come to another end, and that is no nondeterminism.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from embedpipe.errors import CorruptData, InvalidInput, NewerSchema
from simulator.faults import EFFECTS, Fault, Planned, Strike
from simulator.runs import Outcome, run
from simulator.scenarios import SCENARIOS, Scenario

__all__ = ["Plan", "code_digest", "parse_plan", "plan_of", "read_plan", "replay"]

FORMAT: Final = 1
PACKAGES: Final = ("embedpipe", "verify", "simulator")
PLAN_BYTES_MAX: Final = 64 * 1024 * 1024
"""[ours] A plan of every effect of a very long run is smaller."""
HINT: Final = "A failing run of `embedpipe simulate run --out DIR` writes plans; find it again there."


@attrs.frozen(kw_only=True)
class Plan:
    """All that a run follows from."""

    scenario: str
    seed: int
    strikes: tuple[Strike, ...] = ()
    without: frozenset[str] = frozenset()
    """Parts of the scenario's script that are left out, as `Script.parts` names them."""
    code: str = ""
    """Digest of the code that wrote it."""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "format": FORMAT,
            "scenario": self.scenario,
            "seed": self.seed,
            "code": self.code,
            "without": sorted(self.without),
            "faults": [attrs.asdict(strike) for strike in self.strikes],
        }

    def dump(self) -> str:
        """As the JSON file has it."""
        return msgspec.json.format(msgspec.json.encode(self.document()), indent=2).decode() + "\n"


def plan_of(scenario: Scenario, outcome: Outcome) -> Plan:
    """The plan of a run that was drawn."""
    return Plan(scenario=scenario.name, seed=outcome.seed, strikes=outcome.strikes, code=code_digest())


def read_plan(path: Path) -> Plan:
    """The plan in a file. `InvalidInput` or `CorruptData` names what is wrong with it."""
    try:
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is no file.", hint=HINT)
        with path.open("rb") as file:
            data = file.read(PLAN_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}.") from None
    if len(data) > PLAN_BYTES_MAX:
        raise InvalidInput(f"{path} has more than {PLAN_BYTES_MAX:,} bytes: it is no plan.", hint=HINT)
    return parse_plan(data, path)


def parse_plan(data: bytes, path: Path | str) -> Plan:
    """The plan in these bytes; `path` names them in errors."""
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptData(f"{path} is no plan: {error}", hint=HINT) from None
    version = document.get("format")
    if version != FORMAT or isinstance(version, bool):
        if isinstance(version, int) and version > FORMAT:
            raise NewerSchema(
                f"{path} has format {version}; this version reads {FORMAT}.",
                hint="Upgrade embedpipe, or find it again.",
            )
        raise CorruptData(f"{path} is no plan: its format is {ascii(version)[:20]}.", hint=HINT)
    plan = Plan(
        scenario=_typed(document, "scenario", str, path),
        seed=_typed(document, "seed", int, path),
        strikes=tuple(_strike(entry, path) for entry in _typed(document, "faults", list, path)),
        without=frozenset(map(str, _typed(document, "without", list, path))),
        code=_typed(document, "code", str, path),
    )
    twice = [where for where, count in Counter(strike.where for strike in plan.strikes).items() if count > 1]
    if twice:
        raise CorruptData(f"{path} has two faults at {ascii(twice[0])[:120]}: one call meets one.", hint=HINT)
    parts = scenario_named(plan.scenario).script(plan.seed).parts
    if unknown := plan.without.difference(parts):
        raise CorruptData(
            f"{path} leaves out {min(unknown)[:60]!a}, which seed {plan.seed} of {plan.scenario} does not have.",
            hint=HINT,
        )
    return plan


def _typed(document: dict[str, Any], name: str, kind: type, path: Path | str) -> Any:
    value = document.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CorruptData(f"{path} is no plan: its '{name}' is {ascii(value)[:40]}.", hint=HINT)
    return value


def _strike(entry: object, path: Path | str) -> Strike:
    match entry:
        case {"actor": str(actor), "effect": str(effect), "nth": int(nth), "fault": str(fault)} if _counts(nth):
            if effect not in EFFECTS:
                raise CorruptData(
                    f"{path}: there is no effect {ascii(effect)[:60]}.", hint=f"Use {', '.join(EFFECTS)}."
                )
            if fault not in EFFECTS[effect]:
                known = ", ".join(EFFECTS[effect])
                raise CorruptData(f"{path}: {effect} can't meet {ascii(fault)[:40]}.", hint=f"It can meet {known}.")
            return Strike(actor=actor, effect=effect, nth=nth, fault=Fault(fault))
    raise CorruptData(f"{path}: a fault is {ascii(entry)[:80]}; it has actor, effect, nth and fault.", hint=HINT)


def _counts(nth: int) -> bool:
    return nth >= 1 and not isinstance(nth, bool)


def scenario_named(name: str) -> Scenario:
    """The scenario of that name."""
    if name not in SCENARIOS:
        raise InvalidInput(f"There is no scenario {name[:40]!a}.", hint=f"Use {', '.join(SCENARIOS)}.")
    return SCENARIOS[name]


def replay(plan: Plan) -> tuple[Outcome, list[tuple[str, str, int]]]:
    """Run it, and name the faults that were planned and never met."""
    faults = Planned(plan.strikes)
    outcome = run(scenario_named(plan.scenario), plan.seed, faults, without=plan.without)
    return outcome, faults.stale


@cache
def code_digest() -> str:
    """Of the source of the three packages."""
    import importlib

    digest = hashlib.sha256()
    for name in PACKAGES:
        (folder,) = importlib.import_module(name).__path__
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(f"{name}/{path.relative_to(folder).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]

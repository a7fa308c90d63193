"""Where each affected batch stands on its way, and where it broke: from what the audit saw of it and from its findings.

A stage counts as passed only where something that the audit read shows it. What it can't tell it calls unknown. Pure but
for `Trail`, which keeps a few bytes of each batch on disk until the findings are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs
import msgspec

from embedpipe.lifecycle import TERMINAL_ACTIONS, Status
from verify.audit.deltas import DeltaSeen
from verify.audit.findings import Finding
from verify.audit.rows import Batch
from verify.audit.sorting import Sorter

__all__ = ["BREAKS", "Journey", "Stage", "Standing", "Step", "Trail", "journeys", "standings"]

JOURNEYS_MAX: Final = 200
"""[ours] Batches whose journey a report has, those of the worst findings first; the findings name all."""


class Stage(StrEnum):
    """What a batch goes through, in this order."""

    SUBMITTED = "submitted"
    LISTED = "listed"
    POLLED = "polled"
    NORMALISED = "normalised"
    MERGED = "merged"
    MARKED = "marked"


class Standing(StrEnum):
    """What is known of one stage of one batch."""

    PASSED = "passed"  # something that was read shows it
    SKIPPED = "skipped"  # the batch gave nothing that this stage would work on
    AHEAD = "ahead"  # the batch is open and has not come that far
    UNKNOWN = "unknown"
    BROKEN = "broken"
    AFFECTED = "affected"  # wrong as a consequence of something else that was found


@attrs.frozen(kw_only=True)
class Step:
    """One stage of one batch."""

    stage: Stage
    standing: Standing
    codes: tuple[str, ...] = ()
    """The findings that say so."""


@attrs.frozen(kw_only=True)
class Journey:
    """One batch, from submitted to marked."""

    batch_id: str
    status: str = ""
    """What its row says; empty where there is none that can be read."""
    steps: tuple[Step, ...]

    @property
    def broke_at(self) -> Stage | None:
        """The first stage that broke, or that suffers where nothing of its own batch did."""
        for standing in (Standing.BROKEN, Standing.AFFECTED):
            for step in self.steps:
                if step.standing is standing:
                    return step.stage
        return None


_AFTER_LISTING: Final = (Stage.POLLED, Stage.NORMALISED, Stage.MERGED, Stage.MARKED)

BREAKS: Final[Mapping[str, tuple[Stage, ...]]] = MappingProxyType(
    {
        "O101": (Stage.SUBMITTED,),
        "O102": _AFTER_LISTING,
        "O103": (Stage.MARKED,),
        "O104": (Stage.POLLED,),
        "O105": (Stage.POLLED,),
        "O106": (Stage.SUBMITTED,),
        "O107": (Stage.POLLED,),
        "P201": (Stage.POLLED,),
        "P202": (Stage.POLLED,),
        "P203": (Stage.POLLED,),
        "P204": (Stage.POLLED,),
        "P205": (Stage.POLLED,),
        "P206": (Stage.LISTED,),
        "P207": (Stage.POLLED,),
        "X301": (Stage.MARKED,),
        "X302": (Stage.MARKED,),
        "X303": (Stage.POLLED,),
        "D401": (Stage.NORMALISED,),
        "D402": (Stage.NORMALISED,),
        "D403": (Stage.NORMALISED,),
        "D404": (Stage.MERGED,),
        "R101": (Stage.MERGED,),
        "R102": (Stage.MARKED,),  # marking puts the rows of retries
        "R103": (Stage.MERGED,),
        "R104": (Stage.SUBMITTED,),
        "S501": (Stage.MERGED,),
        "S502": (Stage.MERGED,),
        "S503": (Stage.MERGED,),
        "S504": (Stage.MERGED,),
        "S505": (Stage.MERGED,),
        "V601": (Stage.MERGED,),
        "V602": (Stage.MERGED,),
        "V603": (Stage.MERGED,),
        "V604": (Stage.MERGED,),
        "B701": (Stage.MARKED,),
        "B702": (Stage.MARKED,),
        "B703": (Stage.SUBMITTED,),
        "B704": (Stage.SUBMITTED,),
        "B705": (Stage.SUBMITTED,),
        "L801": (Stage.MARKED,),
    }
)
"""Code -> the stage that it shows broken; of several, the first that is not known to be passed."""

_UNSEEN: Final = (Standing.UNKNOWN,) * len(Stage)


# --- what was seen of one batch ------------------------------------------------------------------------------------


def standings(batch: Batch, *, looked_up: bool) -> tuple[Standing, ...]:
    """Of each stage, as the audit saw the batch. `looked_up`: whether its records were looked up in the catalog."""
    known = (_submitted(batch), _listed(batch), _polled(batch), _normalised(batch))
    return (*known, _merged(batch, known[-1], looked_up), _ended(batch))


def _otherwise(batch: Batch) -> Standing:
    """Of a stage that nothing shows as passed."""
    return Standing.AHEAD if batch.known_row is not None and batch.is_open else Standing.UNKNOWN


def _submitted(batch: Batch) -> Standing:
    row = batch.known_row
    named = row.provider_batch_id if row is not None else None
    if named or batch.listed or (batch.result is not None and batch.result.openai_batch_id):
        return Standing.PASSED
    return Standing.AHEAD if row is not None and row.status in {Status.INTENT, Status.CREATING} else Standing.UNKNOWN


def _listed(batch: Batch) -> Standing:
    """Only what was listed is polled."""
    return Standing.PASSED if batch.listed or batch.polled or batch.result is not None else _otherwise(batch)


def _polled(batch: Batch) -> Standing:
    quoted = any(entry.action in TERMINAL_ACTIONS for entry in batch.polled)
    return Standing.PASSED if batch.terminal_result is not None or quoted else _otherwise(batch)


def _normalised(batch: Batch) -> Standing:
    result, seen = batch.terminal_result, batch.delta
    if isinstance(seen, DeltaSeen) and seen.whole and seen.delta.batch_id == batch.batch_id:
        return Standing.PASSED
    if result is not None:
        return Standing.UNKNOWN if result.delta_key else Standing.SKIPPED
    return _otherwise(batch)


def _merged(batch: Batch, normalised: Standing, looked_up: bool) -> Standing:
    if normalised is Standing.SKIPPED:
        return Standing.SKIPPED
    if batch.is_open and normalised is not Standing.PASSED:
        return _otherwise(batch)
    return Standing.PASSED if looked_up and batch.is_terminal else Standing.UNKNOWN


def _ended(batch: Batch) -> Standing:
    return Standing.PASSED if batch.is_terminal else _otherwise(batch)


class Trail:
    """What was seen of every batch, a few bytes each, until the findings say which of them matter."""

    def __init__(self, folder: Path) -> None:
        self._kept = Sorter(folder, "journeys")

    def add(self, batch: Batch, seen: Sequence[Standing]) -> None:
        """One more batch."""
        row = batch.known_row
        self._kept.add(batch.batch_id, msgspec.msgpack.encode((str(row.status) if row else "", seen)))

    def of(self, wanted: Iterable[str]) -> Iterator[tuple[str, str, tuple[Standing, ...]]]:
        """Name, status and standings of those that were seen."""
        names = frozenset(wanted)
        for name, payloads in self._kept.groups():
            if name in names:
                status, seen = msgspec.msgpack.decode(payloads[0], type=tuple[str, tuple[Standing, ...]])
                yield name, status, seen

    def close(self) -> None:
        """Remove what was kept."""
        self._kept.close()


# --- with the findings ---------------------------------------------------------------------------------------------


def journeys(findings: Sequence[Finding], trail: Trail, *, proven: bool) -> tuple[Journey, ...]:
    """Of the batches that findings name, in the order of the findings.

    `proven`: whether the search for lost records was made to its end; else nobody can say that a batch was merged.
    """
    proven = proven and not any(finding.family in "SV" and not finding.batch_ids for finding in findings)
    of_batch: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.code in BREAKS:
            for name in finding.batch_ids:
                if name in of_batch or len(of_batch) < JOURNEYS_MAX:
                    of_batch.setdefault(name, []).append(finding)
    seen = {name: (status, stood) for name, status, stood in trail.of(of_batch)}
    unseen = ("", _UNSEEN)
    return tuple(_journey(name, *seen.get(name, unseen), found, proven) for name, found in of_batch.items())


def _journey(name: str, status: str, seen: Sequence[Standing], findings: Sequence[Finding], proven: bool) -> Journey:
    stood = dict(zip(Stage, seen, strict=True))
    if not proven and stood[Stage.MERGED] is Standing.PASSED:
        stood[Stage.MERGED] = Standing.UNKNOWN
    codes: dict[Stage, list[str]] = {}
    for finding in findings:
        codes.setdefault(_place(finding.code, stood), []).append(finding.code)
    causes = {finding.code for finding in findings if finding.caused_by is None}
    for stage, wrong in codes.items():
        stood[stage] = Standing.BROKEN if causes.intersection(wrong) else Standing.AFFECTED
    steps = (
        Step(stage=stage, standing=standing, codes=tuple(dict.fromkeys(codes.get(stage, ()))))
        for stage, standing in stood.items()
    )
    return Journey(batch_id=name, status=status, steps=tuple(steps))


def _place(code: str, stood: Mapping[Stage, Standing]) -> Stage:
    stages = BREAKS[code]
    return next((stage for stage in stages if stood[stage] not in {Standing.PASSED, Standing.SKIPPED}), stages[-1])

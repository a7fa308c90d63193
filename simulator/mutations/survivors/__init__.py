"""Why mutations survive: every one that no run killed has its line, equivalent, out of scope, or a gap.

The first line that fits is the one. A line names changes one by one where a function has others that are killed, or that live
for another reason.
"""

from __future__ import annotations

from typing import Final

from simulator.mutations.survivors.merging import MERGING
from simulator.mutations.survivors.stages import STAGES
from simulator.mutations.survivors.steps import STEPS
from simulator.mutations.survivors.verdicts import Survivor, Word

__all__ = ["SURVIVORS", "Survivor", "Word", "survivor_of"]

SURVIVORS: Final[tuple[Survivor, ...]] = (*STAGES, *STEPS, *MERGING)


def survivor_of(name: str) -> Survivor | None:
    """The line of a mutation."""
    return next((line for line in SURVIVORS if line.fits(name)), None)

"""The planted bugs. Each is what somebody could well have written, against one guarantee; each of the traces in which an
earlier protocol lost something is among them, by its number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from simulator.mutants.marking import MARKING
from simulator.mutants.merging import MERGING
from simulator.mutants.model import Mutant
from simulator.mutants.polling import POLLING
from simulator.mutants.submission import SUBMISSION
from simulator.mutants.unforeseen import UNFORESEEN

__all__ = ["MUTANTS"]

MUTANTS: Final[Mapping[str, Mutant]] = MappingProxyType(
    {mutant.name: mutant for mutant in (*SUBMISSION, *POLLING, *MERGING, *MARKING, *UNFORESEEN)}
)
"""By name."""

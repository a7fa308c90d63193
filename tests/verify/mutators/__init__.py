"""Faults, planted by hand: for each code, ways to bring it about.

A mutator changes what it must and no more: hashes and counts stay right where the fault is not about them.
"""

from __future__ import annotations

from tests.verify.mutators import deltas, poll, provider, records, rows, snapshots, vectors
from tests.verify.mutators.table import MUTATORS, Mutator

__all__ = ["MUTATORS", "Mutator", "deltas", "poll", "provider", "records", "rows", "snapshots", "vectors"]

"""Faults, planted on purpose: for each code, ways to bring it about.

A mutator changes what it must and no more: hashes and counts stay right where the fault is not about them. It chooses before it
changes anything, so that where the root lacks what it needs nothing has happened.
"""

from __future__ import annotations

from verify.inject.mutators import deltas, poll, provider, records, rows, snapshots, vectors
from verify.inject.mutators.table import MUTATORS, Mutator

__all__ = ["MUTATORS", "Mutator", "deltas", "poll", "provider", "records", "rows", "snapshots", "vectors"]

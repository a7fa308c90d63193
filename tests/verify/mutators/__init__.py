"""Faults, planted by hand: those of `verify inject`, and beside them those of executions that ran."""

from __future__ import annotations

from verify.inject.mutators import MUTATORS, Mutator

__all__ = ["MUTATORS", "Mutator"]

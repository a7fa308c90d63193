"""Audits of what a pipeline left behind, and contract suites, strategies and invariants for other people's tests.

Importing it needs neither pytest nor hypothesis; `verify.contracts` and `verify.strategies` do.
"""

from __future__ import annotations

__all__: list[str] = []

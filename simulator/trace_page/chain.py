"""Which events of a trace led to what is broken: those about the batches, objects and rows that it names, the faults, and what
those whom a fault struck had changed before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from simulator.effects import Happened

__all__ = ["chain_of"]

CHANGES: Final = ("put", "upload", "update", "create", "upsert", "delete", "seal", "put_new")
"""Effects that change something; reads matter only where a fault struck them."""
NAMES: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[a-z_]+/[^\s,']+")
LINES_MAX: Final = 200
"""[ours] The last so many; bounds the page."""


def chain_of(trace: Sequence[Happened], broken: Sequence[str]) -> list[int]:
    """Positions in the trace, in order; none where nothing is broken.

    >>> one = Happened(1, "a", "objects.put", 1, "notes/snapshot/latest.json", "", "ok")
    >>> two = Happened(2, "a", "objects.get", 1, "notes/snapshot/latest.json", "", "ok")
    >>> chain_of([one, two], ["G6: notes/snapshot/latest.json went back"])
    [0]
    """
    named = {name for line in broken for name in NAMES.findall(line)}
    if not broken:
        return []
    last = {line.actor: at for at, line in enumerate(trace) if line.fault}
    about = [
        at
        for at, line in enumerate(trace)
        if line.fault
        or (
            line.effect.split(".")[1] in CHANGES
            and (at < last.get(line.actor, -1) or any(name in line.on for name in named))
        )
    ]
    return about[-LINES_MAX:]

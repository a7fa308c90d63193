"""What a planted bug is: a name, the guarantee that it breaks, what its author thought, and the texts that it changes."""

from __future__ import annotations

import attrs

from simulator.mutants.loader import Patch

__all__ = ["Mutant", "mutant"]


@attrs.frozen(kw_only=True)
class Mutant:
    """One planted bug."""

    name: str
    guarantee: str
    """Which of G1 to G10 it breaks."""
    story: str
    """What was thought by whoever wrote it."""
    patches: tuple[Patch, ...]
    missed: str = ""
    """Why the simulator does not find it; empty where it does."""


def mutant(name: str, guarantee: str, story: str, *patches: tuple[str, str, str], missed: str = "") -> Mutant:
    """Patches are (module below `embedpipe`, text, text in its place)."""
    changed = tuple(Patch(f"embedpipe.{module}", before, after) for module, before, after in patches)
    return Mutant(name=name, guarantee=guarantee, story=story, patches=changed, missed=missed)

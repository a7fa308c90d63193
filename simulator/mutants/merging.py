"""Planted bugs of chunking and merging: what gets into a version, in which order, and who publishes it."""

from __future__ import annotations

from typing import Final

from simulator.mutants.model import mutant

__all__ = ["MERGING"]

MERGING: Final = (
    mutant(
        "last_batch_not_flushed",
        "G4",
        "The last rows are written with the next ones.",
        ("stages.streams", "    if held:\n        yield _joined(held)\n", ""),
    ),
    mutant(
        "last_chunk_dropped",
        "G4",
        "The last group is closed when the next one begins.",
        (
            "stages.chunk",
            "for index, group in enumerate(groups)\n",
            "for index, group in enumerate(groups[:-1] or groups)\n",
        ),
        missed="The proof keeps its batches open, and the next execution merges them: it only takes longer.",
    ),
    mutant(
        "chunks_replaced",
        "G6",
        "A repeated delivery groups again. (G6 of a journal that names groups)",
        (
            "steps.chunk",
            "ctx.objects.put(key, dump_many(planned), if_none_match=True)",
            "ctx.objects.put(key, dump_many(planned))",
        ),
    ),
    mutant(
        "lesser_claim_wins",
        "G6",
        "The last one to be merged wins. (T14)",
        (
            "stages.merge",
            "newer = (seq > old_seq) | ((seq == old_seq) & (attempt > old_attempt))",
            "newer = (seq != old_seq) | (attempt != old_attempt)",
        ),
    ),
    mutant(
        "superseded_written",
        "G6",
        "What differs is written; the catalog decides about the claim.",
        ("stages.merge", "    written[matched] = newer & ~same\n", "    written[matched] = ~same\n"),
    ),
    mutant(
        "equal_keeps_its_claim",
        "G4",
        "What is equal has not changed.",
        ("stages.merge", "    wins[matched] = newer\n", "    wins[matched] = newer & ~same\n"),
    ),
    mutant(
        "distrust_forgotten",
        "G6",
        "What is equal need not be written again, whoever has died. (T10)",
        ("steps.merge", "distrusted=inherited.ids,", "distrusted=None,"),
    ),
    mutant(
        "no_journal",
        "G6",
        "A merge that dies is merged again by the next one. (T10)",
        ("steps.merge", "        journal.begin(ctx, group.chunks, inherited, execution_id)\n", "        pass\n"),
    ),
    mutant(
        "journal_ends_early",
        "G6",
        "The rows are written and read back: the journal has done its work.",
        (
            "steps.merge",
            "    if counts.changed:\n        if not attempt.publish(edition):\n",
            "    if edition.in_place:\n        journal.end(ctx, inherited, execution_id)\n"
            "    if counts.changed:\n        if not attempt.publish(edition):\n",
        ),
    ),
    mutant(
        "journal_of_the_dead_dropped",
        "G6",
        "The journal says what this merge does.",
        (
            "steps.journal",
            "    refs = {ref.delta_key: ref for ref in inherited.deltas}\n",
            "    refs: dict[str, DeltaRef] = {}\n",
        ),
    ),
    mutant(
        "journal_of_the_dead_ignored",
        "G6",
        "A journal that is found is an old one: its writer's execution is repeated anyway.",
        ("steps.merge", "inherited = journal.take_over(ctx, folder, damaged) if edition.in_place else", "inherited ="),
    ),
    mutant(
        "base_from_before_the_lock",
        "G6",
        "The version was read a moment ago.",
        (
            "steps.merge",
            "            base = read_base(ctx)  # the lock is ours: until we publish, nobody else does\n",
            "            pass\n",
        ),
    ),
    mutant(
        "version_shared",
        "G6",
        "There is one version 6. (T17)",
        ("stages.merge", "    return f\"{n}-{attempt_id.replace('-', '')[:16]}\"\n", '    return f"{n}"\n'),
    ),
    mutant(
        "pointer_unconditional",
        "G6",
        "The merge is finished, so its version is the current one.",
        (
            "steps.merge",
            "ctx.objects.put(key, latest.dump(), if_none_match=etag is None, if_match=etag)",
            "ctx.objects.put(key, latest.dump())",
        ),
    ),
    mutant(
        "pointer_before_seal",
        "G6",
        "First say what is current, then store it: readers wait anyway.",
        ("steps.merge", "        edition.seal(self.prefix)\n        ctx.objects.upload", "        ctx.objects.upload"),
        (
            "steps.merge",
            "            return False\n        ctx.on_event(events.Published(",
            "            return False\n        edition.seal(self.prefix)\n        ctx.on_event(events.Published(",
        ),
    ),
    mutant(
        "pointer_before_snapshot",
        "G4",
        "The pointer first, so that nobody else takes the number.",
        ("steps.merge", "        ctx.objects.put(self.prefix + ctx.layout.snapshot_file, data)\n", ""),
        (
            "steps.merge",
            "            return False\n        ctx.on_event(events.Published(",
            "            return False\n        ctx.objects.put(self.prefix + ctx.layout.snapshot_file, data)\n"
            "        ctx.on_event(events.Published(",
        ),
    ),
    mutant(
        "winner_thinks_it_lost",
        "G6",
        "412: somebody else was faster. (T18)",
        (
            "steps.merge",
            "            return won(latest.version, now.latest, now.snapshot)\n",
            "            return False\n",
        ),
        missed="Equivalent since the merge was made a join: who merges again finds its own rows under its own claims.",
    ),
    mutant(
        "loser_thinks_it_won",
        "G6",
        "After a conflict the pointer is there: published.",
        (
            "steps.merge",
            "            return won(latest.version, now.latest, now.snapshot)\n",
            "            return True\n",
        ),
        missed="The proof is made against what is published, so nothing is marked, and the next execution merges again.",
    ),
    mutant(
        "intermediate_unchecked",
        "G6",
        "What was written a minute ago is what is read.",
        ("steps.chunk", "        if sha256_file(path) == found[0].sha256:\n", "        if sha256_file(path):\n"),
    ),
    mutant(
        "delta_unchecked",
        "G6",
        "The store checks what it reads.",
        ("steps.context", "        if sha256_file(path) != entry.sha256:\n", "        if not sha256_file(path):\n"),
    ),
    mutant(
        "changed_text_not_written",
        "G6",
        "What is written is what was inserted.",
        ("stages.merge", "    written[matched] = newer & ~same\n", "    written[matched] = False\n"),
    ),
)

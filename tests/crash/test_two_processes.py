"""Several real processes on one root at the same time end like one: each record claimed once, the last text kept."""

from __future__ import annotations

import json
from collections import Counter

import pytest

SNAPSHOTS = {"vectors.backend": "chroma_s3", "vectors.lease_s": 1.0, "vectors.patience_s": 2.0}
"""Merges race for the pointer: a lease is only advice."""


@pytest.mark.parametrize(("seed", "stores"), [(1, {}), (2, {}), (3, {}), (4, SNAPSHOTS), (5, SNAPSHOTS)])
def test_processes_on_one_root_end_like_one(run, new_root, seed, stores):
    """Two submit overlapping records and ingest; a third only ingests."""
    root = new_root()
    # No create may take so long here that another process gives it up.
    common = {"root": str(root), "seed": seed, "flags": {"policy.ambiguous_after_s": 30.0, "run.threads": 3, **stores}}
    jobs = [common | {"scenarios": ["overlapping"], "process": number, "rounds": 4} for number in (0, 1)]
    statuses = run(*jobs, common | {"scenarios": ["ingesting"], "rounds": 8})
    problems = "".join(path.read_text() for path in root.glob("traceback-*"))
    assert (statuses, problems) == ([0, 0, 0], "")
    assert run(common | {"scenarios": ["reporting"]}) == [0]
    found = json.loads((root / "report.json").read_text())
    assert found["violations"] == []
    assert found["ambiguous"] == []
    assert {status for _, _, _, status, _ in found["rows"]} == {"COMPLETED"}
    assert max(Counter(found["creates"]).values()) == 1
    assert len(found["creates"]) == len(found["rows"])
    claims = Counter((seq, attempt, name) for seq, attempt, held, _, _ in found["rows"] for name in held)
    assert max(claims.values()) == 1
    said = sorted(
        (line for line in map(json.loads, (root / "said.jsonl").read_text().splitlines()) if line[0] is not None),
        key=lambda line: line[0],
    )
    assert [seq for seq, _ in said] == list(range(1, len(said) + 1))
    latest = {name: text for _, texts in said for name, text in texts.items()}
    assert {name: text for name, (text, _) in found["collection"].items()} == latest
    assert found["catalog"].keys() == latest.keys()

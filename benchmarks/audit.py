"""The audit at scale, over roots that are made while they are read: memory, calls, the join of records, the hashing of deltas.

Memory is the peak of a fresh process that makes the root and audits it; its imports and the maker of the root are counted in,
and the peak of the same process before the audit begins is noted beside it. 100,000 batches at `metadata` depth and 1,000,000
vectors of 8 numbers at `vectors` depth are audited; with `--full` it is ten million, which takes minutes.

    python -m benchmarks audit [--full]
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from benchmarks.audit_source import DIMENSIONS, arrow_file, ids_of, key_columns
from benchmarks.measure import MIB, ROOT, Figure, python, ratio

PEAK_MIB = 128
VECTORS_A_BATCH = 10_000
FULL_VECTORS = 10_000_000

AUDIT = """
import json, sys, tempfile
from pathlib import Path
from benchmarks.audit_source import Shape, source
from verify.audit.api import check

def held_kib():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))

batches, rows, depth = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with tempfile.TemporaryDirectory() as folder:
    made = source(Shape(batches=batches, rows=rows), Path(folder))
    made.objects.get("bench/snapshot/1-bench/snapshot.json")  # writes and hashes the catalog
    before_kib, said = held_kib(), []
    made.calls.counts.clear()
    report = check(made, depth=depth, on_estimate=said.append)
    assert report.verdict == "clean", report.findings
    found = {"calls": report.calls, "said": said[0].calls, "elapsed_s": report.elapsed_s}
    print(json.dumps({"before_kib": before_kib, "peak_kib": held_kib(), **found}))
"""


@attrs.frozen(kw_only=True)
class Audited:
    """One audit in a process of its own. Linux only."""

    before_mib: float
    """Peak once everything is imported and the root can be made."""
    peak_mib: float
    calls: dict[str, int]
    said: dict[str, int]
    """What was estimated beforehand."""
    elapsed_s: float


@cache
def audited(batches: int, rows: int, depth: str) -> Audited:
    """Audit a root of that size."""
    command = python(AUDIT, str(batches), str(rows), depth)
    run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    found = json.loads(run.stdout)
    return Audited(
        before_mib=found["before_kib"] / 1024,
        peak_mib=found["peak_kib"] / 1024,
        calls=found["calls"],
        said=found["said"],
        elapsed_s=found["elapsed_s"],
    )


def memory(what: str, depth: str, few: tuple[int, int], many: tuple[int, int]) -> Iterator[Figure]:
    """Peaks at two sizes, each as (batches, records of one)."""
    small, large = audited(*few, depth), audited(*many, depth)
    note = f"{large.before_mib:.0f} MiB of it before the audit; {large.elapsed_s:.0f} s"
    yield Figure(f"audit {what}: peak memory", large.peak_mib, PEAK_MIB, unit="MiB", note=note)
    grown = large.peak_mib / small.peak_mib
    yield Figure(f"audit {what}, over a tenth of it: peak memory", grown, 1.15, note=f"{small.peak_mib:.0f} MiB")
    yield from calls(large, many[0]) if depth == "metadata" else ()


def calls(found: Audited, batches: int) -> Iterator[Figure]:
    """Calls beside the least there can be: rows by 100, index and listing by page."""
    rows, pages = found.calls["table.get_many"], found.calls["objects.list"]
    yield Figure(f"audit {batches:,} batches: BatchGets, over one for each 100", rows / -(-batches // 100), 1.05)
    least = -(-batches // 1_000)
    off = max(max(found.said[kind] / count, count / found.said[kind]) for kind, count in found.calls.items())
    yield Figure(f"audit {batches:,} batches: estimate of the calls, worst of each kind", off, 1.05)
    note = f"{pages} pages, some of them of the root's folders; all calls: {sum(found.calls.values()):,}"
    yield Figure(
        f"audit {batches:,} batches: listing calls, beside one for each 1,000 keys",
        pages - least,
        30,
        unit="",
        note=note,
    )


# --- the join of records -------------------------------------------------------------------------------------------


def joined(records: int, rounds: int, runs: int = 10) -> Iterator[Figure]:
    """CPU of joining, over that of loading both sides into a dict each."""
    import numpy as np
    import pyarrow as pa

    from verify.audit.claims import BATCH_ROWS, CLAIMS_SCHEMA, windows
    from verify.audit.deltas import KEY_COLUMNS, arrow_batches, keys_schema
    from verify.audit.proof import Gaps, look
    from verify.audit.vectors import Comparison, id_batches

    def claims(run: int) -> Iterator[Any]:
        numbers = np.arange(run, records, runs)
        count, rest = len(numbers), CLAIMS_SCHEMA.field("signature").type
        columns = [*key_columns(numbers), pa.array(np.full(count, run, np.int32)), *[_ones(count)] * 2]
        yield from pa.table([*columns, pa.nulls(count, rest)], schema=CLAIMS_SCHEMA).to_batches(BATCH_ROWS)

    def catalog_rows() -> Iterator[Any]:
        for start in range(0, records, 4_096):
            numbers = np.arange(start, min(start + 4_096, records))
            yield pa.record_batch(key_columns(numbers), names=list(KEY_COLUMNS))

    def ids() -> Iterator[str]:
        for start in range(0, records, 4_096):
            yield from ids_of(np.arange(start, min(start + 4_096, records))).to_pylist()

    with tempfile.TemporaryDirectory() as name:
        catalog, files = Path(name, "catalog"), [Path(name, str(run)) for run in range(runs)]
        arrow_file(catalog, catalog_rows())
        for run, path in enumerate(files):
            arrow_file(path, claims(run))

        def proven() -> None:
            gaps = Gaps()
            streams = [arrow_batches(path, CLAIMS_SCHEMA.names) for path in files]
            found = windows([arrow_batches(catalog, KEY_COLUMNS), *streams], [""] * (1 + runs), side_by_side=runs)
            for held, *parts in found:
                claimed = pa.Table.from_batches([batch for part in parts for batch in part], schema=CLAIMS_SCHEMA)
                look(pa.Table.from_batches(held, schema=keys_schema()), claimed, gaps)
            assert not gaps.found

        def compared() -> None:
            unread: Any = None
            comparison = Comparison(collection=unread, location="", dimensions=8, every_vector=False)
            for held, listed in windows(
                [arrow_batches(catalog, KEY_COLUMNS), id_batches(ids())], [""] * 2, side_by_side=0
            ):
                found = (
                    pa.concat_arrays([batch.column("id") for batch in listed]) if listed else pa.array([], pa.string())
                )
                comparison.take(pa.Table.from_batches(held, schema=keys_schema()), CLAIMS_SCHEMA.empty_table(), found)
            assert (comparison.in_catalog, comparison.in_collection) == (records, records)

        def in_dict(paths: list[Path]) -> dict[str, tuple[int, int]]:
            loaded: dict[str, tuple[int, int]] = {}
            for path in paths:
                for batch in arrow_batches(path, KEY_COLUMNS):
                    names, *claim = (batch.column(at).to_pylist() for at in range(3))
                    loaded.update(zip(names, zip(*claim, strict=True), strict=True))
            return loaded

        def both_in_dicts() -> None:
            assert len(in_dict([catalog])) == len(in_dict(files)) == records

        def ids_in_dicts() -> None:
            assert len(in_dict([catalog])) == len(dict.fromkeys(ids())) == records

        what = f"audit: join of {records:,} catalog rows with"
        yield Figure(f"{what} their claims, over both in a dict", ratio(proven, both_in_dicts, rounds=rounds), 0.6)
        yield Figure(
            f"{what} a collection's ids, over both in a dict", ratio(compared, ids_in_dicts, rounds=rounds), 0.6
        )


def _ones(count: int) -> Any:
    import pyarrow as pa

    return pa.repeat(pa.scalar(1, pa.int8()), count)


# --- hashing -------------------------------------------------------------------------------------------------------


def hashed(rows: int, rounds: int, dimensions: int = 1_536) -> Iterator[Figure]:
    """Throughput of hashing a delta's file, over `hashlib.sha256` of the same bytes in memory."""
    import numpy as np
    import pyarrow as pa

    from verify.audit.deltas import key_columns as keys_of
    from verify.audit.deltas import sha256_of

    def batches() -> Iterator[Any]:
        for start in range(0, rows, 2_048):
            count = min(2_048, rows - start)
            flat = pa.array(np.random.default_rng(start).standard_normal(count * dimensions, np.float32))
            columns = [
                *key_columns(np.arange(start, start + count)),
                pa.FixedSizeListArray.from_arrays(flat, dimensions),
            ]
            yield pa.record_batch(columns, names=["id", "seq", "attempt", "content_hash", "vector"])

    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "vectors.arrow")
        arrow_file(path, batches())
        data = path.read_bytes()

        def raw() -> str:
            return hashlib.sha256(data).hexdigest()

        def both() -> None:
            sha256_of(path)
            keys_of(path)

        raw()
        both()
        note = f"{1 / ratio(both, raw, rounds=rounds):.2f} x with its keys parsed"
        value = 1 / ratio(lambda: sha256_of(path), raw, rounds=rounds)
        what = f"audit: hash a delta of {len(data) / MIB:.0f} MiB, over raw SHA-256"
        yield Figure(what, value, 0.8, at_least=True, note=note)


def run(
    batches: int = 100_000, vectors: int = 1_000_000, records: int = 1_000_000, rows: int = 50_000, rounds: int = 5
) -> list[Figure]:
    """All of it."""
    a_batch = max(1, min(VECTORS_A_BATCH, vectors // 10))
    tenth = (max(1, vectors // 10 // a_batch), a_batch)
    return [
        *memory(f"{batches:,} batches, metadata", "metadata", (max(1, batches // 10), 0), (batches, 0)),
        *memory(
            f"{vectors:,} vectors of {DIMENSIONS}, vectors",
            "vectors",
            tenth,
            (vectors // a_batch, a_batch),
        ),
        *joined(records, rounds),
        *hashed(rows, rounds),
    ]

"""Planning a submission (`Pipeline.estimate` of a JSON lines file), beside decoding the file with msgspec.

Twice: with ids that ascend, as exports have them, and with the same lines shuffled, so that sorting has work to do.

    python -m benchmarks.plan
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.measure import MIB, WORDS, Figure, peak_bytes, ratio
from embedpipe import Kind, Pipeline, read_records

ESTIMATE = """
import sys
from embedpipe import Kind, Pipeline, read_records
with Pipeline.open(sys.argv[1], kind=Kind("bench")) as pipe:
    assert pipe.estimate(read_records([sys.argv[2]])).records == int(sys.argv[3])
"""


class Line(msgspec.Struct):
    """What a line is decoded into."""

    id: str | int
    text: str
    metadata: dict[str, str | int | float | bool] | None = None


def write_lines(path: Path, count: int, *, shuffled: bool) -> None:
    """Records with texts of about 60 characters."""
    rng = random.Random(0)
    order = list(range(count))
    if shuffled:
        rng.shuffle(order)
    with path.open("w") as file:
        for at in order:
            text = " ".join(rng.choices(WORDS, k=12))[:60]
            file.write(json.dumps({"id": f"article-{at:08d}", "text": text}) + "\n")


def decoded(path: Path) -> int:
    """Decode the file line by line, and do nothing with it."""
    decode = msgspec.json.Decoder(Line).decode
    count = 0
    with path.open("rb") as file:
        for line in file:
            decode(line)
            count += 1
    return count


def estimated(pipe: Pipeline, path: Path) -> int:
    """Plan the submission of the file."""
    return pipe.estimate(read_records([path])).records


def run(count: int = 1_000_000, rounds: int = 5) -> list[Figure]:
    """CPU over that of decoding; peak memory of the whole process."""
    figures = []
    with tempfile.TemporaryDirectory() as name, Pipeline.open(Path(name, "root"), kind=Kind("bench")) as pipe:
        for shuffled in (False, True):
            path = Path(name, f"records-{shuffled}.jsonl")
            write_lines(path, count, shuffled=shuffled)
            assert decoded(path) == count
            how = "shuffled" if shuffled else "in order"
            value = ratio(partial(estimated, pipe, path), partial(decoded, path), rounds=rounds)
            figures.append(Figure(f"plan {count:,} records {how}, over decoding their lines", value, 8))
            if sys.platform != "linux":
                continue
            peak = peak_bytes(ESTIMATE, str(Path(name, "root")), str(path), str(count))
            figures.append(Figure(f"plan {count:,} records {how}: peak memory", peak / MIB, 150, unit="MiB"))
    return figures


if __name__ == "__main__":
    for figure in run():
        print(figure)

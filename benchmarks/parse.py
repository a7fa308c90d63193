"""Parsing provider output: how many times faster than json and numpy, and in how much memory.

Each figure is a ratio that should be at least its target, taken within one run, so that the machine cancels out. Time is CPU
time, the median of some rounds in which both sides take turns. Memory is a process's high-water mark (Linux).

    python -m benchmarks.parse
"""

from __future__ import annotations

import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

DIMENSIONS = 1_536
DISTINCT_LINES = 500
PIECE_BYTES = 1 << 16
MIB = 1 << 20

Figure = tuple[str, float, float]


def sample(packed: bool) -> list[bytes]:
    """Output lines as a provider writes them, with floats or base64."""
    rng = np.random.default_rng(0)
    return [_line(number, rng.standard_normal(DIMENSIONS), packed) for number in range(DISTINCT_LINES)]


def _line(number: int, direction: np.ndarray[tuple[int], np.dtype[np.float64]], packed: bool) -> bytes:
    vector = (direction / np.linalg.norm(direction)).astype("<f4")
    embedding = base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist()
    body = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": embedding}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    response = {"status_code": 200, "request_id": f"{number:032x}", "body": body}
    line = {"id": f"batch_req_{number:032x}", "custom_id": f"rec-{number}", "response": response, "error": None}
    return json.dumps(line).encode() + b"\n"


def plain_floats(line: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """What a script would do."""
    return np.array(json.loads(line)["response"]["body"]["data"][0]["embedding"], dtype=np.float32)


def plain_base64(line: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """What a script would do."""
    return np.frombuffer(base64.b64decode(json.loads(line)["response"]["body"]["data"][0]["embedding"]), "<f4")


def speed(*, packed: bool, lines: int, rounds: int) -> float:
    """CPU time of the plain way, over that of `parse_output` with all its checks."""
    from embedpipe.vectors import parse_output

    distinct, repeats = sample(packed), lines // DISTINCT_LINES
    file = b"".join(distinct)
    pieces = [file[start : start + PIECE_BYTES] for start in range(0, len(file), PIECE_BYTES)] * repeats
    plain = plain_base64 if packed else plain_floats

    def ours() -> int:
        return sum(line.has_vector for line in parse_output(pieces, DIMENSIONS))

    def theirs() -> int:
        return sum(plain(line).size == DIMENSIONS for _ in range(repeats) for line in distinct)

    turns = [(cpu_s(theirs, lines), cpu_s(ours, lines)) for _ in range(rounds)]
    return statistics.median(turn[0] for turn in turns) / statistics.median(turn[1] for turn in turns)


def cpu_s(work: Callable[[], int], count: int) -> float:
    """CPU seconds of `work`, which must give `count`."""
    start_s = time.process_time()
    done = work()
    spent_s = time.process_time() - start_s
    if done != count:
        raise AssertionError(f"{done} of {count} lines were parsed")
    return spent_s


# --- memory --------------------------------------------------------------------------------------------------------

PEAK = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"


def peak_bytes(work: str, *arguments: str) -> int:
    """High-water mark of a new interpreter that does `work`."""
    command = [sys.executable, "-c", f"import sys\n{work}\n{PEAK}", *arguments]
    root = Path(__file__).resolve().parents[1]
    return 1024 * int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout)


def stream(path: Path, lines: int) -> Iterator[bytes]:
    """The pieces of a file, over and over, until `lines` of its lines went by."""
    for _ in range(lines // DISTINCT_LINES):
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece


PARSE = """
from pathlib import Path
from benchmarks.parse import DIMENSIONS, stream
from embedpipe.vectors import parse_output
pieces = stream(Path(sys.argv[1]), int(sys.argv[2]))
assert sum(line.has_vector for line in parse_output(pieces, DIMENSIONS)) == int(sys.argv[2])
"""


def memory(few: int = 2_000, many: int = 50_000) -> tuple[int, int, int]:
    """Bytes over the bare interpreter: what the imports alone cost, then the peaks of a short and of a long stream."""
    bare = peak_bytes("")
    imports = peak_bytes("import numpy, pyarrow")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "output.jsonl")
        path.write_bytes(b"".join(sample(False)[::2] + sample(True)[::2]))
        short, long = (peak_bytes(PARSE, str(path), str(lines)) for lines in (few, many))
    return imports - bare, short - bare, long - bare


def run(lines: int = 20_000, rounds: int = 5, few: int = 2_000, many: int = 50_000) -> list[Figure]:
    """Name, ratio, target: each ratio should be at least its target."""
    figures = [
        ("parse floats: json + numpy, over ours", speed(packed=False, lines=lines, rounds=rounds), 7.0),
        ("parse base64: json + base64 + numpy, over ours", speed(packed=True, lines=lines, rounds=rounds), 3.0),
    ]
    if sys.platform == "linux":
        imports, short, long = memory(few, many)
        sizes = f"imports {imports / MIB:.0f}, peak {long / MIB:.0f} MiB"
        figures.append((f"parse memory: 60 MiB, over the peak ({sizes})", 60 * MIB / long, 1.0))
        figures.append((f"parse memory: peak at {few:,} lines, over that at {many:,}", short / long, 0.95))
    return figures


if __name__ == "__main__":
    for name, ratio, target in run():
        print(f"{name:70} {ratio:6.2f}  (at least {target})")

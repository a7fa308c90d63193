"""The commands that move records, on real backends: what goes in comes out, and bad input costs nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from embedpipe.demo import line_records, word_records
from tests.cli.conftest import Run


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


FRUITS = lines(
    {"id": "apple", "text": "a red apple on a tree", "metadata": {"colour": "red"}},
    {"id": "banana", "text": "a yellow banana"},
    {"id": "car", "text": "a fast car on the motorway"},
)


@pytest.fixture
def fruits(tmp_path: Path) -> Path:
    path = tmp_path / "fruits.jsonl"
    path.write_text(FRUITS)
    return path


def test_run_then_search_then_run_again(run: Run, fruits: Path) -> None:
    first = run("run", fruits, "--kind", "fruit", "--json").document
    assert (first["records"], first["embedded"], first["rejected"], first["collection_count"]) == (3, 3, 0, 3)
    hits = run("search", "vehicle on a road", "-k", "2", "--kind", "fruit", "--json").document["hits"]
    assert [hits[0]["id"], len(hits)] == ["car", 2]
    shown = run("search", "red fruit", "-k", "1", "--kind", "fruit").stdout
    assert "a red apple on a tree" in shown
    assert "apple  colour=red" in shown
    again = run("run", fruits, "--kind", "fruit", "--json").document
    assert (again["skipped"], again["batches"], again["embedded"], again["version"]) == (3, 0, 0, first["version"])
    assert run("status", "--kind", "fruit", "--json").document["counts"]["COMPLETED"] == 1


def test_kinds_do_not_meet(run: Run, fruits: Path) -> None:
    assert "3" in run("run", fruits, "--kind", "fruit").stdout
    assert run("status", "--json").document["collection_count"] == 0
    assert run("search", "apple", "--json").document["hits"] == []
    assert run("search", "apple").stdout == "Nothing is published yet.\n"


def test_standard_input_and_the_summary(run: Run) -> None:
    ended = run("run", "-", "--format", "text", stdin="one\ntwo\n\none\n")
    assert ended.exit_code == 0
    assert "embedded    2\n" in ended.stdout
    assert "collection  record: 2 records\n" in ended.stdout


def test_submit_ingest_status_one_by_one(run: Run, fruits: Path) -> None:
    slow = ("--set", "provider.delay_s=3600")
    submitted = run("submit", fruits, *slow, "--json").document
    assert (submitted["records"], submitted["batches"], submitted["created"]) == (3, 1, 1)
    waiting = run("ingest", *slow, "--json")
    assert (waiting.exit_code, waiting.document["waiting"]) == (3, 1)
    (batch,) = run("status", *slow, "--json").document["open"]
    assert batch["status"] == "PENDING"
    shown = run("status", *slow).stdout
    assert batch["batch_id"] in shown
    ended = run("ingest")
    assert ended.exit_code == 0
    assert "vectors            3\n" in ended.stdout
    assert run("status", "--json").document["open"] == []


def test_run_resumes_what_is_open(run: Run, fruits: Path) -> None:
    run("submit", fruits, "--set", "provider.delay_s=3600")
    assert run("run", "--resume", "--json").document["embedded"] == 3


def test_estimate_explains_each_cut_and_writes_nothing(run: Run, fruits: Path, tmp_path: Path) -> None:
    options = ("estimate", fruits, "--set", "limits.requests_per_batch=2", "--price-per-million-tokens", "2")
    document = run(*options, "--json").document
    assert [(cut["requests"], cut["limit"]) for cut in document["cuts"]] == [(2, "requests_per_batch"), (1, "end")]
    assert document["tokens_max"] == sum(len(json.loads(line)["text"]) for line in FRUITS.splitlines())
    assert document["cost_max"] == pytest.approx(document["tokens_max"] * 2e-6)
    shown = run(*options).stdout
    assert "requests_per_batch" in shown
    assert "cost      at most 0.0001" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["fruits.jsonl"]


@pytest.mark.parametrize("command", ["run", "submit", "estimate"])
def test_without_a_file_it_says_so(run: Run, command: str) -> None:
    ended = run(command)
    assert ended.exit_code == 2
    assert f"Name a FILE, or '-' for standard input. See: embedpipe {command} --help" in ended.stderr


@pytest.mark.parametrize("command", ["status", "search"])
def test_looking_makes_no_directory(run: Run, tmp_path: Path, command: str) -> None:
    ended = run(command, *(["x"] if command == "search" else []), "--root", "typo")
    assert ended.exit_code == 5
    assert "typo: nothing is there yet." in ended.stderr
    assert list(tmp_path.iterdir()) == []


BAD_INPUT = {
    "not JSON": ("nonsense\n", "bad.jsonl:4: is not JSON"),
    "no id": (lines({"text": "x"}), "bad.jsonl:4: has no 'id'"),
    "no text": (lines({"id": "x"}), "bad.jsonl:4: has no 'text'"),
    "empty text": (lines({"id": "x", "text": " "}), "Record 'x' (bad.jsonl:4) has no text"),
    "other text": (lines({"id": "car", "text": "another car"}), "'car'"),
    "long": (
        lines({"id": "x", "text": "word " * 9_000}),
        "Record 'x' (bad.jsonl:4): its text has 9001 tokens; at most 8192",
    ),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_sentence_and_nothing_is_lost(run: Run, fruits: Path, tmp_path: Path, what: str) -> None:
    run("run", fruits)
    before = run("status", "--json").document
    content, expected = BAD_INPUT[what]
    (tmp_path / "bad.jsonl").write_text(FRUITS + content)
    ended = run("run", "bad.jsonl")
    assert ended.exit_code == 5
    assert expected in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    if what == "other text":
        assert "bad.jsonl:3" in ended.stderr
        assert "bad.jsonl:4" in ended.stderr
    after = run("status", "--json").document
    assert (after["counts"], after["version"]) == (before["counts"], before["version"])
    assert run("run", fruits, "--json").document["skipped"] == 3


def test_a_text_that_only_the_provider_finds_too_long_costs_itself_alone(run: Run, fruits: Path) -> None:
    wide = ("--set", "limits.tokens_per_input=100000")
    assert run("submit", fruits, "-", *wide, stdin=lines({"id": "x", "text": "word " * 20_000})).exit_code == 0
    ended = run("run", "--resume")
    assert ended.exit_code == 0
    assert (
        "embedded    3\nrejected    1 (string_above_max_length: 1)\nreasons in  record/delta/record/record/DELTA/rejected.jsonl"
        in ended.stdout
    )


def test_a_missing_file_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    ended = run("run", "missing.jsonl")
    assert (ended.exit_code, ended.stderr) == (
        5,
        "error: missing.jsonl: there is no such file. Check the path, or use '-' for standard input.\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_doubled_record_counts_once(run: Run) -> None:
    assert run("run", "-", "--json", stdin=FRUITS + FRUITS).document["records"] == 3


def test_another_dimension_than_the_collection_s(run: Run, fruits: Path) -> None:
    run("run", fruits)
    ended = run("run", fruits, "--set", "provider.dimensions=128", "--set", "provider.send_dimensions=true")
    assert ended.exit_code == 5
    assert ended.stderr.count("\n") == 1
    assert "128" in ended.stderr
    assert run("search", "apple", "-k", "1", "--json").document["hits"][0]["id"] == "apple"


@pytest.mark.parametrize(
    ("dimensions", "sent", "said"),
    [
        ("100", "true", "gives vectors of 64, 128 or 256 numbers, not 100. Set provider.dimensions to one of these."),
        ("512", "true", "not 512"),
        (
            "128",
            "false",
            "gives vectors of 256 numbers to requests that do not say how many, not 128. Set "
            "provider.send_dimensions = true.",
        ),
    ],
)
@pytest.mark.parametrize("command", [("run", "fruits.jsonl"), ("submit", "fruits.jsonl"), ("status",), ("search", "x")])
def test_dimensions_that_the_local_model_does_not_have(
    run: Run, fruits: Path, tmp_path: Path, command: tuple[str, ...], dimensions: str, sent: str, said: str
) -> None:
    (tmp_path / ".embedpipe").mkdir()
    settings = ("--set", f"provider.dimensions={dimensions}", "--set", f"provider.send_dimensions={sent}")
    ended = run(*command, *settings)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: wordllama-l2-256 gives vectors of ")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert list((tmp_path / ".embedpipe").iterdir()) == []


def test_a_root_of_a_newer_version(run: Run, fruits: Path, tmp_path: Path) -> None:
    run("run", fruits)
    (path,) = (tmp_path / ".embedpipe" / "objects").glob("embedpipe.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    ended = run("run", fruits)
    assert ended.exit_code == 7
    assert "schema 99" in ended.stderr


def process(tmp_path: Path, *args: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "embedpipe", *args]
    return subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_ctrl_c_while_reading_ends_at_once(tmp_path: Path) -> None:
    running = process(tmp_path, "run", "-", "--format", "text", "--debug")
    assert running.stdin is not None
    running.stdin.write("one\n" * 100_000)  # more than a pipe holds: it is being read when this returns
    running.stdin.flush()
    running.send_signal(signal.SIGINT)
    _, shown = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Run the same command again" in shown


def test_ctrl_c_stops_at_a_safe_boundary_and_the_next_run_goes_on(run: Run, fruits: Path, tmp_path: Path) -> None:
    running = process(tmp_path, "run", fruits.name, "--set", "provider.delay_s=3600", "--debug")
    pause = threading.Event()
    while not (tmp_path / ".embedpipe" / "objects" / "poll_results").exists():
        assert running.poll() is None
        pause.wait(0.01)
    running.send_signal(signal.SIGINT)
    stdout, shown = running.communicate(timeout=60)
    assert (running.returncode, stdout) == (130, "")
    assert "Stopping at the next safe boundary" in shown
    assert run("run", fruits, "--json").document["collection_count"] == 3


def test_the_demo_and_again(run: Run, tmp_path: Path) -> None:
    first = run("demo", "--json").document
    counts = {"line": sum(1 for _ in line_records()), "word": sum(1 for _ in word_records())}
    assert {name: report["embedded"] for name, report in first["runs"].items()} == counts
    assert first["root"] == str(tmp_path / ".embedpipe-demo")
    assert first["answers"][0]["hits"][0]["metadata"]["topic"] in {"raise", "try", "compound", "exceptions"}
    again = run("demo")
    assert again.exit_code == 0
    assert "how do I handle an exception?" in again.stdout
    assert again.stderr == ""

"""Whatever a provider writes where text is expected (lone surrogates, NULs, a novel), it costs at most what it is about."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedpipe.backends.memory.behaviour import GOOD, SILENT, Behaviour, CreateFault
from embedpipe.backends.sqlite import SqliteBatchTable
from embedpipe.errors import CorruptData
from embedpipe.model import ProviderBatch, ProviderIssue, Record
from embedpipe.wire import Mark, Result, decode, dump_many, encode
from tests.harness import Faults, crash, dies
from tests.worlds import SmallWorld

# `st.text` would make its alphabet of all characters one set, in which a surrogate is one of a million.
ANY_TEXT = st.lists(st.characters() | st.sampled_from("\ud800\udfff\0"), max_size=12).map("".join)
RECORDS = [Record(id=f"r{number}", text=f"text {number}") for number in range(7)]
QUICK = attrs.evolve(GOOD, running=())


def error_line(**fields: Any) -> tuple[bytes, ...]:
    """A line of r0, written by a serializer that escapes what it can't write."""
    return (json.dumps({"custom_id": "r0", "response": None, "error": None} | fields).encode() + b"\n",)


def odd_behaviours(text: str) -> Mapping[str, Behaviour]:
    """Each place where a provider has a say."""
    error = {"code": text, "message": text, "type": text}
    unsaid = attrs.evolve(QUICK, fates={"r0": SILENT})
    return {
        "status": attrs.evolve(QUICK, running=(text, text)),
        "issue": attrs.evolve(QUICK, outcome="failed", issues=(ProviderIssue(code=text, message=text, line=1),)),
        "issue of all": attrs.evolve(QUICK, outcome="failed", issues=(ProviderIssue(code=text, message=text),)),
        "refusal": attrs.evolve(QUICK, create=CreateFault.REFUSED, refusal=text),
        "error": attrs.evolve(unsaid, extra_lines=error_line(error=error)),
        "error of the body": attrs.evolve(
            unsaid, extra_lines=error_line(response={"status_code": 400, "body": {"error": error}})
        ),
        "custom_id": attrs.evolve(QUICK, extra_lines=error_line(custom_id=text)),
        "status code": attrs.evolve(unsaid, extra_lines=error_line(response={"status_code": text, "body": text})),
    }


def holds_r0(world: SmallWorld, seen: list[None]) -> bool:
    """Whether the batch that is created is the first that holds r0."""
    if seen or b'"r0"' not in world.provider.files[max(world.provider.files)]:
        return False
    seen.append(None)
    return True


PLACES = sorted(odd_behaviours(""))


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=12)
@given(text=ANY_TEXT)
@example(text="\ud800")
@example(text="a\0b")
@example(text="\udfff" * 500_000)
def test_any_text_of_the_provider_costs_at_most_itself(place: str, text: str) -> None:
    odd, odds = odd_behaviours(text)[place], []
    with tempfile.TemporaryDirectory() as folder:
        world = SmallWorld(lambda *_: odd if holds_r0(world, odds) else QUICK)
        world.table = SqliteBatchTable(Path(folder) / "batches.sqlite")  # type: ignore[assignment]
        faults = Faults().before("provider.upload", crash)
        assert dies(lambda: faults.pipeline(world).submit(RECORDS))  # so that all is created in an execution
        for _ in range(20):
            world.pipeline().ingest()
            if not world.pipeline().open_rows():
                break
            world.clock.sleep(10)
        seen = world.observe()
        assert world.violations(settled=True) == []
        world.table.close()
    assert odds
    assert {record.id for record in RECORDS} - seen.catalog.keys() <= {"r0"}
    for event in world.events:  # they are printed and logged
        for value in attrs.astuple(event):
            assert not isinstance(value, str) or len(value.encode()) < 2_000


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_what_a_provider_says_is_text_that_can_be_kept(status: str, code: str, message: str) -> None:
    batch = ProviderBatch(id="p", status=status, issues=(ProviderIssue(code=code, message=message),))
    for kept, said in [(batch.status, status), (batch.issues[0].code, code), (batch.issues[0].message, message)]:
        assert kept == "".join("?" if "\ud800" <= character <= "\udfff" else character for character in said)
    assert ProviderBatch(id="p", status=None).status == ""  # type: ignore[arg-type]  # servers that leave it out


# --- the one place where JSON is written ---------------------------------------------------------------------------

VALUES = st.recursive(
    ANY_TEXT | st.none() | st.booleans() | st.integers(-(2**60), 2**60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


def clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {clean(name): clean(inner) for name, inner in value.items()}
    return [clean(inner) for inner in value] if isinstance(value, list) else value


@given(VALUES)
def test_any_plain_value_can_be_written_and_only_surrogates_change(value: Any) -> None:
    assert decode(encode(value), "value") == clean(value)


@given(ANY_TEXT)
def test_an_envelope_of_any_text_can_be_written(text: str) -> None:
    result = Result.load({"batch_id": "b", "action": "wait", "reason": text, "theirs": {text: [text]}}, "r")
    assert Result.load(result.dump(), "r").to_dict() == clean(result.to_dict())
    assert Result.load_many(dump_many([result]), "r")[0].to_dict() == clean(result.to_dict())
    assert Mark.load(Mark(batch_id="b", outcome="skipped", reason=text).dump(), "m").reason == clean(text)


def test_what_is_no_plain_value_is_still_an_error() -> None:
    with pytest.raises(TypeError):
        encode({"\ud800": object()})
    with pytest.raises(CorruptData):
        decode(b'"\\ud800', "value")

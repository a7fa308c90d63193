"""The template: valid by the rules of the vendor's own checkers, whole, and no wider than it says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from cfnlint import lint

from embedpipe import flow
from embedpipe.aws import state_machine
from embedpipe.aws.permissions import FUNCTIONS
from embedpipe.aws.settings import Choices
from embedpipe.aws.state_machine import placeholders
from embedpipe.aws.template import files, statements, template
from embedpipe.errors import ConfigError
from embedpipe.layout import SEED, Layout
from embedpipe.model import LINE, WORD, Kind
from embedpipe.retry import RetryPolicy

ASL_VALIDATOR = "asl-validator@4.0.0"


def test_the_template_has_no_finding() -> None:
    assert lint(json.dumps(template(Kind("my-notes")))) == []


def test_the_checker_notices_a_wrong_template() -> None:
    wrong = template(WORD)
    wrong["Resources"]["Table"]["Properties"]["BillingMode"] = "FREE"
    assert lint(json.dumps(wrong)) != []


@pytest.mark.skipif(shutil.which("npx") is None, reason="npm's asl-validator needs node")
def test_the_definitions_are_valid(tmp_path: Path) -> None:
    named = {name: body for name, body in files(Kind("my-notes")).items() if name.endswith(".asl.json")}
    for name, body in named.items():
        (tmp_path / name).write_text(json.dumps(body))
    done = subprocess.run(
        ["npx", "--yes", ASL_VALIDATOR, "--json-path", *named],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("name", ["submit.asl.json", "ingest.asl.json"])
def test_every_placeholder_is_filled_with_a_resource(name: str) -> None:
    made = template(WORD)["Resources"]
    definition: Any = files(WORD)[name]
    (machine,) = (
        body["Properties"] for body in made.values() if body.get("Properties", {}).get("DefinitionUri") == name
    )
    filled = machine["DefinitionSubstitutions"]
    assert set(filled) == set(placeholders(definition))
    named = {value["Ref"] if "Ref" in value else value["Fn::GetAtt"][0] for value in filled.values()}
    assert named <= made.keys()


def test_the_machine_may_read_the_items_that_its_maps_read() -> None:
    """Wherever the layout has them, and nothing beside them."""
    layout = attrs.evolve(SEED, items="elsewhere/{execution_id}/batches.json")
    chosen = Choices(layout=layout)
    (policy,) = template(WORD, chosen)["Resources"]["IngestMachine"]["Properties"]["Policies"]
    read = [statement for statement in policy["Statement"] if statement["Action"] == ["s3:GetObject"]]
    keys = [resource["Fn::Sub"] for statement in read for resource in statement["Resource"]]
    assert keys == ["${Bucket.Arn}/elsewhere/*/batches.json", "${Bucket.Arn}/chunks/*/chunks.json"]
    assert "elsewhere/{}/batches.json" in json.dumps(files(WORD, chosen)["ingest.asl.json"])


@pytest.mark.parametrize(
    ("changed", "variable"), [({}, "OPENAI_API_KEY"), ({"provider.api_version": "2026-01-01"}, "AZURE_OPENAI_API_KEY")]
)
def test_the_key_is_where_the_provider_s_sdk_looks_for_it(changed: dict[str, object], variable: str) -> None:
    """In the functions that ask the provider and in no other; a version of the secret that is named brings it anew."""
    made = template(WORD, Choices(changed=changed))["Resources"]
    given = {
        name: body["Properties"]["Environment"]["Variables"]
        for name, body in made.items()
        if "Environment" in body.get("Properties", {})
    }
    assert set(given) == {"SubmitFunction", "CreatePendingFunction", "PollFunction"}
    for variables in given.values():
        assert list(variables) == [variable]
        assert variables[variable]["Fn::Sub"].endswith(":${ProviderKeyVersion}}}")


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (Kind("intermediate"), SEED),
        (WORD, attrs.evolve(SEED, requests="intermediate/{batch_id}/request.jsonl")),
        (WORD, attrs.evolve(SEED, snapshot="intermediate/{database}/{version}/")),
    ],
    ids=["kind", "requests", "snapshot"],
)
def test_nothing_that_is_to_stay_is_put_where_old_objects_are_removed(kind: Kind, layout: Layout) -> None:
    (rule, *_) = template(WORD)["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["Prefix"] == "intermediate/"
    with pytest.raises(ConfigError, match="emptied after 14 days"):
        template(kind, Choices(layout=layout))


def test_every_step_has_its_permissions_and_a_function() -> None:
    steps = {step.name for step in (*flow.SUBMIT, *flow.INGEST)}
    assert set(FUNCTIONS) == steps
    functions = [body for body in template(WORD)["Resources"].values() if body["Type"] == "AWS::Serverless::Function"]
    assert {body["Properties"]["ImageConfig"]["Command"][0] for body in functions} == {
        f"embedpipe.aws.handlers.{name}" for name in steps
    }


def test_no_function_may_touch_more_than_our_bucket_table_and_index() -> None:
    for actions in FUNCTIONS.values():
        for statement in statements(actions, SEED.index_name):
            if "dynamodb:Query" in statement["Action"]:
                assert statement == {
                    "Effect": "Allow",
                    "Action": ["dynamodb:Query"],
                    "Resource": {"Fn::Sub": "${Table.Arn}/index/GSI1"},
                }
            assert "Bucket" in json.dumps(statement["Resource"]) or "Table" in json.dumps(statement["Resource"])
            assert not any("*" in action for action in statement["Action"])


def states_of(machine: dict[str, Any]) -> dict[str, Any]:
    """Every state at any depth, by name: names are unique in all of a definition."""
    found = {}
    for name, state in machine["States"].items():
        found[name] = state
        if "ItemProcessor" in state:
            found |= states_of(state["ItemProcessor"])
    return found


@pytest.mark.parametrize("kind", [WORD, LINE, Kind("my-notes")], ids=lambda kind: kind.name)
@pytest.mark.parametrize("made", [state_machine.ingest, state_machine.submit], ids=lambda made: made.__name__)
def test_whatever_can_fail_has_its_answer(made: Any, kind: Kind) -> None:
    """Said by structure: moto does not enforce what a Distributed Map tolerates."""
    machine = made(kind)
    every = states_of(machine)
    outer = machine["States"]
    for name, state in every.items():
        if state["Type"] == "Task":
            assert state["Retry"] == state_machine.retriers(RetryPolicy()), name
            # A step that fails for good ends the execution, and is seen; an iteration costs itself.
            assert ("Catch" in state) is (name not in outer), name
        for catch in state.get("Catch", ()):
            assert catch["ErrorEquals"] == ["States.ALL"], name
            after = every[catch["Next"]]
            assert (after["Type"], after["OutputPath"], after["End"]) == ("Pass", None, True)
        if state["Type"] == "Map":
            distributed = state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
            assert ("ItemReader" in state) is distributed, name
            assert state.get("ToleratedFailurePercentage") == (100.0 if distributed else None), name
            assert (state["ResultPath"] is None) is distributed, name
    maps = [state for state in every.values() if state["Type"] == "Map"]
    assert len(maps) == 2 * sum(step.over is not None for step in flow.INGEST) * (made is state_machine.ingest)

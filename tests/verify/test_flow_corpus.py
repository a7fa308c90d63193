"""The data flow of small machines with known answers, of our own machines, and of what is no machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from embedpipe.aws import state_machine
from embedpipe.cli import cli
from embedpipe.model import Kind
from tests.verify.sarif_standard import sarif_errors
from verify.audit.findings import WrongQuestion
from verify.flow.contract import of_document, ours
from verify.flow.reading import machines_of, read
from verify.flow.render import RENDERERS
from verify.flow.report import FlowReport, Question, analyse

CORPUS: Final = Path(__file__).parents[1] / "corpus" / "asl"

ANSWERS: Final = {
    "assign_variable": ("unknown", "there", "F607"),
    "catch_drops": ("missing there", "missing there", "F601 F603 F606"),
    "catch_keeps": ("there", "there", "F606"),
    "choice_is_null": ("null", "unknown", "F602 F607"),
    "choice_not": ("there", "unknown", "F607"),
    "choice_tests_absence": ("unknown", "unknown", "F607"),
    "choice_tests_presence": ("there", "there", ""),
    "context_input": ("unknown", "unknown", "F607"),
    "context_object": ("there", "there", ""),
    "dead_rule": ("there", "there", "F604"),
    "handler_decides": ("unknown", "unknown", "F607"),
    "input_path": ("there", "there", ""),
    "input_path_null": ("missing", "missing", "F601"),
    "intrinsics": ("there", "there", ""),
    "invoke_forgets_the_wrapper": ("unknown", "missing", "F601 F607"),
    "invoke_without_payload": ("missing", "missing", "F601"),
    "invoke_wrapped": ("there", "there", ""),
    "json_merge": ("there", "there", ""),
    "jsonata_literal": ("there", "there", ""),
    "jsonata_output": ("unknown", "there", "F607"),
    "kept": ("there", "there", ""),
    "line_kind": ("there", "there", ""),
    "loop_loses_on_second_turn": ("missing", "missing", "F601"),
    "loop_widens": ("there", "there", ""),
    "lost_without_chunks": ("missing there", "missing there", "F601 F603"),
    "map_distributed": ("there", "there", ""),
    "map_distributed_replaces": ("missing", "missing", "F601"),
    "map_grows": ("there", "there", "F605"),
    "map_keeps": ("there", "there", ""),
    "map_output_for_input": ("missing", "missing", "F601"),
    "map_over_nothing": ("", "", "F603 F604"),
    "map_result_path_null": ("there", "there", ""),
    "mark_inside_map": ("there", "there", ""),
    "mark_inside_map_without": ("missing", "missing", "F601"),
    "merge_hides_key": ("unknown", "unknown", "F607"),
    "merge_hides_with_count": ("missing", "missing", "F601 F603"),
    "merge_replaces_state": ("unknown", "unknown", "F607"),
    "null_without_chunks": ("null there", "null there", "F602"),
    "output_path_drops": ("missing", "missing", "F601"),
    "output_path_null": ("missing", "missing", "F601"),
    "parallel_keeps": ("there", "there", ""),
    "parallel_replaces": ("missing", "missing", "F601"),
    "parallel_wrong_branch": ("", "", "F603 F604"),
    "pass_moves_it": ("missing", "missing", "F601"),
    "pass_parameters_with_result_path": ("there", "there", ""),
    "pass_replaces_state": ("missing", "missing", "F601"),
    "plain_kind": ("there", "there", ""),
    "reference_to_dropped": ("", "", "F603 F604"),
    "result_path_null": ("there", "there", ""),
    "result_selector_narrows": ("missing", "missing", "F601"),
    "retry_only": ("there", "there", ""),
    "service_integration": ("unknown", "unknown", "F607"),
    "unreachable_state": ("there", "there", "F604"),
    "wait_and_succeed": ("there", "there", ""),
    "wildcard_path": ("unknown", "there", "F607"),
}
"""Definition -> what the key is, what the bucket is, over all paths; codes of the findings."""


def answered(name: str) -> FlowReport:
    return analyse(read(CORPUS / f"{name}.json")[0], Question(items=1_500))


@pytest.mark.parametrize("name", ANSWERS)
def test_each_definition_has_its_answer(name: str) -> None:
    report = answered(name)
    found = [
        " ".join(sorted({one.status.value for one in report.answers if one.field == field}))
        for field in Question().fields
    ]
    assert (*found, " ".join(sorted({one.code for one in report.findings}))) == ANSWERS[name]


def test_the_table_has_every_definition() -> None:
    assert {path.stem for path in CORPUS.glob("*.json")} == set(ANSWERS)


@pytest.mark.parametrize("kind", ["word", "line", "my-notes"])
def test_our_own_machine_is_clean(kind: str) -> None:
    machine = machines_of(json.dumps(state_machine.ingest(Kind(kind))), file="ingest.json")[0]
    report = analyse(machine, Question(items=1_500), ours())
    assert report.answers
    assert {answer.status.value for answer in report.answers} == {"there"}
    assert report.exit_code == 0


def test_our_submission_is_clean() -> None:
    machine = machines_of(json.dumps(state_machine.submit(Kind("word"))), file="submit.json")[0]
    report = analyse(machine, Question(state="Submit*", fields=("execution_id",)), ours())
    assert (report.exit_code, report.answers[0].status.value) == (0, "there")


@pytest.mark.parametrize("state", ["SplitWordIntoChunks", "WordFinalMerge"])
def test_a_step_of_ours_that_hides_the_result_is_found(state: str) -> None:
    definition = state_machine.ingest(Kind("word"))
    definition["States"][state]["ResultPath"] = "$.poll_results_data.poll_results_s3_key"
    definition["States"][state]["ResultSelector"] = {"hidden.$": "$.none"}
    report = analyse(machines_of(json.dumps(definition), file="m.json")[0], None, ours())
    assert report.exit_code == 1
    assert "F603" in {finding.code for finding in report.findings}


def test_a_field_that_a_handler_may_set_and_a_pass_drops_is_said_to_be_dropped() -> None:
    states = {
        "Ask": {"Type": "Task", "Resource": "arn:aws:lambda:::function:ask", "Next": "Replace"},
        "Replace": {"Type": "Pass", "Parameters": {"other": 1}, "Next": "MarkBatchesComplete"},
        "MarkBatchesComplete": {"Type": "Pass", "End": True},
    }
    machine = machines_of(json.dumps({"StartAt": "Ask", "States": states}), file="m.json")[0]
    contract = of_document({"outputs": {"Ask": {"k": "string|absent"}}}, "contract")
    (answer,) = analyse(machine, Question(fields=("k",)), contract).answers
    assert answer.why == "Replace drops it: Parameters without ResultPath replaces the whole state"


def test_the_chain_names_the_state_that_dropped_it() -> None:
    (finding, _) = (one for one in answered("pass_replaces_state").findings if one.code == "F601")
    assert [link.state for link in finding.path] == ["N", "Prepare", "MarkWordBatchesComplete"]
    assert "Prepare drops it" in finding.message
    assert (finding.line, finding.column) == (20, 5)


REFUSED: Final = {
    "a: [": "is neither JSON nor YAML",
    '{"a": ': "is not JSON",
    "[]": "an array",
    "{}": "is not a state machine",
    '{"StartAt": "A", "States": {}}': "not an object with states",
    '{"StartAt": "B", "States": {"A": {"Type": "Succeed"}}}': "StartAt names 'B'",
    '{"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "C"}}}': "leads to 'C'",
    '{"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "A"}}}': "never ends: A -> A",
    '{"StartAt": "A", "States": {"A": {"Type": "Dance"}}}': "none of the language",
    '{"StartAt": "A", "States": {"A": {"Type": ["Pass"]}}}': "none of the language",
    '{"StartAt": "A", "States": {"A": {"Type": "Map", "End": true}}}': "no ItemProcessor",
    '{"StartAt": "A", "States": {"A": {"Type": "Parallel", "End": true}}}': "no Branches",
    '{"StartAt": "A", "States": {"A": {"Type": "Parallel", "Branches": [5], "End": true}}}': "no Branches",
    '{"StartAt": "A", "States": {"A": {"Type": "Task", "Catch": [{"Next": "A", "ResultPath": 5}], "End": true}}}': "path",
    "[" * 100_000 + "]" * 100_000: "nested",
    '{"a":' * 400 + "1" + "}" * 400: "nested",
    "a: &a [*a]": "nested",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_machine_is_one_line(text: str) -> None:
    with pytest.raises(WrongQuestion) as caught:
        machines_of(text, file="m")
    assert REFUSED[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_analysis_has_no_use_for_is_left_alone() -> None:
    pass_on = {"Type": "Pass", "Branches": [5], "Iterator": {"a": 1}, "End": True}
    machine = machines_of(
        json.dumps({"StartAt": "MarkBatchesComplete", "States": {"MarkBatchesComplete": pass_on}}), file="m"
    )
    assert analyse(machine[0]).answers


KEPT: Final = {"Type": "Pass", "Result": {"key": "k", "part": {"n": 1}, "items": [{"a": 1}], "m": {"key": None}}}
MARK: Final = {"Type": "Task", "Resource": "f", "End": True}
INVOKE: Final = "arn:aws:states:::lambda:invoke"
REASONS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "wait": ({"Type": "Wait", "Seconds": 1, "InputPath": "$.part"}, "S drops it: InputPath keeps $.part only"),
    "pass": ({"Type": "Pass", "InputPath": None}, "S drops it: InputPath keeps nothing (null) only"),
    "null": ({"Type": "Pass", "OutputPath": "$.m"}, "S makes it null: OutputPath keeps $.m only"),
    "jsonata": (
        {"Type": "Pass", "QueryLanguage": "JSONata", "Output": {"a": 1}},
        "S drops it: its Output does not have it",
    ),
    "result": ({"Type": "Pass", "Result": 1}, "S drops it: its result without ResultPath replaces the whole state"),
    "payload": ({"Type": "Task", "Resource": INVOKE}, "S drops it: its result without ResultPath"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_names_what_dropped_it(name: str) -> None:
    state, reason = REASONS[name]
    states = {"K": {**KEPT, "Next": "S"}, "S": {**state, "Next": "Mark"}, "Mark": MARK}
    assert reason in _why(states)


INSIDE: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "item": ({"Type": "Map", "ItemsPath": "$.items"}, "S drops it: each iteration is given its item only"),
    "selector": (
        {"Type": "Map", "ItemsPath": "$.items", "ItemSelector": {}},
        "S drops it: ItemSelector does not pass it on",
    ),
    "branch": ({"Type": "Parallel", "Parameters": {"a": 1}}, "Parameters does not pass it on"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_the_reason_inside_a_map_or_a_branch(name: str) -> None:
    state, reason = INSIDE[name]
    inner = {"StartAt": "Mark", "States": {"Mark": MARK}}
    machines = {"ItemProcessor": inner} if state["Type"] == "Map" else {"Branches": [inner]}
    assert reason in _why({"K": {**KEPT, "Next": "S"}, "S": {**state, **machines, "End": True}})


def test_what_a_function_returns_stays_in_payload() -> None:
    """The whole answer of `lambda:invoke` has other fields than the handler's."""
    states = {"K": {"Type": "Task", "Resource": INVOKE, "Next": "Mark"}, "Mark": MARK}
    assert _why(states) == "K leaves what its function returns in Payload"


def _why(states: Mapping[str, Any]) -> str:
    machine = machines_of(json.dumps({"StartAt": "K", "States": states}), file="m")[0]
    (answer,) = analyse(machine, Question(fields=("key",), state="Mark")).answers
    assert answer.status.value in {"missing", "null"}
    return answer.why


def test_templates_are_read(tmp_path: Path) -> None:
    body = (CORPUS / "kept.json").read_text()
    (tmp_path / "m.json").write_text(body)
    template = tmp_path / "template.yaml"
    template.write_text(
        "Resources:\n  A:\n    Type: AWS::Serverless::StateMachine\n    Properties: {DefinitionUri: m.json}\n"
        "  B:\n    Type: AWS::StepFunctions::StateMachine\n    Properties:\n      DefinitionString: !Sub |\n"
        + "".join(f"        {line}\n" for line in body.splitlines())
        + "  C:\n    Type: AWS::Serverless::StateMachine\n    Properties:\n      Role: !GetAtt Role.Arn\n"
        "      Definition:\n        StartAt: One\n        States:\n          One: {Type: Succeed}\n"
    )
    assert [machine.name for machine in read(template)] == ["A", "B", "C"]


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(socket, "socket", None)  # it asks nobody
    run = CliRunner().invoke
    dropped = str(CORPUS / "pass_replaces_state.json")
    for form in RENDERERS:
        done = run(cli, ["verify", "flow", dropped, "--format", form])
        assert done.exit_code == 1
        assert "F601" in done.output
    files = {form: tmp_path / f"flow.{form}" for form in RENDERERS}
    asked = [f"--format={form}={path}" for form, path in files.items()]
    done = run(cli, ["verify", "flow", dropped, *asked])
    assert done.output == files["text"].read_text()
    assert all("F601" in path.read_text() for path in files.values())
    assert json.loads(run(cli, ["verify", "flow", dropped, "--json"]).output) == json.loads(files["json"].read_text())
    for wrong in (
        ["--format=text", "--format=json"],
        ["--format=pdf"],
        [f"--format=html={tmp_path}"],
        ["--format=html=none/x"],
    ):
        assert run(cli, ["verify", "flow", dropped, *wrong]).exit_code == 2
    assert run(cli, ["verify", "flow", str(CORPUS / "kept.json")]).exit_code == 0
    assert run(cli, ["verify", "flow", str(CORPUS / "handler_decides.json")]).exit_code == 3
    assert run(cli, ["verify", "flow", "none.json"]).exit_code == 2
    assert run(cli, ["verify", "flow", dropped, "--state", "Nobody"]).exit_code == 2


def test_a_contract_decides(tmp_path: Path) -> None:
    contract = tmp_path / "outputs.json"
    for key, code in (("string", 0), ("null", 1), ("string|null", 3), ("absent", 1)):
        outputs = {"Normal*": {"poll_results_s3_key": key, "poll_results_s3_bucket": "string"}}
        contract.write_text(json.dumps({"outputs": outputs}))
        arguments = ["verify", "flow", str(CORPUS / "handler_decides.json"), "--contract", str(contract)]
        assert CliRunner().invoke(cli, arguments).exit_code == code


def test_formats_agree_and_html_is_escaped() -> None:
    evil = '</script><img src=x onerror="alert(1)">'
    states = {"A": {"Type": "Pass", "Next": evil}, evil: {"Type": "Pass", "Parameters": {}, "End": True}}
    machine = machines_of(json.dumps({"StartAt": "A", "States": states}), file="m.json")[0]
    reports = [analyse(machine, Question(state=evil, fields=("k",)))]
    codes = [finding.code for finding in reports[0].findings]
    sarif = json.loads(RENDERERS["sarif"](reports))
    assert sarif_errors(sarif) == []
    assert [one["ruleId"] for one in sarif["runs"][0]["results"]] == codes
    assert [one["code"] for one in json.loads(RENDERERS["json"](reports))["machines"][0]["findings"]] == codes
    page = RENDERERS["html"](reports)
    assert "<img" not in page
    assert all(code in page and code in RENDERERS["text"](reports) for code in codes)

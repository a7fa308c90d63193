"""`verify check` on AWS: the real machines on moto, audited by the names of their bucket, table, machine and log group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from embedpipe.cli import cli
from embedpipe.errors import ConfigError
from tests.verify.live import Live, codes, live, permissions, refuse, states
from tests.worlds import KIND
from verify.audit.api import aws
from verify.audit.findings import WrongQuestion
from verify.sources.doctor import examine
from verify.sources.permissions import ACTIONS, policy


@pytest.fixture(scope="module")
def deployment() -> Iterator[Live]:
    """A healthy one: an execution without a batch, one that polls inline, one whose Map is distributed."""
    with live(inline_batches_max=2) as made:
        made.deploy()
        made.ingest("empty")
        made.submit(2)
        made.ingest("inline")
        made.submit(5)
        made.ingest("distributed")
        yield made


# --- healthy -------------------------------------------------------------------------------------------------------


def test_a_healthy_deployment_is_clean(deployment: Live) -> None:
    report = deployment.audited()
    assert report.findings == ()
    assert report.verdict == "clean"
    assert states(report) == {"L": (3, 3), "P": (3, 3), "X": (3, 3)}
    assert report.calls["histories.runs"] == 1
    assert report.calls["histories.map_run"] == 1


@pytest.mark.parametrize(
    ("changes", "families"),
    [
        ({"bucket": None, "table": None, "log_groups": ()}, {"X"}),
        ({"bucket": None, "table": None}, {"X", "L"}),
        ({"table": None}, {"X", "L", "P"}),
        ({"bucket": None}, {"X", "L"}),
    ],
)
def test_what_is_not_named_is_out_of_scope(deployment: Live, changes: dict[str, Any], families: set[str]) -> None:
    report = deployment.audited(changes=changes)
    assert report.verdict == "clean"
    assert {line.family for line in report.coverage.lines if line.checked} == families
    assert any("not read" in words for words in report.coverage.not_looked_at)


def test_one_execution_is_asked_for_by_its_name(deployment: Live) -> None:
    report = deployment.audited(executions=["inline"])
    assert "histories.runs" not in report.calls
    assert states(report)["X"] == (3, 1)


def test_since_ends_the_listing(deployment: Live) -> None:
    report = deployment.audited(since="2100-01-01")
    assert report.calls["histories.runs"] == 1
    assert "histories.events" not in report.calls
    assert states(report)["X"][1] == 0


def test_the_command_says_the_same(deployment: Live) -> None:
    result = CliRunner().invoke(
        cli,
        ["verify", "check", *deployment.flags, "--kind", KIND.name, "--json", "--grace", "0"],
        standalone_mode=False,
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["verdict"] == "clean"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    return permissions(monkeypatch)


# --- what is asked of AWS ------------------------------------------------------------------------------------------


def test_the_policy_allows_every_call_and_nothing_else(deployment: Live, called: set[str]) -> None:
    for depth in ("metadata", "content", "vectors"):
        deployment.audited(depth=depth)
    deployment.audited(executions=["inline"])
    source = aws(**deployment.named)
    examine(source)
    source.close()
    assert sorted(called) == sorted(action for actions in ACTIONS.values() for action in actions)


def test_a_policy_names_what_it_is_given() -> None:
    arn = "arn:aws:states:eu-central-1:123456789012:stateMachine:ingest"
    made = policy(bucket="b", table="t", machines=[arn], log_groups=["/aws/lambda/m"], region="eu-central-1")
    found = {statement["Sid"]: statement["Resource"] for statement in made["Statement"]}
    assert found["ReadObjects"] == ["arn:aws:s3:::b/*"]
    assert found["ReadIndex"] == ["arn:aws:dynamodb:eu-central-1:*:table/t/index/GSI1"]
    assert found["ReadExecutions"] == ["arn:aws:states:eu-central-1:123456789012:execution:ingest:*"]
    assert found["ReadMapRuns"] == ["arn:aws:states:eu-central-1:123456789012:mapRun:ingest/*"]
    assert found["ReadLogGroups"] == ["arn:aws:logs:eu-central-1:*:log-group:/aws/lambda/m:*"]
    assert {statement["Sid"] for statement in policy(bucket="b")["Statement"]} == {"ReadBucket", "ReadObjects"}
    assert len(policy()["Statement"]) == len(ACTIONS)


@pytest.mark.parametrize("given", [{"bucket": "a b"}, {"machines": ["ingest"]}, {"log_groups": ['x"y']}])
def test_a_policy_of_odd_names_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(WrongQuestion, match="is no"):
        policy(**given)


# --- doctor, and bad input -----------------------------------------------------------------------------------------


def test_doctor_reads_each_source(deployment: Live) -> None:
    result = CliRunner().invoke(cli, ["verify", "doctor", *deployment.flags, "--kind", KIND.name])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines if "named" not in line] == ["ok"] * 7
    assert sum("out of scope" in line for line in lines) == 2


@pytest.mark.parametrize(
    ("changes", "said", "fix"),
    [
        ({"bucket": "nowhere"}, "bucket 'nowhere'", "objects.bucket"),
        ({"table": "nowhere"}, "table 'nowhere'", "table.name"),
        ({"region": "us-east-1", "log_groups": ()}, "us-east-1", "table.region"),
        ({"log_groups": ["/nowhere"]}, "log group '/nowhere'", "--log-group"),
        ({"state_machine_arns": ["arn:aws:states:eu-central-1:123456789012:stateMachine:no"]}, "no", "--state-machine"),
        ({"state_machine_arns": ["ingest"]}, "'ingest' is no ARN", "--state-machine-arn"),
    ],
)
def test_doctor_names_what_is_wrong(deployment: Live, changes: dict[str, Any], said: str, fix: str) -> None:
    source = aws(**{**deployment.named, **changes})
    seen = examine(source)
    source.close()
    failed = [read for read in seen.reads if read.failed]
    assert failed
    assert all(read.said and "\n" not in read.said for read in failed)
    assert any(said in read.said and fix in read.fix for read in failed), failed
    assert seen.exit_code == 3


DENIED = "User is not authorized to perform this action"


@pytest.mark.parametrize(
    ("code", "words"),
    [("AccessDeniedException", "Allow "), ("ExpiredTokenException", "expired"), ("ThrottlingException", "fewer calls")],
)
@pytest.mark.parametrize(
    ("operation", "family"), [("ListExecutions", "X"), ("GetExecutionHistory", "X"), ("FilterLogEvents", "L")]
)
def test_what_cant_be_read_is_not_evaluated(
    deployment: Live, monkeypatch: pytest.MonkeyPatch, operation: str, family: str, code: str, words: str
) -> None:
    refuse(monkeypatch, operation, code)
    monkeypatch.setattr("embedpipe.backends.system.SystemClock.sleep", lambda *_: None)
    report = deployment.audited()
    assert codes(report) == {"A901"}
    assert report.exit_code == 3
    assert any(words in str(finding.evidence["reason"]) for finding in report.findings)
    (line,) = [line for line in report.coverage.lines if line.family == family and line.unit == "executions"]
    assert line.not_evaluated > 0
    source = aws(**deployment.named)
    seen = examine(source)
    source.close()
    assert any(read.failed and words in read.fix for read in seen.reads)


def test_denied_rows_are_not_evaluated(deployment: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "BatchGetItem", "AccessDeniedException")
    report = deployment.audited()
    assert codes(report) == {"A901"}
    assert report.exit_code == 3


@pytest.mark.parametrize("changes", [{"bucket": "nowhere"}, {"table": "nowhere"}, {"log_groups": ["/nowhere"]}])
def test_a_resource_that_is_not_there_is_a_wrong_question(deployment: Live, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        deployment.audited(changes=changes)


def test_nothing_named_is_a_wrong_question(tmp_path: Path) -> None:
    with pytest.raises(WrongQuestion, match="Nothing is named"):
        aws()


def test_an_express_machine_keeps_no_history(deployment: Live) -> None:
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
    made = deployment.cloud.sfn.create_state_machine(
        name="quick", definition=definition, roleArn="arn:aws:iam::123456789012:role/sfn", type="EXPRESS"
    )
    report = deployment.audited(changes={"state_machine_arns": [deployment.machine, made["stateMachineArn"]]})
    assert [finding.code for finding in report.findings] == ["A901"]
    assert "EXPRESS" in str(report.findings[0].evidence["reason"])
    assert report.exit_code == 3


def test_histories_are_judged_though_the_bucket_may_not_be_listed(
    deployment: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "ListObjectsV2", "AccessDenied")
    report = deployment.audited()
    assert codes(report) == {"A901"}
    assert any("Allow s3:ListBucket" in str(finding.evidence["reason"]) for finding in report.findings)
    assert states(report)["X"] == (3, 3)
    assert states(report)["L"][1] == 0

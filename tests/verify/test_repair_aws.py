"""`verify repair` on AWS, by the names of bucket, table and machine: S3 and DynamoDB on moto, through the very ports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import md5
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from click.testing import CliRunner, Result

from embedpipe.cli import cli
from tests.aws.cloud import BUCKET, REGION, TABLE, _client
from tests.harness import crash, dies
from tests.verify.live import Live, live
from tests.worlds import KIND
from verify.repair.applying import Came, apply_plan, undo
from verify.repair.plan import Plan, read_plan
from verify.repair.stores import Stores, of_aws

STORES = ("--bucket", BUCKET, "--table", TABLE, "--region", REGION, "--kind", KIND.name)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Live]:
    with live() as made:
        made.deploy()
        made.submit(2)
        made.ingest("one")
        yield made


@pytest.fixture(scope="module")
def healthy(deployment: Live) -> dict[str, bytes]:
    """What is in its bucket."""
    assert deployment.machine
    return {key: _client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in etags()}


@pytest.fixture
def here(
    deployment: Live, healthy: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Live]:
    """The deployment as it was; what a test leaves behind is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    before, rows = etags(), scanned()
    yield deployment
    after = etags()
    for key in after.keys() - before.keys():
        delete(key)
    for key in (key for key, etag in before.items() if after.get(key) != etag):
        put(key, healthy[key])
    restore(rows)


def call(*args: str) -> Result:
    return CliRunner().invoke(cli, ["verify", *args], prog_name="embedpipe")


def etags(prefix: str = "", *, but: str = "-") -> dict[str, str]:
    """What is in the bucket, each by its hash."""
    found = _client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {entry["Key"]: entry["ETag"] for entry in found if not entry["Key"].startswith(but)}


def put(key: str, data: bytes) -> None:
    _client("s3").put_object(Bucket=BUCKET, Key=key, Body=data)


def delete(key: str) -> None:
    _client("s3").delete_object(Bucket=BUCKET, Key=key)


def restore(rows: list[dict[str, Any]]) -> None:
    for item in rows:
        _client("dynamodb").put_item(TableName=TABLE, Item=item)


def scanned() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _client("dynamodb").scan(TableName=TABLE)["Items"]
    return sorted(found, key=lambda item: str(item["PK"]))


def without_revision() -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "revision"} for item in scanned()]


# --- faults --------------------------------------------------------------------------------------------------------


def torn_results(made: Live) -> None:
    put(made.world.config.layout.poll_results_key("one"), b"[{")


def stray(made: Live) -> None:
    key = made.world.config.layout.result_key("nobody-knows-it")
    put(key, json.dumps({"batch_id": "nobody-knows-it", "action": "wait", "results_count": 0}).encode())


def ended_by_nobody(_: Live) -> None:
    item = scanned()[0]
    restore([{name: value for name, value in item.items() if name != "completed_by"}])


FAULTS = [
    pytest.param("P205", torn_results, id="P205"),
    pytest.param("P207", stray, id="P207"),
    pytest.param("B702", ended_by_nobody, id="B702"),
]
"""One for each kind of write: over an object, of a delete, to a row."""
CHECK = ("check", "--grace", "0", "--fail-on", "info")
Plants = Callable[[Live], None]


def planned(made: Live, code: str, plant: Plants) -> Plan:
    plant(made)
    made_of = call("repair", "plan", "--select", code, "--grace", "0", "--out", "repair.json", "--json", *STORES)
    assert made_of.exit_code == 0, made_of.output
    plan = read_plan(Path("repair.json"))
    assert plan.actions, made_of.stdout
    return plan


def opened(made: Live) -> Stores:
    return of_aws(made.world.config, bucket=BUCKET, table=TABLE, region=REGION, endpoint_url=None)


# --- the whole way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "plant"), FAULTS)
def test_a_fault_is_planned_mended_and_put_back(here: Live, code: str, plant: Plants) -> None:
    plan = planned(here, code, plant)
    before = etags(), without_revision()
    rehearsed = call("repair", "apply", "repair.json", "--dry-run", *STORES)
    assert (rehearsed.exit_code, rehearsed.stdout.startswith("done: ")) == (0, True)
    assert (etags(), without_revision()) == before
    applied = call("repair", "apply", "repair.json", *STORES)
    assert applied.exit_code == 0, applied.output
    assert f"Undo: embedpipe verify repair undo {plan.id} --bucket {BUCKET} --table {TABLE}" in applied.stdout
    assert ("Next: start an execution of the ingest machine" in applied.stdout) is plan.then_ingest
    after = etags(), scanned()
    again = call("repair", "apply", "repair.json", *STORES)
    assert (again.exit_code, {line.split(":")[0] for line in again.stdout.splitlines()} & {"done", "stale"}) == (
        0,
        set(),
    )
    assert (etags(), scanned()) == after
    if not plan.then_ingest:  # else the test below
        assert call(*CHECK, *STORES).exit_code == 0
    undone = call("repair", "undo", plan.id, *STORES)
    assert undone.exit_code == 0
    assert undone.stdout.startswith("undone: ")
    assert (etags(but="quarantine/"), without_revision()) == before


def test_a_row_that_was_opened_again_is_ended_by_the_machine(here: Live) -> None:
    plan = planned(here, "B702", ended_by_nobody)
    assert {done.came for done in apply_plan(plan, opened(here))} == {Came.DONE}
    assert here.ingest("then")["status"] == "SUCCEEDED"
    clean = call(*CHECK, *STORES)
    assert clean.exit_code == 0, clean.output
    assert {done.came for done in apply_plan(plan, opened(here))} == {Came.ALREADY}
    since = without_revision()
    assert {done.came for done in undo(plan.id, opened(here))} == {Came.LEFT}
    assert without_revision() == since


@pytest.mark.parametrize(("code", "plant"), [FAULTS[0], FAULTS[2]])
def test_a_newer_write_makes_the_plan_stale(here: Live, code: str, plant: Plants) -> None:
    (action,) = planned(here, code, plant).actions
    if code == "B702":
        row = here.world.table.get_many([action.target])[action.target]
        here.world.table.update(row.batch_id, {"reason": "theirs"}, status=row.status, revision=row.revision)
    else:
        put(action.target, b"theirs")
    newer = etags(), scanned()
    refused = call("repair", "apply", "repair.json", *STORES)
    assert (refused.exit_code, refused.stdout.startswith("stale: ")) == (1, True)
    assert (etags(but="quarantine/"), scanned()) == (newer[0], newer[1])


@pytest.mark.parametrize(("code", "plant"), [FAULTS[0], FAULTS[2]])
def test_a_write_that_comes_in_between_is_not_written_over(
    here: Live, monkeypatch: pytest.MonkeyPatch, code: str, plant: Plants
) -> None:
    """After the last look: the store's own condition refuses. A delete has none, and its body is in the journal."""
    (action,) = planned(here, code, plant).actions
    stores, inner = opened(here), BaseClient._make_api_call
    struck: list[str] = []

    def race(client: Any, operation: str, arguments: Any) -> Any:
        theirs = arguments.get("Key") == action.target or operation == "UpdateItem"
        if operation in ("PutObject", "UpdateItem") and theirs and not struck:
            struck.append(operation)
            if operation == "PutObject":
                put(action.target, b"theirs")
            else:
                row = here.world.table.get_many([action.target])[action.target]
                here.world.table.update(row.batch_id, {"reason": "theirs"}, status=row.status, revision=row.revision)
        return inner(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", race)
    (done,) = apply_plan(read_plan(Path("repair.json")), stores)
    assert struck
    assert done.came is Came.STALE
    assert etags().get(action.target) == f'"{md5(b"theirs").hexdigest()}"' or "theirs" in str(scanned())


@pytest.mark.parametrize(
    ("way", "code", "plant"),
    [
        pytest.param("apply", "P205", torn_results, id="apply-P205"),
        pytest.param("apply", "P207", stray, id="apply-P207"),
        pytest.param("apply", "B702", ended_by_nobody, id="apply-B702"),
        pytest.param("undo", "P207", stray, id="undo-P207"),
        pytest.param("undo", "B702", ended_by_nobody, id="undo-B702"),
    ],
)
def test_killed_at_each_write_it_goes_on(
    here: Live, monkeypatch: pytest.MonkeyPatch, code: str, plant: Plants, way: str
) -> None:
    plan, stores = planned(here, code, plant), opened(here)
    target, rows = plan.actions[0].target, scanned()
    work = partial(undo, plan.id) if way == "undo" else partial(apply_plan, plan)
    list(apply_plan(plan, stores))
    list(undo(plan.id, stores) if way == "undo" else ())
    wanted = etags(target), without_revision()
    for nth in count(1):
        for moment in ("before", "after"):
            for key in etags("quarantine/"):
                delete(key)
            restore(rows)
            plant(here)
            list(apply_plan(plan, stores) if way == "undo" else ())
            with monkeypatch.context() as patch:
                patch.setattr(BaseClient, "_make_api_call", dying(nth, moment))
                died = dies(lambda: list(work(stores)))
            assert {done.came for done in work(stores)} <= {Came.DONE, Came.UNDONE, Came.ALREADY}
            assert (etags(target), without_revision()) == wanted
        if not died:
            break
    assert nth > 2


def dying(nth: int, moment: str) -> Callable[..., Any]:
    """The SDK of a process that ends at its write number `nth`."""
    inner, writes = BaseClient._make_api_call, count(1)

    def make(client: Any, operation: str, arguments: Any) -> Any:
        now = operation in ("PutObject", "DeleteObject", "UpdateItem") and next(writes) == nth
        if now and moment == "before":
            crash()
        answer = inner(client, operation, arguments)
        if now:
            crash()
        return answer

    return make


# --- what is named -------------------------------------------------------------------------------------------------


def test_a_plan_of_another_bucket_or_half_a_deployment_is_refused(here: Live) -> None:
    planned(here, "P205", torn_results)
    _client("s3").create_bucket(Bucket="other", CreateBucketConfiguration={"LocationConstraint": REGION})
    refused = call("repair", "apply", "repair.json", "--bucket", "other", "--table", TABLE, "--region", REGION)
    assert (refused.exit_code, "and not for objects=s3:other" in refused.stderr) == (2, True)
    refused = call("repair", "apply", "repair.json", "--bucket", BUCKET, "--region", REGION)
    assert (refused.exit_code, "--table" in refused.stderr) == (2, True)
    refused = call("repair", "undo", "0" * 16, *STORES)
    assert (refused.exit_code, f"objects=s3:{BUCKET}" in refused.stderr) == (2, True)


def test_the_machine_and_its_logs_may_be_named_as_for_check(here: Live) -> None:
    torn_results(here)
    flags = (*here.flags, "--kind", KIND.name)
    ended = call("check", "--grace", "0", *flags)
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("next: ")]
    assert line.startswith(f"next: embedpipe verify repair plan --out repair.json --grace 0.0 --bucket {BUCKET}")
    assert here.machine in line
    assert call(*line.split()[3:]).exit_code == 0
    assert call("repair", "apply", "repair.json", *here.flags).exit_code == 0
    assert call("check", "--grace", "0", *flags).exit_code == 0

"""A whole run against S3, DynamoDB and a provider that are set wrong, forbid, throttle or forget.

Records are submitted; then one thing after another is wrong, and each time `embedpipe run` says in one sentence what it is and
what to do, no row and no claim has changed, and nothing was created. In the end the same command ends everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from click.testing import CliRunner

from embedpipe.backends.dynamodb_items import decode_item
from embedpipe.backends.memory.clock import MemoryClock
from embedpipe.backends.memory.objects import MemoryBlobStore
from embedpipe.backends.memory.provider import MemoryProvider
from embedpipe.backends.memory.table import MemoryBatchTable
from embedpipe.backends.memory.vectors import MemoryVectorStore
from embedpipe.backends.system import SystemClock
from embedpipe.cli import cli
from embedpipe.errors import EXIT_INPUT, EXIT_OK, EXIT_SERVICE, EXIT_USAGE
from embedpipe.layout import Layout
from simulator.serving import server
from simulator.serving.failures import Answer, Failure, Failures
from tests.contract.aws import REGION, Cloud, Wire, made_up, over_http
from tests.protocol.scenes import QUICK
from tests.serving import Switch, switch

KIND: Final = "notes"
NAMES: Final = "abcd"
BATCHES: Final = 2
HEAD: Final = f"{KIND}/submissions/{KIND}/head.json"


@attrs.frozen
class Shared:
    """Stores and a provider in memory: each command is a process of its own, and these outlive it."""

    objects: MemoryBlobStore = attrs.field(factory=MemoryBlobStore)
    table: MemoryBatchTable = attrs.field(factory=MemoryBatchTable)
    vectors: MemoryVectorStore = attrs.field(factory=MemoryVectorStore)
    provider: MemoryProvider = attrs.field(factory=lambda: MemoryProvider(MemoryClock(), behaviour=QUICK))


_shared = Shared()


def objects() -> MemoryBlobStore:
    """For `objects.backend`; the others likewise."""
    return _shared.objects


def table() -> MemoryBatchTable:
    return _shared.table


def provider() -> MemoryProvider:
    return _shared.provider


def vectors() -> MemoryVectorStore:
    return _shared.vectors


@attrs.frozen
class Ended:
    exit_code: int
    stdout: str
    stderr: str


Settings = dict[str, dict[str, Any]]


@attrs.frozen
class Account:
    """Stores, a provider, and a directory with an embedpipe.toml that names them."""

    folder: Path
    settings: Settings

    def __call__(self, *arguments: str, **changed: Any) -> Ended:
        """Run a command with these settings changed, such as `objects__bucket`."""
        config = self.folder / "embedpipe.toml"
        config.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in self._settings(changed)))
        found = CliRunner().invoke(cli, [*arguments, "--config", str(config), "--kind", KIND], prog_name="embedpipe")
        return Ended(found.exit_code, found.stdout, found.stderr)

    def _settings(self, changed: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        changes = {tuple(name.split("__")): value for name, value in changed.items()}
        given = {(section, name): value for section, values in self.settings.items() for name, value in values.items()}
        for (section, name), value in (given | changes).items():
            yield f"{section}.{name}", value

    def items(self) -> list[Mapping[str, object]]:
        """Every item of the table, around the port."""
        return sorted(_shared.table._items.values(), key=lambda item: str(item["PK"]))

    def head(self) -> bytes:
        """The ledger, around the port."""
        return _shared.objects.contents()[HEAD]

    def claimed(self) -> object:
        """What the ledger says is claimed. It also remembers who asked and claimed nothing."""
        head = json.loads(self.head())
        return head["seq"], head["open"]

    def statuses(self) -> set[object]:
        return {item["status"] for item in self.items()}


@attrs.frozen
class CloudAccount(Account):
    """Likewise, with objects in S3 and rows in DynamoDB."""

    cloud: Cloud
    wire: Wire

    def items(self) -> list[Mapping[str, object]]:
        found = self.cloud.client("dynamodb").scan(TableName=self.settings["table"]["name"])["Items"]
        return sorted(map(decode_item, found), key=lambda item: str(item["PK"]))

    def head(self) -> bytes:
        bucket = self.settings["objects"]["bucket"]
        data: bytes = self.cloud.client("s3").get_object(Bucket=bucket, Key=HEAD)["Body"].read()
        return data


def settings(stores: Settings) -> Settings:
    return {
        **stores,
        "provider": {"backend": f"{__name__}:provider", "model": "scripted", "dimensions": 8},
        "vectors": {"backend": f"{__name__}:vectors"},
        "limits": {"requests_per_batch": 2},
        "retry": {"attempts": 2, "first_delay_s": 0.0},
        "run": {"poll_interval_s": 0.0, "threads": 2},
    }


def submitted(account: Account) -> Account:
    """Its two batches are with the provider."""
    lines = (json.dumps({"id": name, "text": f"text {name}"}) + "\n" for name in NAMES)
    (account.folder / "notes.jsonl").write_text("".join(lines))
    done = account("submit", str(account.folder / "notes.jsonl"))
    assert done.exit_code == EXIT_OK, done.stderr
    assert account.statuses() == {"PENDING"}
    return account


@pytest.fixture(scope="module")
def cloud_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudAccount]:
    """One for all that is refused, since nothing of it leaves a trace; in the end everything is right, and ends well."""
    with over_http() as cloud, pytest.MonkeyPatch.context() as patch:
        wire = Wire()
        patch.setattr(
            f"{__name__}._shared", Shared()
        )  # tests of other modules may come in between, and it begins again
        patch.setattr("boto3.Session", lambda **_: wire.session)  # the session that a command makes
        shared = {"region": REGION, "endpoint_url": cloud.endpoint_url, "attempts": 1}
        stores: Settings = {
            "objects": {"backend": "s3", "bucket": cloud.new_bucket(), **shared},
            "table": {"backend": "dynamodb", "name": cloud.new_table(), **shared},
        }
        made = CloudAccount(tmp_path_factory.mktemp("account"), settings(stores), cloud, wire)
        submitted(made)
        yield made
        ends_well(made)


@pytest.fixture
def account(cloud_account: CloudAccount) -> Iterator[CloudAccount]:
    """Nothing is wrong with it."""
    yield cloud_account
    cloud_account.wire.faults.clear()
    cloud_account.wire.refused.clear()


def run(account: Account, **changed: Any) -> Ended:
    return account("run", str(account.folder / "notes.jsonl"), **changed)


def refused(account: Account, exit_code: int, *words: str, **changed: Any) -> None:
    """A run ends with one sentence, with these words in it. Rows and claims are as they were, and nothing was created."""
    before = account.items(), account.claimed(), len(provider().creates)
    done = run(account, **changed)
    last = done.stderr.splitlines()[-1]
    assert done.exit_code == exit_code, last
    assert last.startswith("error: ")
    assert [word for word in words if word not in last] == [], last
    assert "Traceback" not in done.stderr
    assert "testing" not in last  # the key
    assert (account.items(), account.claimed(), len(provider().creates)) == before, last


def ends_well(account: Account) -> None:
    """The same command ends everything, and nothing is submitted again."""
    done = run(account)
    assert done.exit_code == EXIT_OK, done.stderr
    assert account.statuses() == {"COMPLETED"}
    assert len(provider().creates) == len(account.items()) == BATCHES
    with vectors().reading(KIND, KIND, version="any") as collection:
        assert sorted(collection.ids()) == list(NAMES)


# --- settings that name something else ------------------------------------------------------------------------------

MISNAMED: Final[list[tuple[dict[str, Any], tuple[str, ...]]]] = [
    ({"objects__bucket": "nobodys-bucket"}, ("no bucket 'nobodys-bucket'", "create it, or set objects.bucket")),
    ({"objects__bucket": ""}, ("objects.bucket is not set", "Name the bucket")),
    ({"objects__endpoint_url": "s3.example"}, ("objects.endpoint_url is no URL",)),
    ({"table__name": "nobodys"}, ("no table 'nobodys' in eu-central-1", "set table.name or table.region")),
    ({"table__region": "us-west-2"}, ("no table", "in us-west-2", "table.region")),
    ({"table__region": ""}, ("no region", "table.region, or AWS_DEFAULT_REGION")),
    ({"layout__index_name": "GSI9"}, ("Add the index to table", "layout.index_name")),
]


def test_settings_that_name_something_else(account: CloudAccount) -> None:
    for changed, words in MISNAMED:
        refused(account, EXIT_USAGE, *words, **changed)
    other = account.cloud.new_table(Layout(index_name="ByStatus"))
    refused(account, EXIT_USAGE, "Add the index to table", "layout.index_name", table__name=other)
    refused(account, EXIT_INPUT, "made with scripted, 8 dimensions", provider__dimensions=9)
    refused(account, EXIT_INPUT, "made with scripted, 8 dimensions", provider__model="another")


def test_a_bucket_in_another_region(account: CloudAccount) -> None:
    """As S3 says it; moto has one region."""
    where = {"x-amz-bucket-region": "us-west-2"}
    for status, code in ((301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")):
        said = f"<Error><Code>{code}</Code><Message>no</Message><Region>us-west-2</Region></Error>".encode()
        for operation in ("GetObject", "HeadBucket"):
            account.wire.refused[operation] = lambda _, request, status=status, said=said: made_up(
                request, status, where, said
            )
        refused(account, EXIT_USAGE, account.settings["objects"]["bucket"], "It is in us-west-2: set objects.region")


# --- what is denied, who asks, and load -----------------------------------------------------------------------------

KEY: Final = "does not take these credentials: check AWS_PROFILE"
CLOCK: Final = "This machine's clock is wrong: set it, and run the same command again."
LOAD: Final = "lower run.threads if it stays so"
EXPIRED: Final = "The credentials have expired: sign in again, or renew the session token."

REFUSALS: Final = {
    # The first calls of a run: everything that a service may say of who asks.
    "GetObject": (
        (403, "AccessDenied", "Allow s3:GetObject on "),
        (400, "ExpiredToken", EXPIRED),
        (403, "InvalidAccessKeyId", KEY),
        (403, "SignatureDoesNotMatch", KEY),
        (403, "RequestTimeTooSkewed", CLOCK),
        (503, "SlowDown", LOAD),
        (500, "InternalError", "InternalError"),
    ),
    "Query": (
        (400, "AccessDeniedException", "Allow dynamodb:Query on "),
        (400, "ExpiredTokenException", EXPIRED),
        (400, "UnrecognizedClientException", KEY),
        (400, "ProvisionedThroughputExceededException", LOAD),
        (500, "InternalServerError", "InternalServerError"),
    ),
    "BatchGetItem": (
        (400, "AccessDeniedException", "Allow dynamodb:BatchGetItem on "),
        (400, "ThrottlingException", LOAD),
    ),
    "PutObject": ((403, "AccessDenied", "Allow s3:PutObject on "), (503, "SlowDown", LOAD)),
    # The last of all: what was polled and merged by then stays, and no row has ended.
    "UpdateItem": (
        (400, "AccessDeniedException", "Allow dynamodb:UpdateItem on "),
        (400, "RequestLimitExceeded", LOAD),
    ),
}


@pytest.mark.parametrize("operation", REFUSALS)
def test_what_a_service_refuses(account: CloudAccount, operation: str) -> None:
    for status, code, words in REFUSALS[operation]:
        account.wire.refuse(operation, status, code)
        refused(account, EXIT_SERVICE, code, words)


def test_without_credentials(account: CloudAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fresh = type(account.wire.session)()
    monkeypatch.setattr("boto3.Session", lambda **_: fresh)
    refused(account, EXIT_SERVICE, "no credentials that work", "AWS_PROFILE, the AWS_ variables or a role")


def test_load_that_passes_is_not_seen(account: CloudAccount) -> None:
    """The SDK repeats what may be repeated, and the engine repeats the step. The last one: its ingest ends the batches."""
    for operation in ("Query", "PutObject"):
        account.wire.fail(503, "SlowDown", on=operation)
    done = account("ingest", table__attempts=2)
    assert account.wire.faults == []
    assert "SlowDown" not in done.stderr


# --- the provider ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def switched() -> Iterator[Switch]:
    with switch() as made:
        yield made


Behind = Callable[..., None]


@pytest.fixture
def local(tmp_path: Path, switched: Switch, monkeypatch: pytest.MonkeyPatch) -> Account:
    """Stores in memory, and the provider asked by OpenAI's API."""
    monkeypatch.setattr(f"{__name__}._shared", Shared())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-testing-key-of-nobody")
    stores: Settings = {name: {"backend": f"{__name__}:{name}"} for name in ("objects", "table")}
    made = Account(tmp_path, settings(stores))
    made.settings["provider"] |= {"backend": "openai", "base_url": switched.url}
    made.settings["policy"] = {"not_found_grace_s": 0.0}
    fail(switched)
    return submitted(made)


def fail(switched: Switch, **failures: Answer) -> None:
    """From now on these calls are answered so."""
    rows = [Failure(call=name.replace("__", "."), times=0, answer=one) for name, one in failures.items()]  # type: ignore[arg-type]
    switched.app = server.application(provider(), SystemClock(), failures=Failures(rows), dimensions=8)


def test_another_project(local: Account) -> None:
    """404 for everything: no batch is given up, none is made again."""
    provider().foreign = True
    refused(local, EXIT_SERVICE, "does not know (404) 2 of 2", "nothing was changed", "the API key belongs to")
    provider().foreign = False
    ends_well(local)


def test_a_provider_that_fails(local: Account, switched: Switch) -> None:
    for failures, words in (
        ({"batches__retrieve": Answer(status=401)}, "refused access (401 or 403) for 2 of 2"),
        ({"batches__retrieve": Answer(status=500)}, "500"),
        ({"batches__retrieve": Answer(status=429)}, "429"),
        ({"files__content": Answer(status=503)}, "503"),
        ({"files__content": Answer(lose="answer")}, "Reading file"),
    ):
        fail(switched, **failures)
        refused(local, EXIT_SERVICE, words)
    fail(switched)
    ends_well(local)


def test_a_key_that_is_refused_before_anything_is_created(local: Account, switched: Switch) -> None:
    """The records are claimed, their batch waits, and the right key finishes it."""
    ends_well(local)
    (local.folder / "notes.jsonl").write_text(json.dumps({"id": "e", "text": "text e"}) + "\n")
    fail(switched, files__create=Answer(status=401))
    done = run(local)
    assert done.exit_code == EXIT_SERVICE
    assert "401" in done.stderr
    assert local.statuses() == {"COMPLETED", "INTENT"}
    assert len(provider().creates) == BATCHES
    fail(switched)
    assert run(local).exit_code == EXIT_OK
    assert local.statuses() == {"COMPLETED"}
    assert len(provider().creates) == BATCHES + 1

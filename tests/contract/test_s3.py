"""The S3 object store against the shipped suite, in process and over HTTP, and what is special about it."""

from __future__ import annotations

import base64
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from embedpipe.backends.s3 import S3BlobStore
from embedpipe.backends.system import SystemClock
from embedpipe.config import Config, build
from embedpipe.errors import (
    ConfigError,
    InvalidKey,
    PreconditionFailed,
    Throttled,
    Unauthorized,
    Unavailable,
    WriteConflict,
)
from embedpipe.limits import LIST_PAGE_KEYS
from tests.contract.aws import Cloud, Wire, in_process, made_up, over_http
from tests.contract.processes import finish, start
from verify.contracts import BlobStoreContract


class S3Suite(BlobStoreContract, abstract=True):
    many_keys = 200

    @pytest.fixture(autouse=True)
    def _cloud(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws = cloud
        # So that a list of `many_keys` has three pages: a longer one takes moto many seconds.
        monkeypatch.setattr("embedpipe.backends.s3.LIST_PAGE_KEYS", 80)

    def create(self) -> str:
        return self.aws.new_bucket()

    def connect(self, store: str) -> S3BlobStore:
        return S3BlobStore(store, session=self.aws.session, **self.aws.where)

    def raw_read(self, store: str, key: str) -> bytes | None:
        try:
            data: bytes = self.aws.client("s3").get_object(Bucket=store, Key=key)["Body"].read()
        except ClientError:
            return None
        return data

    def raw_write(self, store: str, key: str, data: bytes) -> None:
        self.aws.client("s3").put_object(Bucket=store, Key=key, Body=data)


class TestInProcess(S3Suite):
    @pytest.fixture(scope="class")
    @classmethod
    def cloud(cls) -> Iterator[Cloud]:
        with in_process() as cloud:
            yield cloud


class TestOverHttp(S3Suite):
    increments = 2

    @pytest.fixture(scope="class")
    @classmethod
    def cloud(cls) -> Iterator[Cloud]:
        with over_http() as cloud:
            yield cloud


# --- what is special ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def http() -> Iterator[Cloud]:
    with over_http() as cloud:
        yield cloud


@pytest.fixture
def bucket(http: Cloud) -> str:
    return http.new_bucket()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def store(http: Cloud, bucket: str, wire: Wire) -> Iterator[S3BlobStore]:
    with closing(S3BlobStore(bucket, session=wire.session, attempts=2, **http.where)) as made:
        yield made


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedpipe.backends.s3.PART_BYTES", SMALL_PART_BYTES)


SMALL_PART_BYTES = 5 << 20  # S3 takes no smaller one, but for the last
LARGE = bytes(range(256)) * (11 << 12)  # 11 MiB: two parts and a rest


def keys(store: S3BlobStore, prefix: str = "", *, after: str | None = None) -> list[str]:
    return [info.key for info in store.list(prefix, after=after)]


def open_uploads(http: Cloud, bucket: str) -> list[str]:
    found = http.client("s3").list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [upload["Key"] for upload in found]


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


# --- conditions and retries: what is sent, and how often ---------------------------------------------------------------


def test_a_conditional_write_is_sent_once_and_says_what_is_known(store: S3BlobStore, wire: Wire) -> None:
    for status, code, error in (
        (503, "SlowDown", Throttled),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (409, "ConditionalRequestConflict", WriteConflict),
        (412, "PreconditionFailed", PreconditionFailed),
        (404, "NoSuchKey", PreconditionFailed),
    ):
        wire.sent.clear()
        wire.fail(status, code, times=2)
        with pytest.raises(error) as caught:
            store.put("object", b"data", if_match='"etag"')
        assert type(caught.value) is error
        assert wire.sent == ["PutObject"]
        wire.faults.clear()
    assert keys(store) == []


def test_conditions_are_the_services_own(store: S3BlobStore, wire: Wire) -> None:
    etag = store.put("object", b"1", if_none_match=True)
    assert wire.last("PutObject")["IfNoneMatch"] == "*"
    store.put("object", b"2", if_match=etag)
    assert wire.last("PutObject")["IfMatch"] == etag
    store.put("object", b"3")
    assert not {"IfMatch", "IfNoneMatch"} & wire.last("PutObject").keys()
    assert wire.operations() == ["PutObject"] * 3  # nothing is looked up before


def test_a_conditional_write_whose_answer_is_lost_is_unknown_and_meets_itself(store: S3BlobStore, wire: Wire) -> None:
    wire.lose_answer()
    with pytest.raises(Unavailable):
        store.put("object", b"data", if_none_match=True)
    assert store.get("object").data == b"data"
    with pytest.raises(PreconditionFailed):
        store.put("object", b"data", if_none_match=True)


def test_other_calls_are_repeated_by_the_sdk(store: S3BlobStore, wire: Wire, tmp_path: Path) -> None:
    wire.fail(503, "SlowDown")
    store.put("object", b"data")
    wire.lose_answer()
    store.put("object", b"newer")
    wire.fail(500, "InternalError")
    assert store.get("object").data == b"newer"
    wire.fail(503, "SlowDown")
    assert keys(store) == ["object"]
    wire.lose_answer()
    store.delete("object")
    assert wire.sent == [
        name for name in ("PutObject", "PutObject", "GetObject", "ListObjectsV2", "DeleteObject") for _ in "12"
    ]


def test_throttled_means_that_nothing_was_written(store: S3BlobStore, wire: Wire) -> None:
    store.put("object", b"old")
    wire.fail(503, "SlowDown", times=2)
    with pytest.raises(Throttled, match="S3 answered 503 SlowDown"):
        store.get("object")
    # Of two tries of a write the first may have done it, and the last one's answer says nothing of that.
    wire.lose_answer()
    wire.fail(503, "SlowDown")
    with pytest.raises(Unavailable):
        store.put("object", b"new")
    assert store.get("object").data == b"new"


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_small_parts")
def test_a_large_object_goes_up_in_parts_with_checksums(store: S3BlobStore, wire: Wire, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    etag = store.upload("object", source, if_none_match=True)
    assert wire.operations() == ["CreateMultipartUpload", *["UploadPart"] * 3, "CompleteMultipartUpload"]
    parts = [LARGE[start : start + SMALL_PART_BYTES] for start in range(0, len(LARGE), SMALL_PART_BYTES)]
    sent = [params for name, params in wire.calls if name == "UploadPart"]
    assert [params["ChecksumCRC32"] for params in sent] == list(map(crc32, parts))
    done = wire.last("CompleteMultipartUpload")
    assert (done["ChecksumCRC32"], done["ChecksumType"], done["MpuObjectSize"]) == (
        crc32(LARGE),
        "FULL_OBJECT",
        len(LARGE),
    )
    assert (done["IfNoneMatch"], [part["PartNumber"] for part in done["MultipartUpload"]["Parts"]]) == ("*", [1, 2, 3])
    assert store.get("object").data == LARGE
    # An etag tells of bytes, not of the way they took. moto does not look at If-Match here, so what is sent is looked at.
    assert store.put("object", LARGE, if_match=etag) == etag == store.get("object").etag
    assert wire.last("CompleteMultipartUpload")["IfMatch"] == etag
    assert store.put("object", LARGE + b"x") != etag


@pytest.mark.usefixtures("_small_parts")
def test_a_condition_that_fails_at_the_end_leaves_no_parts(
    store: S3BlobStore, http: Cloud, bucket: str, wire: Wire
) -> None:
    store.put("object", b"first")
    with pytest.raises(PreconditionFailed, match="exists; nothing was written"):
        store.put("object", LARGE, if_none_match=True)
    for status, code, error in (
        (409, "ConditionalRequestConflict", WriteConflict),
        (404, "NoSuchKey", PreconditionFailed),
        (200, "InternalError", Unavailable),  # S3 begins to answer before it knows
        (500, "InternalError", Unavailable),
    ):
        wire.sent.clear()
        wire.fail(status, code, times=2, on="CompleteMultipartUpload")
        with pytest.raises(error):
            store.put("object", LARGE, if_match='"etag"')
        assert wire.sent.count("CompleteMultipartUpload") == 1
        wire.faults.clear()
        assert wire.sent[-1] == "AbortMultipartUpload"
    assert (store.get("object").data, open_uploads(http, bucket)) == (b"first", [])


@pytest.mark.usefixtures("_small_parts")
def test_a_part_is_repeated_and_one_that_fails_ends_the_upload(
    store: S3BlobStore, http: Cloud, bucket: str, wire: Wire, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    wire.fail(500, "InternalError", on="UploadPart")
    store.upload("object", source)
    assert wire.sent.count("UploadPart") == 4
    store.delete("object")
    wire.fail(500, "InternalError", on="UploadPart", times=2)
    with pytest.raises(Unavailable):
        store.upload("object", source)
    assert (keys(store), open_uploads(http, bucket)) == ([], [])
    # Neither does an abort that fails hide the error that came first.
    wire.fail(403, "AccessDenied", on="UploadPart")
    wire.fail(403, "AccessDenied", on="AbortMultipartUpload")
    with pytest.raises(Unauthorized, match="Allow s3:PutObject"):
        store.upload("object", source)


UP_AND_DOWN = """
    import resource, sys
    from pathlib import Path
    from embedpipe.backends.s3 import S3BlobStore

    url, bucket, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    store = S3BlobStore(bucket, endpoint_url=url, region="eu-central-1")
    store.put("small", bytes(1 << 20))
    store.download("small", folder / "small")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.upload("object", folder / "source")
    store.download("object", folder / "target")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_streams_hold_little_memory(http: Cloud, bucket: str, tmp_path: Path) -> None:
    size_bytes = 160 << 20
    with (tmp_path / "source").open("wb") as handle:
        handle.truncate(size_bytes)
    grown_mb = int(finish(start(UP_AND_DOWN, http.endpoint_url, bucket, tmp_path)))
    assert (tmp_path / "target").stat().st_size == size_bytes
    assert grown_mb < 80  # a part of 16 MB, and the SDK's copies of it


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Length": "9"}, b"torn"),
        ({"Content-Length": "4", "x-amz-checksum-crc32": crc32(b"data")}, b"dat4"),
    ],
    ids=["torn", "damaged"],
)
def test_what_does_not_come_whole_does_not_appear(
    store: S3BlobStore, wire: Wire, tmp_path: Path, headers: dict[str, str], body: bytes
) -> None:
    for call in (store.get, lambda key: store.download(key, tmp_path / "target")):
        wire.answer(lambda request: made_up(request, 200, {**headers, "ETag": '"e"'}, body))
        with pytest.raises(Unavailable, match="gave no whole answer"):
            call("object")
    assert list(tmp_path.iterdir()) == []


# --- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_reads_a_page_when_it_is_needed(store: S3BlobStore, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedpipe.backends.s3.LIST_PAGE_KEYS", 4)
    names = [f"k{number}" for number in range(10)]
    for name in names:
        store.put(name, b"")
    wire.calls.clear()
    listing = store.list("k", after="k1")
    assert wire.calls == []
    assert [next(listing).key for _ in range(4)] == names[2:6]
    assert len(wire.calls) == 1
    assert [info.key for info in listing] == names[6:]
    assert [params.get("StartAfter") for _, params in wire.calls] == ["k1", None]


def test_what_is_no_key_is_left_out(store: S3BlobStore, http: Cloud, bucket: str) -> None:
    for name in ("folder/", "a//b", "folder/object"):  # the console makes the first for an empty folder
        http.client("s3").put_object(Bucket=bucket, Key=name, Body=b"")
    assert keys(store) == ["folder/object"]


def test_a_prefix_is_a_store_of_its_own(http: Cloud, bucket: str, wire: Wire) -> None:
    whole = S3BlobStore(bucket, **http.where)
    ours = S3BlobStore(bucket, prefix="team/ours/", **http.where)
    for name in ("a", "team/ours-not/x", "team/other/a"):
        whole.put(name, b"theirs")
    for name in ("a", "b/c", "z"):
        ours.put(name, b"ours", if_none_match=True)
    assert (keys(ours), keys(ours, "b"), keys(ours, after="a")) == (["a", "b/c", "z"], ["b/c"], ["b/c", "z"])
    assert whole.get("team/ours/b/c").data == ours.get("b/c").data == b"ours"
    ours.delete("a")
    assert keys(whole) == ["a", "team/other/a", "team/ours-not/x", "team/ours/b/c", "team/ours/z"]
    for name in ("", "../a", "k" * 1_020):
        with pytest.raises(InvalidKey):
            ours.get(name)
    with pytest.raises(InvalidKey):
        S3BlobStore(bucket, prefix="team/../other", **http.where)


# --- what is not as it should be -------------------------------------------------------------------------------------


def every_method(store: S3BlobStore, folder: Path) -> dict[str, Callable[[], object]]:
    (folder / "source").write_bytes(b"data")
    return {
        "s3:GetObject": lambda: store.get("object"),
        "s3:PutObject": lambda: store.put("object", b"data", if_none_match=True),
        "s3:ListBucket": lambda: keys(store),
        "s3:DeleteObject": lambda: store.delete("object"),
        "s3:GetObject, to a file": lambda: store.download("object", folder / "target"),
        "s3:PutObject, from a file": lambda: store.upload("object", folder / "source"),
    }


def test_a_missing_bucket_is_no_empty_store(http: Cloud, tmp_path: Path) -> None:
    store = S3BlobStore("nobodys-bucket", **http.where)
    for call in every_method(store, tmp_path).values():
        with pytest.raises(
            ConfigError, match="There is no bucket 'nobodys-bucket' in eu-central-1: create it, or set objects"
        ):
            call()


def test_what_is_denied_names_the_permission(store: S3BlobStore, wire: Wire, bucket: str, tmp_path: Path) -> None:
    for permission, call in every_method(store, tmp_path).items():
        wire.fail(403, "AccessDenied")
        with pytest.raises(Unauthorized) as caught:
            call()
        resource = f"arn:aws:s3:::{bucket}" + ("" if permission == "s3:ListBucket" else "/*")
        assert f"Allow {permission.partition(',')[0]} on {resource}" in caught.value.hint


def test_a_wrong_region_names_the_right_one(store: S3BlobStore, wire: Wire) -> None:
    for code, status in (("AuthorizationHeaderMalformed", 400), ("IllegalLocationConstraintException", 400)):
        wire.fail(status, code, times=2, Region="us-west-2")
        with pytest.raises(ConfigError, match="It is in us-west-2: set objects.region"):
            store.put("object", b"data")
        wire.faults.clear()


def test_expired_credentials_are_said(store: S3BlobStore, wire: Wire, tmp_path: Path) -> None:
    for call in every_method(store, tmp_path).values():
        wire.fail(400, "ExpiredToken", times=2)
        with pytest.raises(Unauthorized, match="have expired"):
            call()
        wire.faults.clear()


def test_a_server_that_is_not_there_is_said(bucket: str) -> None:
    store = S3BlobStore(bucket, endpoint_url="http://127.0.0.1:9", region="eu-central-1", attempts=1)
    with pytest.raises(Throttled, match=r"can't be reached .*objects.endpoint_url"):
        store.put("object", b"data")
    with pytest.raises(Throttled):
        keys(store)


def test_a_server_that_does_not_answer_is_given_up(bucket: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = S3BlobStore(bucket, endpoint_url=url, region="eu-central-1", attempts=1, timeout_s=0.2)
        with pytest.raises(Unavailable, match="ReadTimeoutError"):
            store.get("object")


def test_something_else_than_s3_is_no_empty_store(store: S3BlobStore, wire: Wire) -> None:
    wire.answer(lambda request: made_up(request, 404, {}, b"<html><title>Not here</title></html>"))
    with pytest.raises(ConfigError, match="Is this the right server"):
        store.get("object")


def test_an_answer_without_what_was_asked_for_is_none(store: S3BlobStore, wire: Wire) -> None:
    for call in (lambda: store.put("object", b"data"), lambda: store.get("object"), lambda: keys(store)):
        wire.answer(lambda request: made_up(request, 200, {}, b"<html>Please sign in</html>"))
        with pytest.raises(Unavailable, match="gave no whole answer"):
            call()
    for _ in "12":  # what is no XML, the SDK asks for again
        wire.answer(lambda request: made_up(request, 200, {}, b"<ListBucketResult><Contents>"))
    with pytest.raises(Unavailable):
        keys(store)


def test_without_credentials_it_says_where_they_come_from(
    http: Cloud, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(Unauthorized, match="SDK's own chain"):
        S3BlobStore(bucket, **http.where).get("object")
    with pytest.raises(ConfigError, match="objects.profile"):
        S3BlobStore(bucket, profile="nobody", **http.where).get("object")


def test_settings_that_cannot_work_are_refused() -> None:
    for options in (
        {"bucket": ""},
        {"bucket": "b", "attempts": 0},
        {"bucket": "b", "endpoint_url": "localhost:9000"},
        {"bucket": "b", "endpoint_url": "http://me:secret@localhost"},
    ):
        with pytest.raises(ConfigError) as caught:
            S3BlobStore(**options)
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="objects.bucket is not set"):
        build(Config.load(flags={"objects.backend": "s3"}, env={}), clock=SystemClock())
    with pytest.raises(ConfigError, match="Check the settings under"):
        S3BlobStore("no bucket has spaces", region="eu-central-1").get("object")


def test_no_error_holds_a_key(store: S3BlobStore, wire: Wire) -> None:
    for code in ("SignatureDoesNotMatch", "InvalidAccessKeyId"):
        wire.fail(403, code, StringToSign="AWS4-HMAC", AWSAccessKeyId="AKIAIOSFODNN7EXAMPLE")
        with pytest.raises(Unauthorized) as caught:
            store.put("object", b"data")
        shown = f"{caught.value} {caught.value.context} {caught.value.__cause__}"
        assert "AKIA" not in shown
        assert "AWS4" not in shown


def test_it_is_named_in_one_word_and_closes_twice(http: Cloud, bucket: str) -> None:
    flags = {
        "objects.backend": "s3",
        "objects.bucket": bucket,
        "provider.backend": "memory",
        "vectors.backend": "memory",
    }
    where = {f"objects.{name}": value for name, value in http.where.items()}
    backends = build(Config.load(flags={**flags, **where}, env={}), clock=SystemClock())
    assert isinstance(backends.objects, S3BlobStore)
    backends.objects.put("object", b"data")
    backends.close()
    backends.close()
    assert backends.objects.get("object").data == b"data"


def test_a_listing_crosses_the_pages_of_the_service() -> None:
    """A real page is 1,000 keys; begun again in the middle of one, it goes on."""
    with in_process() as cloud:
        bucket = cloud.new_bucket()
        client = cloud.client("s3")
        wanted = [f"k/{number:05d}" for number in range(LIST_PAGE_KEYS + 3)]
        for key in wanted:
            client.put_object(Bucket=bucket, Key=key, Body=b"")
        with closing(S3BlobStore(bucket, session=cloud.session, **cloud.where)) as store:
            assert keys(store, "k/") == wanted
            assert keys(store, "k/", after=wanted[1]) == wanted[2:]
            assert keys(store, "k/", after=wanted[LIST_PAGE_KEYS - 1]) == wanted[LIST_PAGE_KEYS:]

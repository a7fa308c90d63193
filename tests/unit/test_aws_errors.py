"""The table of AWS's errors: every code has its class, and every message names the resource and a way out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import attrs
import botocore.exceptions
import botocore.session
import pytest

from embedpipe.backends.aws_errors import (
    BY_CODE,
    NO_ANSWER,
    NO_CREDENTIALS,
    NO_REGION,
    NOT_SENT,
    Answer,
    Call,
    Resource,
    error_of,
    no_answer,
)
from embedpipe.errors import (
    ConfigError,
    EmbedpipeError,
    InvalidKey,
    MisuseError,
    NotFound,
    PreconditionFailed,
    ServiceError,
    StorageFull,
    Throttled,
    Transient,
    Unauthorized,
    Unavailable,
    WriteConflict,
)

BUCKET = Resource(service="S3", kind="bucket", name="vectors", option="objects.bucket", region="eu-central-1")
READ = Call(what="Reading object 'a'", action="s3:GetObject", arn="arn:aws:s3:::vectors/*", resource=BUCKET)
WRITE = attrs.evolve(READ, what="Writing object 'a'", action="s3:PutObject")
TABLE_OPERATIONS = ("PutItem", "UpdateItem", "BatchGetItem", "Query")


def answered(code: str, status: int = 400, call: Call = READ, **fields: str) -> EmbedpipeError:
    return error_of(Answer(status=status, code=code, message="Words.", **fields), call)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("NoSuchKey", NotFound),
        ("NoSuchBucket", ConfigError),
        ("ResourceNotFoundException", ConfigError),
        ("PermanentRedirect", ConfigError),
        ("AccessDenied", Unauthorized),
        ("AccessDeniedException", Unauthorized),
        ("ExpiredToken", Unauthorized),
        ("ExpiredTokenException", Unauthorized),
        ("InvalidAccessKeyId", Unauthorized),
        ("RequestTimeTooSkewed", Unauthorized),
        ("KMS.DisabledException", Unauthorized),
        ("SlowDown", Throttled),
        ("ProvisionedThroughputExceededException", Throttled),
        ("PreconditionFailed", PreconditionFailed),
        ("ConditionalCheckFailedException", PreconditionFailed),
        ("ConditionalRequestConflict", WriteConflict),
        ("TransactionConflictException", WriteConflict),
        ("RequestTimeout", Unavailable),
        ("BadDigest", Unavailable),
        ("NoSuchUpload", Unavailable),
        ("KeyTooLongError", InvalidKey),
        ("InvalidObjectState", ServiceError),
        ("NotImplemented", ConfigError),
        ("XMinioStorageFull", StorageFull),
    ],
)
def test_a_code_has_its_class(code: str, error: type[EmbedpipeError]) -> None:
    assert type(answered(code)) is error


def test_every_error_names_what_was_asked_and_the_resource() -> None:
    for code in BY_CODE:
        for call in (READ, WRITE, attrs.evolve(WRITE, repeated=True)):
            found = answered(code, call=call)
            assert isinstance(found, ServiceError | MisuseError)
            assert all(part in found.message for part in (call.what, code, "'vectors'", "eu-central-1")), found
            if isinstance(found, MisuseError | Unauthorized) and not isinstance(found, InvalidKey):
                assert found.hint, code


def test_only_a_missing_object_is_not_found() -> None:
    # To a step NotFound is an object that nobody wrote: of a missing bucket it would make an empty store.
    # No step asks for an execution.
    for status in (400, 404, 500):
        found = {code for code in [*BY_CODE, "Unheard", "404", ""] if isinstance(answered(code, status), NotFound)}
        assert found == {"NoSuchKey", "ExecutionDoesNotExist"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, ConfigError),
        (400, ServiceError),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, ConfigError),
        (408, Unavailable),
        (409, WriteConflict),
        (412, PreconditionFailed),
        (422, ServiceError),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (200, Unavailable),
        (0, Unavailable),
    ],
)
def test_an_unknown_code_goes_by_its_status(status: int, error: type[EmbedpipeError]) -> None:
    assert type(answered("Unheard", status)) is error


def test_what_had_no_effect_may_not_be_said_of_a_repeated_write() -> None:
    repeated = attrs.evolve(WRITE, repeated=True)
    for code in BY_CODE:
        assert not isinstance(answered(code, call=repeated), Throttled | WriteConflict), code
    for kind in NOT_SENT:
        assert type(no_answer(kind, repeated)) is Unavailable
        assert type(no_answer(kind, WRITE)) is Throttled


def test_hints_name_the_permission_the_setting_and_the_region() -> None:
    assert "Allow s3:PutObject on arn:aws:s3:::vectors/*." in answered("AccessDenied", 403, WRITE).hint
    assert "s3:ListBucket" in answered("AccessDenied", 403, READ).hint
    assert (
        answered("NoSuchBucket").hint
        == "There is no bucket 'vectors' in eu-central-1: create it, or set objects.bucket."
    )
    assert answered("PermanentRedirect", 301, region="us-west-2").hint == "It is in us-west-2: set objects.region."
    assert answered("PermanentRedirect", 301).hint == "Set objects.region."
    expired = Answer(status=400, code="InvalidSignatureException", message="Signature expired: 2026 is now earlier")
    assert "clock" in error_of(expired, READ).hint


def test_messages_are_short_and_hold_no_key() -> None:
    answer = Answer(status=403, code="Odd", message="The key AKIAIOSFODNN7EXAMPLE is bad. " + "x" * 5_000)
    found = error_of(answer, READ)
    assert "AKIA" not in str(found)
    assert "[key] is bad" in str(found)
    assert len(str(found)) < 700


# --- against the SDK itself ------------------------------------------------------------------------------------------


def vendor_errors() -> Iterator[type]:
    for _, member in inspect.getmembers(botocore.exceptions, inspect.isclass):
        if issubclass(member, botocore.exceptions.BotoCoreError):
            yield member


def test_the_sdks_names_are_spelt_as_the_sdk_spells_them() -> None:
    known = {error.__name__ for error in vendor_errors()} | {"ResponseParserError"}
    assert known >= NOT_SENT | NO_ANSWER | NO_CREDENTIALS | NO_REGION | {"ProfileNotFound", "ParamValidationError"}


def test_every_transport_error_of_the_sdk_may_be_repeated() -> None:
    for error in vendor_errors():
        if issubclass(error, botocore.exceptions.HTTPClientError) and error.__name__ != "ConnectionError":
            assert isinstance(no_answer(error.__name__, READ), Transient), error


def test_every_error_that_the_table_may_answer_has_a_meaning() -> None:
    model = botocore.session.get_session().get_service_model("dynamodb")
    shapes = {shape.name for name in TABLE_OPERATIONS for shape in model.operation_model(name).error_shapes}
    assert shapes - BY_CODE.keys() == {"InternalServerError"}  # 500, and so known by its status

"""What went wrong at AWS, or at a server that speaks its protocols, in our errors: one table by error code.

The rule: an error names the resource and the permission or the fix, says whether the effect may have happened, and carries
no key. Knows what an answer says, not how a client asks: the SDK is not imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import attrs

from embedpipe.errors import (
    FREE_SPACE,
    ConfigError,
    EmbedpipeError,
    InvalidInput,
    InvalidKey,
    NotFound,
    PreconditionFailed,
    ServiceError,
    StorageFull,
    Throttled,
    Unauthorized,
    Unavailable,
    WriteConflict,
)
from embedpipe.limits import ITEM_BYTES_MAX
from embedpipe.model import provider_text, provider_word

__all__ = ["Answer", "Call", "Resource", "error_of", "no_answer"]


@attrs.frozen(kw_only=True)
class Resource:
    """The bucket or table that is asked, for messages: nothing secret."""

    service: str
    """Such as `S3`."""
    kind: str
    """`bucket` or `table`."""
    name: str
    option: str
    """The setting that names it, such as `objects.bucket`."""
    region: str = ""
    """Where it is looked for."""

    def __str__(self) -> str:
        where = f" in {self.region}" if self.region else ""
        return f"{self.kind} {self.name!a}{where}"

    @property
    def section(self) -> str:
        """Of the configuration."""
        return self.option.partition(".")[0]

    def setting(self, name: str) -> str:
        """What sets `name` beside `option`: a key of the same section, or another option of the command line.

        >>> Resource(service="Logs", kind="log group", name="g", option="--log-group").setting("region")
        '--region'
        """
        if self.option.startswith("--"):
            return f"--{name.replace('_', '-')}"
        return f"{self.section}.{name}"

    @property
    def region_setting(self) -> str:
        """What sets the region."""
        return self.setting("region")

    @property
    def endpoint_setting(self) -> str:
        """What sets the endpoint."""
        return self.setting("endpoint_url")


@attrs.frozen(kw_only=True)
class Call:
    """What is asked, for messages, and what is known of its effect."""

    what: str
    """Such as `Reading object 'a'`."""
    action: str
    """The permission that it needs, such as `s3:GetObject`."""
    arn: str
    """What the permission must cover."""
    resource: Resource
    repeated: bool = False
    """It writes, and an earlier try of the same call may have had its effect."""


@attrs.frozen(kw_only=True)
class Answer:
    """An error that a service answered."""

    status: int
    code: str = ""
    message: str = ""
    request_id: str = ""
    """The service's name of the call, for its support."""
    region: str = ""
    """Where the bucket is, if the service says so."""

    def said(self) -> str:
        """Status, code and message in a few words, without the ids of keys."""
        words = " ".join(word for word in (str(self.status), provider_word(self.code)) if word)
        message = _KEY_ID.sub("[key]", provider_text(self.message)).rstrip(".")
        return f"{words}: {message}" if message and message != self.code else words


_KEY_ID: Final = re.compile(r"\b(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{8,}")

_Make = Callable[[str, Answer, Call], EmbedpipeError]


# --- the makers ----------------------------------------------------------------------------------------------------


def _denied(text: str, answer: Answer, call: Call) -> EmbedpipeError:
    hint = f"Allow {call.action} on {call.arn}."
    if call.action == "s3:GetObject":
        # Without it a missing object cannot be told from a forbidden one.
        hint = (
            f"Allow {call.action} on {call.arn}, and s3:ListBucket on the bucket: else a missing object looks so, too."
        )
    return _unauthorized(text, answer, call, hint=hint)


def _unauthorized(text: str, answer: Answer, _: Call, *, hint: str) -> EmbedpipeError:
    return Unauthorized(text, hint=hint, reason=answer.code, request_id=answer.request_id)


def _misconfigured(text: str, _: Answer, call: Call, *, hint: str) -> EmbedpipeError:
    return ConfigError(text, hint=hint.format(call.resource, resource=call.resource), resource=call.resource.name)


def _another_region(text: str, answer: Answer, call: Call) -> EmbedpipeError:
    where = f"It is in {answer.region}: set" if answer.region else "Set"
    return ConfigError(text, hint=f"{where} {call.resource.region_setting}.", resource=call.resource.name)


def _not_found(text: str, _: Answer, call: Call) -> EmbedpipeError:
    return NotFound(text, resource=call.resource.name)


def _precondition_failed(text: str, _: Answer, call: Call) -> EmbedpipeError:
    return PreconditionFailed(text, resource=call.resource.name)


def _conflict(text: str, answer: Answer, call: Call) -> EmbedpipeError:
    if call.repeated:
        return _unavailable(text, answer, call)
    return WriteConflict(text, resource=call.resource.name)


def _throttled(text: str, answer: Answer, call: Call) -> EmbedpipeError:
    hint = f"{call.resource.service} takes fewer calls a second than were made; lower run.threads if it stays so."
    if call.repeated:  # an earlier try may have had its effect, which `Throttled` denies
        return Unavailable(text, hint=hint, request_id=answer.request_id)
    return Throttled(text, hint=hint, request_id=answer.request_id)


def _unavailable(text: str, answer: Answer, _: Call, *, hint: str = "") -> EmbedpipeError:
    return Unavailable(text, hint=hint, request_id=answer.request_id)


def _refused(text: str, answer: Answer, _: Call, *, hint: str = "") -> EmbedpipeError:
    return ServiceError(text, hint=hint, reason=answer.code, request_id=answer.request_id)


def _too_large(text: str, _: Answer, call: Call) -> EmbedpipeError:
    hint = f"An item holds at most {ITEM_BYTES_MAX} bytes; nothing was written."
    return InvalidInput(text, hint=hint, resource=call.resource.name)


def _by_words(usual: _Make, text: str, answer: Answer, call: Call) -> EmbedpipeError:
    """DynamoDB has one code for many things; its words tell them apart."""
    said = answer.message.lower()
    make = next((make for words, make in BY_WORDS.items() if words in said), usual)
    return make(text, answer, call)


# --- the tables ----------------------------------------------------------------------------------------------------

_EXPIRED: Final = partial(
    _unauthorized, hint="The credentials have expired: sign in again, or renew the session token."
)
_BAD_KEY: Final = partial(
    _unauthorized,
    hint="The service does not take these credentials: check AWS_PROFILE, the AWS_ variables and the role.",
)
_CLOCK: Final = partial(_unauthorized, hint="This machine's clock is wrong: set it, and run the same command again.")
_NO_BUCKET: Final = partial(_misconfigured, hint="There is no {0}: create it, or set {resource.option}.")
_NO_TABLE: Final = partial(
    _misconfigured,
    hint="There is no {0} for this account: create it, or set {resource.option} or {resource.region_setting}.",
)
_KEY_SCHEMA: Final = partial(
    _misconfigured,
    hint="The keys of {0} or of its index have other names than the layout says: set them under [layout].",
)
_NO_INDEX: Final = partial(
    _misconfigured, hint="Add the index to {0}, or set layout.index_name to the one that it has."
)
_BACKFILLING: Final = partial(_unavailable, hint="The index is being built; run the same command again later.")
_ENCRYPTION: Final = partial(
    _unauthorized, hint="Check the KMS key of the resource, and that its policy lets this role use it."
)

_DAMAGED: Final = partial(_unavailable, hint="The bytes changed on their way; the next try sends them again.")
_ARCHIVED: Final = partial(_refused, hint="Restore it, and keep these keys out of rules that archive.")

BY_WORDS: Final[Mapping[str, _Make]] = {
    "does not have the specified index": _NO_INDEX,
    "invalid index": _NO_INDEX,  # moto's words
    "backfilling": _BACKFILLING,
    "exceeded the maximum allowed size": _too_large,
    "does not match the schema": _KEY_SCHEMA,
    "missed key schema element": _KEY_SCHEMA,
    "missing the key": _KEY_SCHEMA,
    "type mismatch for": _KEY_SCHEMA,
}
"""What messages of DynamoDB say, in lower case."""

BY_CODE: Final[Mapping[str, _Make]] = {
    # Conditions.
    "PreconditionFailed": _precondition_failed,
    "ConditionalCheckFailedException": _precondition_failed,
    "ConditionalRequestConflict": _conflict,
    "OperationAborted": _conflict,
    "TransactionConflictException": _conflict,
    "ReplicatedWriteConflictException": _conflict,
    # What is not there. Only an object may be `NotFound`: to a step, that is a store without it.
    "NoSuchKey": _not_found,
    "NoSuchBucket": _NO_BUCKET,
    "InvalidBucketName": _NO_BUCKET,
    "ResourceNotFoundException": partial(_by_words, _NO_TABLE),
    "StateMachineDoesNotExist": _NO_TABLE,
    "InvalidArn": partial(_misconfigured, hint="That is no ARN of a state machine: set {resource.option}."),
    "ExecutionDoesNotExist": _not_found,
    "NoSuchUpload": partial(_unavailable, hint="The upload was ended from outside; it begins anew."),
    "KeyTooLongError": lambda text, _, call: InvalidKey(text, resource=call.resource.name),
    "ValidationException": partial(_by_words, _refused),
    "ItemCollectionSizeLimitExceededException": _refused,
    # Where.
    "PermanentRedirect": _another_region,
    "TemporaryRedirect": partial(_unavailable, hint="A new bucket is not known everywhere yet; run again in a while."),
    "AuthorizationHeaderMalformed": _another_region,
    "IllegalLocationConstraintException": _another_region,
    # Who.
    "AccessDenied": _denied,
    "AccessDeniedException": _denied,
    "AllAccessDisabled": _denied,
    "Forbidden": _denied,
    "UnauthorizedOperation": _denied,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidAccessKeyId": _BAD_KEY,
    "InvalidClientTokenId": _BAD_KEY,
    "InvalidSignatureException": _BAD_KEY,
    "InvalidToken": _BAD_KEY,
    "IncompleteSignatureException": _BAD_KEY,
    "MissingAuthenticationToken": _BAD_KEY,
    "MissingAuthenticationTokenException": _BAD_KEY,
    "SignatureDoesNotMatch": _BAD_KEY,
    "UnrecognizedClientException": _BAD_KEY,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "KMS.DisabledException": _ENCRYPTION,
    "KMS.NotFoundException": _ENCRYPTION,
    "KMS.KMSInvalidStateException": _ENCRYPTION,
    # Load.
    "SlowDown": _throttled,
    "Throttling": _throttled,
    "ThrottlingException": _throttled,
    "ThrottledException": _throttled,
    "TooManyRequestsException": _throttled,
    "RequestLimitExceeded": _throttled,
    "RequestThrottled": _throttled,
    "RequestThrottledException": _throttled,
    "ProvisionedThroughputExceededException": _throttled,
    "BandwidthLimitExceeded": _throttled,
    # The transfer, and the rest.
    "RequestTimeout": _unavailable,
    "BadDigest": _DAMAGED,
    "XAmzContentChecksumMismatch": _DAMAGED,
    "InvalidObjectState": _ARCHIVED,
    "NotImplemented": partial(
        _misconfigured, hint="This server lacks what embedpipe needs, perhaps conditional writes."
    ),
    "XMinioStorageFull": lambda text, _, call: StorageFull(text, hint=FREE_SPACE, resource=call.resource.name),
}
"""By the service's own code."""

BY_STATUS: Final[Mapping[int, _Make]] = {
    301: _another_region,
    401: _BAD_KEY,
    403: _denied,
    404: partial(_misconfigured, hint="Is this the right server? Check {resource.endpoint_setting}."),
    408: _unavailable,
    409: _conflict,
    412: _precondition_failed,
    429: _throttled,
}
"""For codes that are not in the table. Any other status below 500 is a definite no, and the rest no answer at all."""


def error_of(answer: Answer, call: Call) -> EmbedpipeError:
    """The error that an answer means."""
    usual = _refused if 400 <= answer.status < 500 else _unavailable
    make = BY_CODE.get(answer.code) or BY_STATUS.get(answer.status, usual)
    if "signature expired" in answer.message.lower() or "signature not yet current" in answer.message.lower():
        make = _CLOCK
    resource = call.resource
    return make(f"{call.what}: {resource.service} answered {answer.said()} ({resource}).", answer, call)


# --- errors without an answer --------------------------------------------------------------------------------------

NOT_SENT: Final = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"})
"""The SDK's errors that come before a byte of the request is sent."""
NO_CREDENTIALS: Final = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "NoAuthTokenError",
        "TokenRetrievalError",
        "UnknownTokenProviderError",
        "RefreshWithMFAUnsupportedError",
        "MetadataRetrievalError",
        "InvalidIMDSEndpointError",
        "SSOError",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "LoginError",
        "LoginRefreshRequired",
        "LoginTokenLoadError",
        "LoginInsufficientPermissions",
        "LoginAuthorizationCodeError",
    }
)
NO_REGION: Final = frozenset({"NoRegionError", "UnknownRegionError", "InvalidRegionError", "UnknownEndpointError"})
NO_ANSWER: Final = frozenset(
    {
        "HTTPClientError",
        "ConnectionClosedError",
        "ReadTimeoutError",
        "ResponseStreamingError",
        "IncompleteReadError",
        "FlexibleChecksumError",
        "ChecksumError",
        "ResponseParserError",
    }
)


def no_answer(kind: str, call: Call, said: str = "") -> EmbedpipeError:
    """The error where nothing came back. `kind` is the SDK's name for it; `said` its words where they hold no secret."""
    resource, detail = call.resource, said and f": {said}"
    if kind in NO_CREDENTIALS:
        hint = "Sign in, or set AWS_PROFILE, the AWS_ variables or a role: they come from the SDK's own chain."
        return Unauthorized(f"{call.what}: there are no credentials that work for {resource} ({kind}).", hint=hint)
    if kind in NO_REGION:
        hint = f"Set {resource.region_setting}, or AWS_DEFAULT_REGION."
        return ConfigError(f"{call.what}: no region, or an unknown one, is set for {resource}.", hint=hint)
    if kind == "ProfileNotFound":
        hint = f"Check {resource.setting('profile')} and AWS_PROFILE."
        return ConfigError(f"{call.what}: the profile for {resource} is not in the AWS configuration.", hint=hint)
    if kind in NOT_SENT:
        return _not_sent(kind, call)
    if kind in NO_ANSWER:
        return Unavailable(f"{call.what}: {resource.service} gave no whole answer ({kind}{detail}, {resource}).")
    hint = f"Check the settings under [{resource.section}]."
    return ConfigError(f"{call.what}: the AWS SDK refused ({kind}{detail}, {resource}).", hint=hint)


def _not_sent(kind: str, call: Call) -> EmbedpipeError:
    resource = call.resource
    hint = f"Check the network, {resource.region_setting} and {resource.endpoint_setting}."
    text = f"{call.what}: {resource.service} can't be reached ({kind}, {resource})."
    return Unavailable(text, hint=hint) if call.repeated else Throttled(text, hint=hint)

"""The provider's side of the batch file format: reading request lines as a provider does, and writing answer lines.

Shared by the providers that live here (`memory.provider`, `local_model`), so both refuse the same inputs with the same codes
and spell answers alike. It knows nothing of how an answer is computed or stored.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import msgspec

from embedpipe.errors import RefusedRequest
from embedpipe.limits import (
    METADATA_KEY_CHARS_MAX,
    METADATA_PAIRS_MAX,
    METADATA_VALUE_CHARS_MAX,
    Limits,
)
from embedpipe.model import ProviderIssue

if TYPE_CHECKING:
    from embedpipe.ports import Vectors

ENDPOINT: Final = "/v1/embeddings"
ISSUES_MAX: Final = 100
"""Issues that one failed batch names."""


class Body(msgspec.Struct):
    """What one request asks for."""

    model: str
    input: str | list[str]
    encoding_format: str = "float"
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        """The inputs; the answer has one vector each, by `index`."""
        return [self.input] if isinstance(self.input, str) else self.input


class Request(msgspec.Struct):
    """One line of an input file."""

    custom_id: str
    method: str
    url: str
    body: Body


@attrs.frozen
class ItemError:
    """Why one request has no vectors. `status_code` None: it was never answered."""

    status_code: int | None
    code: str
    message: str = ""


EXPIRED: Final = ItemError(None, "batch_expired", "Not executed before the completion window expired.")
CANCELLED: Final = ItemError(None, "batch_cancelled", "Not executed: the batch was cancelled.")
TIMEOUT: Final = ItemError(None, "request_timeout", "The request timed out.")

_decode_request: Final = msgspec.json.Decoder(Request).decode
_encode: Final = msgspec.json.Encoder().encode


def read_request(line: bytes) -> Request:
    """One line of an input file that has passed `issues`."""
    return _decode_request(line)


def _refusal(line: bytes, seen: set[str]) -> tuple[str, str] | None:
    """Code and message of what is wrong with a line; its `custom_id` joins `seen`."""
    try:
        request = _decode_request(line)
    except msgspec.ValidationError as error:
        return "invalid_request", f"This line is not a request: {error}"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return "invalid_json_line", f"This line is not JSON: {error}"
    faults = (
        (request.url != ENDPOINT, "mismatched_endpoint", f"The url is not {ENDPOINT}."),
        (request.method != "POST", "invalid_method", "The method is not POST."),
        (not request.custom_id, "missing_required_parameter", "The custom_id is empty."),
        (request.custom_id in seen, "duplicate_custom_id", "The custom_id of this request came before."),
        (
            request.body.encoding_format not in ("float", "base64"),
            "invalid_request",
            "encoding_format is neither float nor base64.",
        ),
    )
    seen.add(request.custom_id)
    return next(((code, message) for wrong, code, message in faults if wrong), None)


def issues(lines: Iterable[bytes], size_bytes: int, limits: Limits) -> tuple[tuple[ProviderIssue, ...], int]:
    """What a provider finds wrong with an input file (up to 100 issues), and how many lines it has.

    >>> issues([b'{"custom_id":'], 13, Limits())[0][0].code
    'invalid_json_line'
    """
    found: list[ProviderIssue] = []
    seen: set[str] = set()
    count = 0
    for count, line in enumerate(lines, start=1):
        refusal = _refusal(line, seen) if len(found) < ISSUES_MAX else None
        if refusal:
            found.append(ProviderIssue(code=refusal[0], message=refusal[1], line=count))
    if size_bytes > limits.file_bytes:
        found.append(ProviderIssue(code="file_too_large", message=f"The file has {size_bytes} bytes."))
    if count > limits.requests_per_batch:
        found.append(ProviderIssue(code="too_many_requests", message=f"The file has {count} requests."))
    if count == 0:
        found.append(ProviderIssue(code="empty_file", message="The input file is empty."))
    return tuple(found), count


def split_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that comes in pieces, without newlines; a last line without one counts.

    >>> list(split_lines([b"a\\nb", b"c\\n", b"d"]))
    [b'a', b'bc', b'd']
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest


def check_metadata(metadata: Mapping[str, str]) -> None:
    """`RefusedRequest` where a batch's metadata is larger than a provider takes."""
    fits = len(metadata) <= METADATA_PAIRS_MAX and all(
        len(name) <= METADATA_KEY_CHARS_MAX and len(value) <= METADATA_VALUE_CHARS_MAX
        for name, value in metadata.items()
    )
    if not fits:
        raise RefusedRequest(
            f"Metadata of {len(metadata)} pairs is refused.",
            reason="invalid_metadata",
            hint=f"At most {METADATA_PAIRS_MAX} pairs of {METADATA_KEY_CHARS_MAX} and {METADATA_VALUE_CHARS_MAX} characters.",
        )


def answer_line(request: Request, vectors: Vectors, *, line_id: str, tokens: int) -> bytes:
    """One output line with its newline. `vectors`: shape (inputs, dimensions), float32."""
    embeddings: list[str] | list[list[float]]
    if request.body.encoding_format == "base64":
        embeddings = [b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    else:
        embeddings = [[float(number) for number in vector] for vector in vectors]
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(embeddings)
        ],
        "model": request.body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    response = {"status_code": 200, "request_id": line_id, "body": body}
    return _encode({"id": line_id, "custom_id": request.custom_id, "response": response, "error": None}) + b"\n"


def error_line(custom_id: str, error: ItemError, *, line_id: str) -> bytes:
    """One line of an error file with its newline: an HTTP error has a response, a request never answered has none."""
    if error.status_code is None:
        said = {"code": error.code, "message": error.message}
        return _encode({"id": line_id, "custom_id": custom_id, "response": None, "error": said}) + b"\n"
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    body = {"error": {"message": error.message, "type": kind, "param": None, "code": error.code}}
    response = {"status_code": error.status_code, "request_id": line_id, "body": body}
    return _encode({"id": line_id, "custom_id": custom_id, "response": response, "error": None}) + b"\n"

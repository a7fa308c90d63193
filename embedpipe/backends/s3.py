"""An object store in an S3 bucket, or in one of a server that speaks S3 and has its conditional writes.

The rule: one call of the port is one object written by one request, or by the parts and the completion of one multipart
upload, always of parts of one size, so that an etag depends on nothing but the bytes. A condition is decided by S3.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from embedpipe.backends.aws_client import ATTEMPTS, Connection
from embedpipe.backends.aws_errors import Call, Resource
from embedpipe.backends.blob_rules import (
    PIECE_BYTES,
    check_key,
    local_errors,
    no_object,
    precondition_failed,
    whole_file,
)
from embedpipe.errors import InvalidInput, InvalidKey, NotFound, PreconditionFailed, ServiceError
from embedpipe.limits import LIST_PAGE_KEYS
from embedpipe.model import Blob, BlobInfo

if TYPE_CHECKING:
    from embedpipe.ports import BlobStore

__all__ = ["PART_BYTES", "S3BlobStore"]

PART_BYTES: Final = 16 << 20
"""[ours] What goes up in one request; larger objects go up in parts of this size, one held at a time."""
PARTS_MAX: Final = 10_000  # [aws] of one multipart upload

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""XML, in which S3 answers, cannot say them all."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

_Parts = list[dict[str, Any]]


class S3BlobStore:
    """Objects of `bucket` whose keys begin with `prefix`, which the port's keys do not show.

    `region`, `profile` and `endpoint_url` are the SDK's own choice where they are empty. A call that may be repeated is
    tried `attempts` times; one without a byte for `timeout_s` is given up.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        region: str = "",
        endpoint_url: str = "",
        profile: str = "",
        attempts: int = ATTEMPTS,
        timeout_s: float = 60.0,
        session: Any = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self._resource = Resource(service="S3", kind="bucket", name=bucket, option="objects.bucket", region=region)
        self._connection = Connection(
            self._resource,
            region=region,
            endpoint_url=endpoint_url,
            profile=profile,
            attempts=attempts,
            timeout_s=timeout_s,
            session=session,
            settings={
                "request_checksum_calculation": "when_supported",
                "response_checksum_validation": "when_supported",
                # A server of one's own seldom has a host name for each bucket.
                "s3": {"addressing_style": "path" if endpoint_url else "auto"},
            },
        )

    @property
    def bucket(self) -> str:
        """The name that references carry."""
        return self._bucket

    def get(self, key: str) -> Blob:
        """The whole object."""
        named, call = self._named(key), self._call("Reading", key, "s3:GetObject")
        with self._known(key), self._connection.asking(call) as s3:
            answer = s3.get_object(**named)
            return Blob(data=answer["Body"].read(), etag=answer["ETag"])

    def put(self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None) -> str:
        """Write and return the etag."""
        return self._write(key, io.BytesIO(data), _conditions(if_none_match=if_none_match, if_match=if_match))

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[BlobInfo]:
        """Entries by key; each page is one request. Keys that the port has no word for, as `folder/`, are left out."""
        if _SURROGATE.search(prefix):
            return  # no key begins so, and no request can say it
        start = _SURROGATE.split(after or "", maxsplit=1)[0]
        asked = {"StartAfter": self._prefix + start} if start else {}
        more = True
        while more:
            entries, token = self._page(self._prefix + prefix, asked)
            for entry in entries:
                key = entry["Key"].removeprefix(self._prefix)
                if _is_key(key) and (after is None or _bytes(key) > _bytes(after)):
                    modified_at = entry["LastModified"].astimezone(UTC)
                    yield BlobInfo(key=key, size_bytes=entry["Size"], modified_at=modified_at)
            # A token, since a page may be empty and not the last: S3 counts what was deleted, too.
            more, asked = bool(token), {"ContinuationToken": token}

    def delete(self, key: str) -> None:
        """Remove; quiet where nothing is."""
        named, call = self._named(key), self._call("Deleting", key, "s3:DeleteObject")
        with suppress(NotFound), self._connection.asking(call, writes=True) as s3:  # S3 is quiet, others are not
            s3.delete_object(**named)

    def upload(self, key: str, path: Path, *, if_none_match: bool = False) -> str:
        """Write a file's bytes, a part at a time."""
        self._named(key)
        with local_errors(f"Reading {path}"), path.open("rb") as source:
            return self._write(key, source, _conditions(if_none_match=if_none_match))

    def download(self, key: str, path: Path) -> None:
        """Read into a new file, a megabyte at a time. The SDK compares the checksum that S3 keeps."""
        named, call = self._named(key), self._call("Reading", key, "s3:GetObject")
        with self._known(key), self._connection.asking(call) as s3:
            body = s3.get_object(**named)["Body"]
        with closing(body), whole_file(path) as target:
            for piece in self._pieces(body, call):
                target.write(piece)

    def close(self) -> None:
        """Close the connections; a later call makes new ones."""
        self._connection.close()

    # --- names ----------------------------------------------------------------------------------------------------

    def _named(self, key: str) -> dict[str, str]:
        """The object that a request means. `InvalidKey`."""
        check_key(key)
        if _CONTROL.search(key):
            raise InvalidKey(f"Object key {ascii(key)[:80]} has a control character.")
        if self._prefix:
            check_key(self._prefix + key)
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _call(self, doing: str, key: str, action: str) -> Call:
        arn = f"arn:aws:s3:::{self._bucket}/{self._prefix}*"
        return Call(what=f"{doing} object {ascii(key)[:200]}", action=action, arn=arn, resource=self._resource)

    @contextmanager
    def _known(self, key: str) -> Iterator[None]:
        try:
            yield
        except NotFound:
            raise no_object(key, self._bucket) from None

    # --- reading --------------------------------------------------------------------------------------------------

    def _pieces(self, body: Any, call: Call) -> Iterator[bytes]:
        with self._connection.asking(call):
            while piece := body.read(PIECE_BYTES):
                yield piece

    def _page(self, prefix: str, asked: Mapping[str, str]) -> tuple[Any, str]:
        """Entries, and the token of the next page, which is empty where this is the last."""
        call = Call(
            what=f"Listing objects {ascii(prefix)[:200]}",
            action="s3:ListBucket",
            arn=f"arn:aws:s3:::{self._bucket}",
            resource=self._resource,
        )
        with self._connection.asking(call) as s3:
            page = s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=LIST_PAGE_KEYS, **asked)
            return page.get("Contents", ()), page["NextContinuationToken"] if page["IsTruncated"] else ""

    # --- writing --------------------------------------------------------------------------------------------------

    def _write(self, key: str, source: BinaryIO, conditions: Mapping[str, str]) -> str:
        named, call = self._named(key), self._call("Writing", key, "s3:PutObject")
        try:
            first = _part(source)
            if len(first) < PART_BYTES:
                return self._put(named, first, conditions, call)
            return self._put_in_parts(named, first, source, conditions, call)
        except (PreconditionFailed, NotFound):  # 404 is the answer where `if_match` meets nothing
            found = "exists" if "IfNoneMatch" in conditions else "does not exist or has changed"
            raise precondition_failed(key, self._bucket, found) from None

    def _put(self, named: Mapping[str, str], data: bytes, conditions: Mapping[str, str], call: Call) -> str:
        with self._connection.asking(call, once=bool(conditions), writes=True) as s3:
            answer = s3.put_object(**named, Body=data, ChecksumCRC32=_crc32(data), **conditions)
            return str(answer["ETag"])

    def _put_in_parts(
        self, named: Mapping[str, str], first: bytes, source: BinaryIO, conditions: Mapping[str, str], call: Call
    ) -> str:
        with self._connection.asking(call, writes=True) as s3:
            made = s3.create_multipart_upload(**named, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
        upload = {**named, "UploadId": made["UploadId"]}
        try:
            parts, checksum, size_bytes = self._send_parts(upload, first, source, call)
            with self._connection.asking(call, once=bool(conditions), writes=True) as s3:
                answer = s3.complete_multipart_upload(
                    **upload,
                    MultipartUpload={"Parts": parts},
                    ChecksumCRC32=checksum,
                    ChecksumType="FULL_OBJECT",
                    MpuObjectSize=size_bytes,
                    **conditions,
                )
                return str(answer["ETag"])
        except BaseException:
            # Parts cost money until they are removed. Where even this fails, a lifecycle rule does it; see the docs.
            with suppress(ServiceError), self._connection.asking(call) as s3:
                s3.abort_multipart_upload(**upload)
            raise

    def _send_parts(
        self, upload: Mapping[str, str], part: bytes, source: BinaryIO, call: Call
    ) -> tuple[_Parts, str, int]:
        """Sends them all: what completes the upload, the checksum of the whole object, and its size."""
        parts: _Parts = []
        crc32 = size_bytes = 0
        while part:
            number = len(parts) + 1
            if number > PARTS_MAX:
                raise InvalidInput(
                    f"{call.what}: more than {PARTS_MAX * PART_BYTES >> 30} GiB.", hint="Split the file."
                )
            with self._connection.asking(call, writes=True) as s3:
                answer = s3.upload_part(**upload, PartNumber=number, Body=part, ChecksumCRC32=_crc32(part))
            parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": _crc32(part)})
            crc32, size_bytes = zlib.crc32(part, crc32), size_bytes + len(part)
            part = b""  # two at a time would be held else
            part = _part(source)
        return parts, _base64(crc32), size_bytes


def _part(source: BinaryIO) -> bytes:
    return source.read(PART_BYTES)


def _conditions(*, if_none_match: bool = False, if_match: str | None = None) -> dict[str, str]:
    found = {"IfNoneMatch": "*"} if if_none_match else {}
    return found if if_match is None else {**found, "IfMatch": if_match}


def _crc32(data: bytes) -> str:
    return _base64(zlib.crc32(data))


def _base64(crc32: int) -> str:
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


def _bytes(key: str) -> bytes:
    return key.encode(errors="surrogatepass")


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKey:
        return False
    return True


if TYPE_CHECKING:
    _: type[BlobStore] = S3BlobStore

"""What each function may do, as one table; the roles of the template are made of it.

A test records every call of the suite and fails on one outside its function's row, and on a row that nothing uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

READ: Final = ("s3:GetObject", "s3:ListBucket")
"""Without the right to list, S3 answers 403 where an object is missing, and not 404."""
WRITE: Final = (*READ, "s3:PutObject", "s3:AbortMultipartUpload")
"""Every list of batches may grow so long that it goes up in parts."""
ROWS: Final = ("dynamodb:BatchGetItem", "dynamodb:Query")

FUNCTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "submit": (*WRITE, *ROWS, "dynamodb:PutItem", "dynamodb:UpdateItem"),
    "create_pending": (*READ, *ROWS, "dynamodb:PutItem", "dynamodb:UpdateItem"),
    "list_pending": (*WRITE, *ROWS),
    "poll": (*WRITE, "dynamodb:BatchGetItem", "dynamodb:UpdateItem"),
    "normalize": (*WRITE,),
    "split": (*WRITE,),
    "process_chunk": (*WRITE,),
    "final_merge": (*WRITE, *ROWS, "s3:DeleteObject"),
    "mark_complete": (*WRITE, *ROWS, "dynamodb:PutItem", "dynamodb:UpdateItem"),
}
"""Step -> actions on the bucket, the table and its index."""

OPERATIONS: Final[Mapping[str, str]] = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
}
"""API call -> the permission it needs, where the two have different names."""


def action_of(service: str, operation: str) -> str:
    """The permission that an API call needs.

    >>> action_of("s3", "UploadPart"), action_of("dynamodb", "Query")
    ('s3:PutObject', 'dynamodb:Query')
    """
    call = f"{service}:{operation}"
    return OPERATIONS.get(call, call)

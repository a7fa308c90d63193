"""What an audit may do in AWS, as one table; the policy is made of it.

A test records every call that audits make, and fails on one outside the table and on an entry that nothing uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from embedpipe.aws.permissions import action_of
from embedpipe.layout import SEED, Layout
from verify.audit.findings import WrongQuestion
from verify.sources.aws import region_of

__all__ = ["ACTIONS", "needed_for", "policy"]

ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "bucket": ("s3:ListBucket",),
    "objects": ("s3:GetObject",),
    "table": ("dynamodb:BatchGetItem",),
    "index": ("dynamodb:Query",),
    "machines": ("states:DescribeStateMachine", "states:ListExecutions"),
    "executions": ("states:DescribeExecution", "states:GetExecutionHistory"),
    "map_runs": ("states:DescribeMapRun",),
    "log_groups": ("logs:FilterLogEvents",),
    "all_log_groups": ("logs:DescribeLogGroups",),
}
"""What is read -> the actions that reading it takes. Nothing in it writes."""

_NAME: Final = re.compile(r"[A-Za-z0-9._/#-]+")


def needed_for(service: str, operation: str) -> str:
    """The permission that an API call of the SDK needs.

    >>> needed_for("stepfunctions", "ListExecutions"), needed_for("s3", "ListObjectsV2")
    ('states:ListExecutions', 's3:ListBucket')
    """
    return action_of("states" if service == "stepfunctions" else service, operation)


def policy(
    *,
    bucket: str | None = None,
    table: str | None = None,
    machines: Sequence[str] = (),
    log_groups: Sequence[str] = (),
    region: str | None = None,
    layout: Layout = SEED,
) -> dict[str, Any]:
    """An IAM policy that allows an audit of these resources to read, and nothing else; what is not named is `*`.

    Where nothing is named at all, it allows every source; else only those that are named. `WrongQuestion`.
    """
    for name in (bucket, table, *log_groups):
        if name is not None and not _NAME.fullmatch(name):
            raise WrongQuestion(f"{name[:60]!a} is no name of a bucket, table or log group.")
    for arn in machines:
        if ":stateMachine:" not in arn or not region_of(arn):
            raise WrongQuestion(f"{arn[:100]!a} is no ARN of a state machine.")
    anything = not (bucket or table or machines or log_groups)
    found = dict(_resources(bucket, table, machines, log_groups, region or "*", layout, anything=anything))
    statements = [
        {"Sid": _sid(name), "Effect": "Allow", "Action": list(ACTIONS[name]), "Resource": resources}
        for name, resources in found.items()
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _resources(
    bucket: str | None,
    table: str | None,
    machines: Sequence[str],
    log_groups: Sequence[str],
    region: str,
    layout: Layout,
    *,
    anything: bool,
) -> Iterable[tuple[str, list[str]]]:
    if bucket or anything:
        yield "bucket", [f"arn:aws:s3:::{bucket or '*'}"]
        yield "objects", [f"arn:aws:s3:::{bucket or '*'}/*"]
    if table or anything:
        arn = f"arn:aws:dynamodb:{region}:*:table/{table or '*'}"
        yield "table", [arn]
        yield "index", [f"{arn}/index/{layout.index_name}"]
    if machines or anything:
        named = list(machines) or [f"arn:aws:states:{region}:*:stateMachine:*"]
        yield "machines", named
        yield "executions", [_of_machine(arn, "execution") + ":*" for arn in named]
        yield "map_runs", [_of_machine(arn, "mapRun") + "/*" for arn in named]
    if log_groups or anything:
        yield "log_groups", [f"arn:aws:logs:{region}:*:log-group:{name}:*" for name in log_groups or ["*"]]
        yield "all_log_groups", ["*"]  # the service has no narrower resource for it


def _of_machine(arn: str, what: str) -> str:
    return arn.replace(":stateMachine:", f":{what}:", 1)


def _sid(name: str) -> str:
    return "Read" + "".join(word.capitalize() for word in name.split("_"))

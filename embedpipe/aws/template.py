"""The deployment as one SAM template: functions, table, bucket, state machines, schedule, logs and alarms.

Pure: a kind and a few choices in, a JSON document out. Names of resources come from the flow, permissions from their table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from embedpipe import flow
from embedpipe.aws import alarms, settings, state_machine
from embedpipe.aws.permissions import FUNCTIONS
from embedpipe.aws.settings import Choices
from embedpipe.aws.state_machine import function_of, placeholders
from embedpipe.errors import ConfigError
from embedpipe.flow import Step
from embedpipe.layout import Layout
from embedpipe.model import Kind

Document = dict[str, Any]

MEMORY_MB: Final[Mapping[str, int]] = {"final_merge": 3_008, "process_chunk": 1_769, "poll": 1_024}
"""[ours] By step; the others hold only lists of names."""
MEMORY_DEFAULT_MB: Final = 512
TIMEOUT_S: Final = 900  # [aws] the longest a function may run
LOG_DAYS: Final = 90  # as long as Step Functions keeps a history
SCRATCH_MB: Final[Mapping[str, int]] = {"final_merge": 10_240, "process_chunk": 10_240, "poll": 4_096, "submit": 10_240}
"""Temporary files."""
SCRATCH_DEFAULT_MB: Final = 512
ASK_THE_PROVIDER: Final = ("submit", "create_pending", "poll")
"""Steps that need its key."""
USUAL: Final = Choices()
EXPIRING: Final = f"{state_machine.OUTPUTS}/"
EXPIRING_DAYS: Final = 14
"""What is below that prefix is removed so long after it was written."""
TEMPORARY: Final = ("intermediate", "packed")
"""Fields of the layout whose objects nobody reads once their execution has ended."""


def template(kind: Kind, chosen: Choices = USUAL) -> Document:
    """The whole template, in JSON's plain values."""
    _check_kept(kind, chosen.layout)
    steps = {step.name: step for step in (*flow.SUBMIT, *flow.INGEST)}
    resources: Document = {"Bucket": _bucket(), "Table": _table(chosen.layout)}
    for step in steps.values():
        with_key = step.name in ASK_THE_PROVIDER or (step.name == "mark_complete" and chosen.deletes_files)
        resources |= _function(
            step, kind, index=chosen.layout.index_name, key_variable=chosen.key_variable if with_key else ""
        )
    submit, ingest = machines(kind, chosen)
    event = {"Schedule": {"Type": "ScheduleV2", "Properties": {"ScheduleExpression": chosen.schedule}}}
    resources |= _machine("Submit", submit, flow.SUBMIT, {}, chosen.layout)
    resources |= _machine("Ingest", ingest, flow.INGEST, event, chosen.layout)
    resources |= alarms.alarms(kind)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"embedpipe: batch embedding of {kind.name} into {kind.collection}",
        "Parameters": _parameters(chosen),
        "Conditions": alarms.CONDITIONS,
        "Globals": {"Function": _globals(kind)},
        "Resources": resources,
        "Outputs": {
            "BucketName": {"Value": {"Ref": "Bucket"}},
            "TableName": {"Value": {"Ref": "Table"}},
            "SubmitMachine": {"Value": {"Ref": "SubmitMachine"}},
            "IngestMachine": {"Value": {"Ref": "IngestMachine"}},
        },
    }


def _check_kept(kind: Kind, layout: Layout) -> None:
    """Refuse a kind or a layout that would put what is to stay where the bucket removes what is old. `ConfigError`."""
    for name, pattern in layout.patterns().items():
        key = pattern.replace("{database}", kind.database).replace("{collection}", kind.collection)
        if name not in TEMPORARY and key.startswith(EXPIRING):
            raise ConfigError(
                f"Layout field '{name}' of kind '{kind.name}' gives keys below {EXPIRING}, which is emptied after "
                f"{EXPIRING_DAYS} days: {key!a}",
                hint=f"Choose another kind, or another layout.{name}.",
            )


def machines(kind: Kind, chosen: Choices = USUAL) -> tuple[Document, Document]:
    """The definitions of submit and of ingest."""
    given: Any = {"layout": chosen.layout, "policy": chosen.retry}
    return state_machine.submit(kind, **given), state_machine.ingest(kind, **given)


def files(kind: Kind, chosen: Choices = USUAL) -> dict[str, Document | str]:
    """Everything a deployment is built from: file name -> JSON document or text."""
    submit, ingest = machines(kind, chosen)
    return {
        "template.json": template(kind, chosen),
        "submit.asl.json": submit,
        "ingest.asl.json": ingest,
        "Dockerfile": DOCKERFILE,
        settings.NAME: settings.text(chosen.changed),
    }


# --- parts ---------------------------------------------------------------------------------------------------------


def _parameters(chosen: Choices) -> Document:
    return {
        "Model": {"Type": "String", "Default": chosen.model},
        "Dimensions": {"Type": "Number", "Default": chosen.dimensions},
        "ProviderBaseUrl": {"Type": "String", "Default": chosen.base_url},
        "ProviderKeySecretArn": {
            "Type": "String",
            "Description": "Secret in Secrets Manager whose text is the provider's API key",
        },
        "ProviderKeyVersion": {
            "Type": "String",
            "Default": "",
            "Description": "VersionId of that secret; a new one brings a changed key into the functions. Empty: the current",
        },
        **alarms.PARAMETERS,
    }


def _globals(kind: Kind) -> Document:
    return {
        "Timeout": TIMEOUT_S,
        "Architectures": ["x86_64"],
        "LoggingConfig": {"LogFormat": "JSON"},
        "Environment": {
            "Variables": {
                "EMBEDPIPE_CONFIG": settings.PATH,
                "EMBEDPIPE_KIND": kind.name,
                "EMBEDPIPE_ROOT": "/tmp/embedpipe",  # the one place where a function may write
                "EMBEDPIPE_OBJECTS__BACKEND": "s3",
                "EMBEDPIPE_OBJECTS__BUCKET": {"Ref": "Bucket"},
                "EMBEDPIPE_TABLE__BACKEND": "dynamodb",
                "EMBEDPIPE_TABLE__NAME": {"Ref": "Table"},
                "EMBEDPIPE_PROVIDER__BACKEND": "openai",
                "EMBEDPIPE_PROVIDER__BASE_URL": {"Ref": "ProviderBaseUrl"},
                "EMBEDPIPE_PROVIDER__MODEL": {"Ref": "Model"},
                "EMBEDPIPE_PROVIDER__DIMENSIONS": {"Ref": "Dimensions"},
                "EMBEDPIPE_VECTORS__BACKEND": "chroma_s3",
            }
        },
    }


def _bucket() -> Document:
    return {
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
            "PublicAccessBlockConfiguration": dict.fromkeys(
                ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
            ),
            "VersioningConfiguration": {"Status": "Enabled"},
            "LifecycleConfiguration": {
                "Rules": [
                    {
                        "Id": "intermediate",
                        "Status": "Enabled",
                        "Prefix": EXPIRING,
                        "ExpirationInDays": EXPIRING_DAYS,
                        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                    },
                    {
                        "Id": "uploads",
                        "Status": "Enabled",
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
                    },
                ]
            },
        },
    }


def _table(layout: Layout) -> Document:
    keys = (layout.pk, layout.sk, layout.index_pk, layout.index_sk)
    return {
        "Type": "AWS::DynamoDB::Table",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in keys],
            "KeySchema": _key_schema(layout.pk, layout.sk),
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": layout.index_name,
                    "KeySchema": _key_schema(layout.index_pk, layout.index_sk),
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "SSESpecification": {"SSEEnabled": True},
        },
    }


def _key_schema(partition: str, sort: str) -> list[Document]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _function(step: Step, kind: Kind, *, index: str, key_variable: str) -> Document:
    name = function_of(step)[2:-1].removesuffix("Arn")
    group = f"{name}Logs"
    secret = "{{resolve:secretsmanager:${ProviderKeySecretArn}:SecretString:::${ProviderKeyVersion}}}"
    key = {key_variable: {"Fn::Sub": secret}}
    return {
        name: {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "PackageType": "Image",
                "ImageConfig": {"Command": [f"embedpipe.aws.handlers.{step.name}"]},
                "MemorySize": MEMORY_MB.get(step.name, MEMORY_DEFAULT_MB),
                "EphemeralStorage": {"Size": SCRATCH_MB.get(step.name, SCRATCH_DEFAULT_MB)},
                "Policies": [{"Version": "2012-10-17", "Statement": statements(FUNCTIONS[step.name], index)}],
                "LoggingConfig": {"LogGroup": {"Ref": group}, "LogFormat": "JSON"},
                **({"Environment": {"Variables": key}} if key_variable else {}),
            },
            "Metadata": {"DockerContext": ".", "Dockerfile": "Dockerfile", "DockerTag": f"{kind.name}-{step.name}"},
        },
        group: _logs(),
    }


def _logs() -> Document:
    return {
        "Type": "AWS::Logs::LogGroup",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {"RetentionInDays": LOG_DAYS},
    }


BUCKET_ARN: Final = {"Fn::GetAtt": ["Bucket", "Arn"]}
TABLE_ARN: Final = {"Fn::GetAtt": ["Table", "Arn"]}
ON_THE_BUCKET: Final = ("s3:ListBucket",)
ON_THE_INDEX: Final = ("dynamodb:Query",)


def statements(actions: Sequence[str], index: str) -> list[Document]:
    """Policy statements that allow these actions on our resources, the table's index among them, and on no others."""
    places: dict[str, tuple[Any, list[str]]] = {}
    for action in actions:
        label, resource = _resource(action, index)
        places.setdefault(label, (resource, []))[1].append(action)
    return [{"Effect": "Allow", "Action": sorted(found), "Resource": resource} for resource, found in places.values()]


def _resource(action: str, index: str) -> tuple[str, Any]:
    if action in ON_THE_BUCKET:
        return "bucket", BUCKET_ARN
    if action.startswith("s3:"):
        return "objects", {"Fn::Sub": "${Bucket.Arn}/*"}
    if action in ON_THE_INDEX:
        return "index", {"Fn::Sub": f"${{Table.Arn}}/index/{index}"}
    return "table", TABLE_ARN


def _machine(name: str, definition: Document, steps: Sequence[Step], events: Document, layout: Layout) -> Document:
    functions = {function_of(step)[2:-1]: function_of(step)[2:-1].removesuffix("Arn") for step in steps}
    filled: Document = {placeholder: {"Fn::GetAtt": [function, "Arn"]} for placeholder, function in functions.items()}
    needed = set(placeholders(definition))
    if "Bucket" in needed:
        filled["Bucket"] = {"Ref": "Bucket"}
    logs = f"{name}MachineLogs"
    allowed: list[Document] = [
        {
            "Effect": "Allow",
            "Action": ["lambda:InvokeFunction"],
            "Resource": [{"Fn::GetAtt": [function, "Arn"]} for function in functions.values()],
        },
        {
            # Delivery of logs can't be narrowed to one group: CloudWatch's own rule.
            "Effect": "Allow",
            "Action": [
                "logs:CreateLogDelivery",
                "logs:GetLogDelivery",
                "logs:UpdateLogDelivery",
                "logs:DeleteLogDelivery",
                "logs:ListLogDeliveries",
                "logs:PutResourcePolicy",
                "logs:DescribeResourcePolicies",
                "logs:DescribeLogGroups",
            ],
            "Resource": "*",
        },
        *(_distributed(name, steps, layout) if "Bucket" in needed else ()),
    ]
    return {
        f"{name}Machine": {
            "Type": "AWS::Serverless::StateMachine",
            "Properties": {
                "Name": {"Fn::Sub": f"${{AWS::StackName}}-{name.lower()}"},
                "DefinitionUri": f"{name.lower()}.asl.json",
                "DefinitionSubstitutions": filled,
                "Policies": [{"Version": "2012-10-17", "Statement": allowed}],
                "Logging": {
                    "Level": "ERROR",
                    "IncludeExecutionData": False,
                    "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": {"Fn::GetAtt": [logs, "Arn"]}}}],
                },
                **({"Events": events} if events else {}),
            },
        },
        logs: _logs(),
    }


def _distributed(name: str, steps: Sequence[Step], layout: Layout) -> list[Document]:
    """What a Distributed Map needs: its items, a place for its outputs, and executions of its own machine."""
    machine = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}"
    own = f"${{AWS::StackName}}-{name.lower()}"
    items = [state_machine.stored_key(step.over, layout).format(execution_id="*") for step in steps if step.over]
    return [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject"],
            "Resource": [{"Fn::Sub": f"${{Bucket.Arn}}/{key}"} for key in items],
        },
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"],
            "Resource": {"Fn::Sub": f"${{Bucket.Arn}}/{state_machine.OUTPUTS}/*"},
        },
        {
            "Effect": "Allow",
            "Action": ["states:StartExecution"],
            "Resource": {"Fn::Sub": f"{machine}:stateMachine:{own}"},
        },
        {
            "Effect": "Allow",
            "Action": ["states:DescribeExecution", "states:StopExecution"],
            "Resource": {"Fn::Sub": f"{machine}:execution:{own}/*"},
        },
    ]


DOCKERFILE: Final = """\
# One image serves all functions; each names its handler.
FROM public.ecr.aws/lambda/python:3.12
RUN pip install --no-cache-dir 'embedpipe[aws,openai,chroma]'
COPY embedpipe.toml ${LAMBDA_TASK_ROOT}/
"""

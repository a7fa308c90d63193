"""A batch table in a DynamoDB table that other item types may share.

The rule: rows are found through the index and confirmed by key with consistent reads; nothing scans, and no item of another
type is read or written. A change names the attributes it sets, on the condition that status and revision still hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from embedpipe.backends.aws_client import ATTEMPTS, Connection
from embedpipe.backends.aws_errors import Call, Resource
from embedpipe.backends.dynamodb_items import decode_item, encode_item, encode_value, take_items
from embedpipe.backends.table_rules import Range, changed, in_order, index_ranges, item_key, row_of
from embedpipe.errors import PreconditionFailed, Throttled, Unavailable
from embedpipe.layout import SEED, Layout
from embedpipe.lifecycle import Status
from embedpipe.limits import BATCH_GET_KEYS_MAX
from embedpipe.model import BatchRow
from embedpipe.ports import Clock
from embedpipe.retry import RetryPolicy
from embedpipe.wire import changes_to_item, row_to_item

if TYPE_CHECKING:
    from embedpipe.ports import BatchTable

__all__ = ["DynamoDBBatchTable"]

PAGE_ROWS: Final = 1_000
"""Of the index; DynamoDB ends a page at 1 MB, too."""
BACKOFF: Final = RetryPolicy(attempts=8, first_delay_s=0.05, delay_max_s=5.0)
"""Pauses while DynamoDB processes none of the keys that it is asked for; anew after each answer that has some."""
_FIRST_ID: Final = "0"
"""No id is less than this; a key condition may not be the empty string."""

WITH_ITEMS: Final = ("BatchGetItem", "Query", "UpdateItem")

_Typed = Mapping[str, Mapping[str, Any]]


class DynamoDBBatchTable:
    """Items of the table `name`, in the layout's names, with the layout's index.

    `region`, `profile` and `endpoint_url` are the SDK's own choice where they are empty. A call that may be repeated is
    tried `attempts` times; one without an answer for `timeout_s` is given up.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        layout: Layout = SEED,
        *,
        region: str = "",
        endpoint_url: str = "",
        profile: str = "",
        attempts: int = ATTEMPTS,
        timeout_s: float = 10.0,
        session: Any = None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._layout = layout
        self._resource = Resource(service="DynamoDB", kind="table", name=name, option="table.name", region=region)
        self._connection = Connection(
            self._resource,
            region=region,
            endpoint_url=endpoint_url,
            profile=profile,
            attempts=attempts,
            timeout_s=timeout_s,
            session=session,
            hooks={f"before-parse.dynamodb.{operation}": take_items for operation in WITH_ITEMS},
        )

    def put_new(self, row: BatchRow) -> bool:
        """Insert where no item is."""
        call = self._call(f"Inserting the row of batch {row.batch_id}", "PutItem")
        try:
            with self._connection.asking(call, once=True) as dynamodb:
                dynamodb.put_item(
                    TableName=self._name,
                    Item=encode_item(row_to_item(row, self._layout)),
                    ConditionExpression="attribute_not_exists(#pk)",
                    ExpressionAttributeNames={"#pk": self._layout.pk},
                )
        except PreconditionFailed:
            return False
        return True

    def get_many(self, batch_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """Those that exist, read consistently, a hundred at a time."""
        wanted = list(dict.fromkeys(batch_ids))
        rows: dict[str, BatchRow] = {}
        for start in range(0, len(wanted), BATCH_GET_KEYS_MAX):
            keys = [self._key(batch_id) for batch_id in wanted[start : start + BATCH_GET_KEYS_MAX]]
            for item in self._drained(keys):
                row = row_of(decode_item(item), self._layout)
                if row is not None:
                    rows[row.batch_id] = row
        return {batch_id: rows[batch_id] for batch_id in wanted if batch_id in rows}

    def by_status(self, batch_type: str, status: Status, *, after: str = "") -> Iterator[str]:
        """Ids of one type and status from the index; each page is one query."""
        ranges = index_ranges(batch_type, status, after, self._layout)
        return in_order([self._ids(wanted, after) for wanted in ranges])

    def _ids(self, wanted: Range, after: str) -> Iterator[str]:
        start: Mapping[str, Any] = {}
        index_sk = self._layout.index_sk
        while True:
            items, last = self._page(wanted, start)
            yield from wanted.batch_ids([item[index_sk].get("S", "") for item in items], after)
            if not last:
                return
            start = {"ExclusiveStartKey": last}

    def update(self, batch_id: str, changes: Mapping[str, object], *, status: Status, revision: int) -> BatchRow:
        """Change a row that still has `status` and `revision`."""
        call = self._call(f"Updating the row of batch {batch_id}", "UpdateItem")
        asked = self._update(batch_id, changes, status, revision)
        with self._connection.asking(call, once=True) as dynamodb:
            try:
                attributes = dynamodb.update_item(**asked)["Attributes"]
            except dynamodb.exceptions.ConditionalCheckFailedException as error:
                item = decode_item(error.response.get("Item") or {}) or None
                # It raises, and says what was found.
                changed(batch_id, item, changes, self._layout, status=status, revision=revision)
                raise
        row = row_of(decode_item(attributes), self._layout)
        if row is None:
            raise Unavailable(f"{call.what}: DynamoDB answered something else than the row.")
        return row

    def close(self) -> None:
        """Close the connections; a later call makes new ones."""
        self._connection.close()

    # --- requests -------------------------------------------------------------------------------------------------

    def _call(self, what: str, action: str) -> Call:
        return Call(what=what, action=f"dynamodb:{action}", arn=f"table/{self._name}", resource=self._resource)

    def _key(self, batch_id: str) -> dict[str, Any]:
        pk, sk = item_key(batch_id, self._layout)
        return {self._layout.pk: {"S": pk}, self._layout.sk: {"S": sk}}

    def _drained(self, keys: list[dict[str, Any]]) -> Iterator[_Typed]:
        """The items of up to a hundred keys. DynamoDB may leave some for the next call: at 16 MB, or under load."""
        call = self._call(f"Reading {len(keys)} rows", "BatchGetItem")
        pauses = BACKOFF.delays()
        while keys:
            asked = {self._name: {"Keys": keys, "ConsistentRead": True}}
            with self._connection.asking(call) as dynamodb:
                answer = dynamodb.batch_get_item(RequestItems=asked)
                found = answer["Responses"].get(self._name, ())
            yield from found
            rest = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
            if len(rest) < len(keys):
                pauses = BACKOFF.delays()
            if rest:
                self._pause(pauses, f"{call.what}: DynamoDB left {len(rest)} of them ({self._resource}).")
            keys = rest

    def _pause(self, pauses: Iterator[float], what: str) -> None:
        pause_s = next(pauses, None)
        if pause_s is None:
            raise Throttled(what, hint="The table's read capacity is used up: raise it, or make it on-demand.")
        self._clock.sleep(pause_s)

    def _page(self, wanted: Range, start: Mapping[str, Any]) -> tuple[Any, Any]:
        """Items, and where the next page starts; nothing where this is the last."""
        layout = self._layout
        index = f"table/{self._name}/index/{layout.index_name}"
        call = Call(
            what=f"Querying index {layout.index_name}", action="dynamodb:Query", arn=index, resource=self._resource
        )
        with self._connection.asking(call) as dynamodb:
            page = dynamodb.query(
                TableName=self._name,
                IndexName=layout.index_name,
                KeyConditionExpression="#pk = :pk AND #sk BETWEEN :low AND :high",
                ProjectionExpression="#sk",
                ExpressionAttributeNames={"#pk": layout.index_pk, "#sk": layout.index_sk},
                ExpressionAttributeValues={
                    ":pk": {"S": wanted.partition},
                    ":low": {"S": wanted.low or _FIRST_ID},
                    ":high": {"S": wanted.high},
                },
                Limit=PAGE_ROWS,
                **start,
            )
            return page["Items"], page.get("LastEvaluatedKey")

    def _update(self, batch_id: str, changes: Mapping[str, object], status: Status, revision: int) -> dict[str, Any]:
        """The request. Only the named attributes are in it, so all others stay."""
        layout = self._layout
        # The type of the batch is not known here. Of the index keys only the one without it follows the status.
        before = BatchRow(batch_id=batch_id, batch_type="", status=status, revision=revision)
        sets, removes = changes_to_item(changes, before, layout)
        sets.pop(layout.index_sk, None)
        revision_name = layout.attributes.get("revision", "revision")
        sets[revision_name] = revision + 1
        expression = _Expression()
        names = layout.type_attribute, layout.attributes.get("status", "status")
        found = layout.type_value, layout.status_word(status)
        unchanged = [
            f"{expression.name(name)} = {expression.value(value)}" for name, value in zip(names, found, strict=True)
        ]
        if others := layout.status_words(status)[1:]:
            words = ", ".join(map(expression.value, others))
            unchanged[1] = f"({unchanged[1]} OR {expression.name(names[1])} IN ({words}))"
        counted = f"{expression.name(revision_name)} = {expression.value(revision)}"
        if revision == 0:  # also stands for rows that have none, as the seed's
            counted = f"({counted} OR attribute_not_exists({expression.name(revision_name)}))"
        return {
            "TableName": self._name,
            "Key": self._key(batch_id),
            "UpdateExpression": expression.update(sets, removes),
            "ConditionExpression": " AND ".join([*unchanged, counted]),
            "ExpressionAttributeNames": expression.names,
            "ExpressionAttributeValues": expression.values,
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


class _Expression:
    """Placeholders for names and values, since a name may be a reserved word."""

    def __init__(self) -> None:
        self._placeholders: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    @property
    def names(self) -> dict[str, str]:
        return {placeholder: attribute for attribute, placeholder in self._placeholders.items()}

    def name(self, attribute: str) -> str:
        return self._placeholders.setdefault(attribute, f"#n{len(self._placeholders)}")

    def value(self, value: object) -> str:
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = encode_value(value)
        return placeholder

    def update(self, sets: Mapping[str, object], removes: Sequence[str]) -> str:
        text = "SET " + ", ".join(f"{self.name(name)} = {self.value(value)}" for name, value in sets.items())
        return f"{text} REMOVE {', '.join(map(self.name, removes))}" if removes else text


if TYPE_CHECKING:
    _: type[BatchTable] = DynamoDBBatchTable

"""The one list of what is known to differ: between what, how, and why it may stay so.

Where it can be looked at, an entry has a check that is true as long as it differs; a test says when it no longer does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from tests.simulation.conformance import looks
from tests.simulation.conformance.places import Around


@attrs.frozen(kw_only=True)
class Difference:
    """One entry."""

    name: str
    between: str
    says: str
    reason: str
    differs: Callable[[Around], bool] | None = None
    """None: it can't be looked at here."""


SIMULATOR: Final = "simulator and service"
MOTO: Final = "moto and AWS"

DIFFERENCES: Final = (
    Difference(
        name="http/scripted",
        between="the scripted provider and OpenAI",
        says="OpenAI itself is never asked: behind the SDK stands a server of ours, made after the API's reference.",
        reason="Batches cost money and take hours. So these cases show that SDK and backend change nothing on the way.",
    ),
    Difference(
        name="simulator/no_sdk",
        between=SIMULATOR,
        says="A fault reaches the caller at once; the SDK repeats reads and unconditional writes first.",
        reason="Each fault stands for one that outlasted the SDK. Steps must bear it, however seldom it is.",
        differs=looks.not_repeated,
    ),
    Difference(
        name="simulator/corrupt_download",
        between=SIMULATOR,
        says="A downloaded file may have a wrong byte; the SDK checks what comes, and says that it did not come.",
        reason="It stands for damage that no checksum of the SDK sees: before the object was stored, or on the disk after.",
        differs=looks.damage_arrives,
    ),
    Difference(
        name="simulator/open_uploads",
        between=SIMULATOR,
        says="An upload that dies leaves nothing; in S3 its parts stay until the bucket's lifecycle removes them.",
        reason="No key shows them, so no step can meet them. They cost, which the template's lifecycle rule bounds.",
        differs=looks.parts_stay,
    ),
    Difference(
        name="memory/item_size",
        between="backends in memory and SQLite, and DynamoDB",
        says="They take rows of any size; DynamoDB, and the simulator, up to 400 KB.",
        reason="The limit is DynamoDB's own. Guarantee G8 judges rows wherever they are kept.",
        differs=looks.no_sizes,
    ),
    Difference(
        name="simulator/item_size",
        between=SIMULATOR,
        says="The size of a row is counted to within some bytes a number or list.",
        reason="DynamoDB says of numbers no more than about how large they are; no row of ours is near the limit by so little.",
    ),
    Difference(
        name="simulator/index_lag",
        between=SIMULATOR,
        says="An index that is behind says what it said the time before; a real one may be behind for some rows only.",
        reason="What it says is confirmed by a read of the rows, so it matters only that it lacks rows and has old ones.",
    ),
    Difference(
        name="simulator/listing_lag",
        between=SIMULATOR,
        says="A provider's listing that is behind lacks the newest batch; a real one may lack several.",
        reason="A batch that is not listed is looked for again, each for itself. Behaviours may hide any batch for longer.",
    ),
    Difference(
        name="simulator/content_at_once",
        between=SIMULATOR,
        says="The file of a provider is read when it is asked for; the real one streams, and may break off later.",
        reason="A step uses nothing of a file that it has not read to its end, so a break is as if it had never begun.",
        differs=looks.read_whole,
    ),
    Difference(
        name="simulator/absent_file",
        between=SIMULATOR,
        says='A file id that a server spells "" stays so; the OpenAI backend makes it absent.',
        reason="Harsher than needed: steps must take both, since a backend of somebody else may pass it on.",
        differs=looks.empty_ids,
    ),
    Difference(
        name="simulator/no_advice",
        between=SIMULATOR,
        says="A refusal for load carries no advice for how long to wait; a provider's often does.",
        reason="Without advice the one retry policy decides, which is the harder case.",
        differs=looks.no_advice,
    ),
    Difference(
        name="simulator/no_embeddings",
        between=SIMULATOR,
        says="Questions can't be embedded.",
        reason="No step of a pipeline does; a search is not simulated.",
        differs=looks.not_embedding,
    ),
    Difference(
        name="simulator/untimed_looks",
        between=SIMULATOR,
        says="Counting and searching a collection take no time and meet no fault.",
        reason="No step of a pipeline does; judges do, and must not change what they look at.",
        differs=looks.untimed,
    ),
    Difference(
        name="simulator/half_merges",
        between=SIMULATOR,
        says="Half a merge in place shows; Chroma on a disk works on a copy, and shows none of it.",
        reason="A Chroma server shows it, and the port allows it: the harsher of the two is simulated.",
    ),
    Difference(
        name="simulator/latency",
        between=SIMULATOR,
        says="A call takes 2 ms to 6 s, or 30 s to 20 minutes where it is slow; no measurement of a service is behind that.",
        reason="Orders of calls are what is searched, and long tails give more of them. Nothing is concluded about speed.",
        differs=looks.quick,
    ),
    Difference(
        name="simulator/logs",
        between=SIMULATOR,
        says="Log groups and histories of executions are not simulated.",
        reason="No step reads them. The auditor does, and is tested on moto's and on recorded ones.",
        differs=looks.no_logs,
    ),
    Difference(
        name="moto/races",
        between=MOTO,
        says="It decides conditions without a lock, so two racing writers may both win.",
        reason="The tests let it answer one request at a time, as AWS does for one key.",
    ),
    Difference(
        name="moto/multipart_if_match",
        between=MOTO,
        says="It ignores `If-Match` when a multipart upload is completed.",
        reason="The tests look at what is sent.",
        differs=looks.moto_ignores_if_match,
    ),
    Difference(
        name="moto/no_conflict",
        between=MOTO,
        says="It never answers 409 to a conditional write, nor a redirect.",
        reason="The tests put these answers on the wire.",
    ),
    Difference(
        name="moto/no_lag",
        between=MOTO,
        says="Its index is never behind and nothing is throttled; `UnprocessedKeys` are always empty.",
        reason="The tests put these answers on the wire.",
    ),
    Difference(
        name="moto/batch_write",
        between=MOTO,
        says="It takes more than 25 items in a `BatchWriteItem`.",
        reason="It is never sent: rows are put one by one, each with its condition, so there are no unprocessed items.",
        differs=looks.moto_takes_more,
    ),
    Difference(
        name="moto/missing_index",
        between=MOTO,
        says="It says `ResourceNotFoundException` for a missing index, where DynamoDB says `ValidationException`.",
        reason="Both are understood.",
        differs=looks.moto_names_another_error,
    ),
    Difference(
        name="moto/update_size",
        between=MOTO,
        says="An update counts what it replaces along with what replaces it, up to 405,000 bytes.",
        reason="DynamoDB, and the simulator, count the row as it will be. The machine leaves such updates out.",
        differs=looks.moto_counts_twice,
    ),
)

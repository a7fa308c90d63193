"""The one table of commands: name, where it is defined, its line in `embedpipe --help`. Nothing is imported for it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """One command."""

    target: str
    """`module:attribute`, imported when the command is called."""
    summary: str


COMMANDS: Final = {
    "init": Entry("embedpipe.cli.setup:init", "Make a root directory with a commented embedpipe.toml."),
    "run": Entry("embedpipe.cli.work:run", "Embed records: submit, then ingest until every batch has ended."),
    "estimate": Entry("embedpipe.cli.work:estimate", "Say what a run would send and cost, without sending it."),
    "submit": Entry("embedpipe.cli.work:submit", "Hand records to the provider and return."),
    "ingest": Entry("embedpipe.cli.work:ingest", "Collect what is ready, once: poll, merge and mark."),
    "status": Entry("embedpipe.cli.look:status", "Show the batches and the published collection."),
    "search": Entry("embedpipe.cli.look:search", "Find the records nearest in meaning to a text."),
    "config": Entry("embedpipe.cli.setup:config", "Show the settings and where they come from."),
    # By name only, as all of them: the simulator imports embedpipe, never the other way round.
    "serve": Entry("simulator.serving.command:serve", "Serve the local model as an OpenAI-compatible batch endpoint."),
    "simulate": Entry(
        "simulator.cli.commands:simulate", "Run the pipeline on virtual time, from a seed, under faults."
    ),
    "verify": Entry("embedpipe.cli.verify:verify", "Audit what runs left behind, and a state machine's data flow."),
    "aws": Entry("embedpipe.cli.aws:aws", "Write what a deployment on AWS is made of."),
    "demo": Entry("embedpipe.cli.demo:demo", "Embed the Python language reference and ask it questions."),
}

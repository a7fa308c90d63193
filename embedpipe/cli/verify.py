"""The group `embedpipe verify`: a lazy table of its commands. They live in the package `verify`, named here by text only."""

from __future__ import annotations

import importlib
from typing import Final

import click

COMMANDS: Final = {
    "check": ("verify.audit.command:check", "Audit what runs left behind; changes nothing."),
    "flow": ("verify.flow.command:flow", "Say whether a field reaches a state of a state machine, without running it."),
    "history": ("verify.history.command:history", "Say in which state of an execution that ran a value got lost."),
    "repair": ("verify.repair.command:repair", "Mend what an audit has found: plan, apply, undo."),
    "doctor": ("verify.sources.command:doctor", "Read a little of each source, and say what to fix."),
    "iam-policy": ("verify.sources.command:iam_policy", "Print the policy that an audit of AWS needs."),
    "inject": ("verify.inject.command:inject", "Plant a fault in a copy of a root, to see the alarm go off."),
    "explain": ("verify.audit.command:explain", "Say what a finding means and what mends it."),
}
"""Name -> where it is defined, and its line in the help."""


class VerifyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's
        """Import and return one."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        """The list in the help, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=VerifyGroup)
def verify() -> None:
    """Audit a run, check a state machine's data flow, explain findings."""

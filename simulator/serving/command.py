"""`embedpipe serve`: the server on this machine's own interface, until Ctrl-C.

It lives here, and the table of commands names it by text, because this package may import the command line's and not the
other way round. Its heavy imports wait until it is called, so its help needs no extra.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from embedpipe.assembly import close, construct
from embedpipe.backends.system import SystemClock
from embedpipe.cli.options import Settings, common
from embedpipe.cli.output import json_text
from embedpipe.config import Config
from embedpipe.errors import ConfigError
from embedpipe.ports import BatchProvider

DEFAULT_ROOT: Final = Path(".embedpipe-serve")
PASSES_ON: Final = frozenset({"openai"})


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="NAME", help="Interface to listen on.")
@click.option("--port", default=8766, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--failures", metavar="FILE", type=click.Path(path_type=Path), help="A JSON table of calls to answer otherwise."
)
@common
def serve(settings: Settings, host: str, port: int, failures: Path | None) -> None:
    """Serve OpenAI's Files, Batches and Embeddings endpoints with the local model: no account, no key, real vectors.

    Prints the base URL and runs until Ctrl-C. Files and batches are kept below --root (.embedpipe-serve).

    \b
    Example:
      embedpipe serve --port 8766
      embedpipe run notes.jsonl --set provider.backend=openai --set provider.base_url=http://127.0.0.1:8766/v1
    """
    config = settings.load(default_root=DEFAULT_ROOT)
    from simulator.serving import server
    from simulator.serving.failures import Failures, load

    table = load(failures) if failures else ()
    provider = _provider(config)
    try:
        listening = server.bind(host, port)
        loopback = listening.getsockname()[0] in server.LOOPBACK
        app = server.application(
            provider,
            SystemClock(),
            failures=Failures(table),
            model=config.model.name,
            dimensions=config.model.dimensions,
            hosts=server.LOOPBACK if loopback else ("*",),
        )
        if not loopback:
            click.echo(f"warning: whoever can reach {host} may use this server; it asks for no key.", err=True)
        _announce(server.base_url(listening), config.root, as_json=settings.json)
        server.run(app, listening)
    finally:
        close(provider)


def _provider(config: Config) -> BatchProvider:
    if config.provider.backend in PASSES_ON:
        raise ConfigError(
            f"The provider '{config.provider.backend}' is itself a server.",
            hint="Use another --root, or --set provider.backend=local_model.",
        )
    model = config.model
    offered = {
        "clock": SystemClock(),
        "layout": config.layout,
        "limits": config.limits,
        "model": model.name,
        "dimensions": model.dimensions,
        "send_dimensions": model.send_dimensions,
    }
    choice = config.provider
    provider: BatchProvider = construct(
        "provider", choice.backend, choice.options, offered, directories=choice.directories
    )
    return provider


def _announce(url: str, root: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json_text({"base_url": url, "root": root}))
    else:
        click.echo(f"base_url  {url}\nkept in   {root}\nEnd it with Ctrl-C.")
    sys.stdout.flush()

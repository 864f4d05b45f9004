"""``ssmd-manifest-api``: serves an archive over HTTP, read-only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop
import yaml

from ssmd_common.archive.reader import DATA_VARIABLE
from ssmd_common.config.model import parse_name
from ssmd_common.errors import ConfigError
from ssmd_common.service import lifecycle, logs
from ssmd_common.service.address import HOST_VARIABLE, PORT_VARIABLE, Address
from ssmd_manifest_api.app import SERVICE
from ssmd_manifest_api.auth import hash_token, new_token
from ssmd_manifest_api.config import load_calendars, load_config
from ssmd_manifest_api.run import serve

__all__ = ["main"]

app = typer.Typer(
    help="Serve the manifests, files, records and gaps of an archive over HTTP, read-only.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(envvar=DATA_VARIABLE, help="The archive's base folder; the archiver creates it.")
    ] = None,
    host: Annotated[str, typer.Option(envvar=HOST_VARIABLE, help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar=PORT_VARIABLE, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    config: Annotated[
        Path | None, typer.Option(help="YAML file: who may read which feeds, and which sites' pages may ask.")
    ] = None,
    feeds: Annotated[
        Path | None, typer.Option(help="Folder of feed files: their calendars tell when data is expected.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> int | None:
    """Serve until SIGTERM or SIGINT."""
    if context.invoked_subcommand is not None:
        return None
    if data is None:
        raise ConfigError(
            "missing", field="--data", remedy=f"name the archive's base folder, or set {DATA_VARIABLE}"
        )
    logs.configure(SERVICE, level=log_level)
    api_config, calendars = load_config(config), load_calendars(feeds)
    address = Address(host, port)
    return lifecycle.run(
        lambda stop: serve(data, address, stop, config=api_config, calendars=calendars),
        loop_factory=uvloop.new_event_loop,
    )


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Whose token it is.")],
    feeds: Annotated[list[str] | None, typer.Option("--feed", help="A feed it may read; all without any.")] = None,
) -> None:
    """Print a new token, and what the configuration has to hold of it: its hash."""
    try:
        scope = [parse_name(feed) for feed in feeds or []] or "all"
        entry = {"name": parse_name(name), "sha256": "", "feeds": scope}
    except ConfigError as error:
        raise ConfigError(error.problem, field="NAME, --feed", remedy=error.remedy) from None
    secret = new_token()
    entry["sha256"] = hash_token(secret)
    typer.echo(f"{secret}\n\nIt is shown this once. In the file of --config:\n")
    typer.echo(yaml.safe_dump({"tokens": [entry]}, sort_keys=False), nl=False)


def main() -> NoReturn:
    """Run the program."""
    lifecycle.run_app(app)

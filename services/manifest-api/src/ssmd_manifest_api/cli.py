"""``ssmd-manifest-api``: serves an archive over HTTP, read-only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ssmd_common.archive.reader import DATA_VARIABLE
from ssmd_common.service import lifecycle, logs
from ssmd_common.service.address import Address
from ssmd_manifest_api.app import SERVICE
from ssmd_manifest_api.run import serve

__all__ = ["main"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    data: Annotated[
        Path, typer.Option(envvar=DATA_VARIABLE, help="The archive's base folder; the archiver creates it.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> int:
    """Serve the manifests, files and gaps of an archive over HTTP, read-only."""
    logs.configure(SERVICE, level=log_level)
    return lifecycle.run(lambda stop: serve(data, Address(host, port), stop))


def main() -> NoReturn:
    """Run the program."""
    lifecycle.run_app(app)

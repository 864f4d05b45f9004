"""``ssmd``: the local deployment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from ssmd_common.archive.layout import list_feeds
from ssmd_common.archive.reader import DATA_VARIABLE
from ssmd_common.config.model import parse_rotation_interval
from ssmd_common.errors import ConfigError
from ssmd_common.service import lifecycle, logs
from ssmd_local import programs
from ssmd_local.commands.bench import Benchmark, bench
from ssmd_local.commands.down import down as run_down
from ssmd_local.commands.show import show
from ssmd_local.commands.up import up as run_up
from ssmd_local.places import RunPaths
from ssmd_local.plan import ARCHIVER, CONNECTOR, Request
from ssmd_local.state import read_state

__all__ = ["main"]

app = typer.Typer(
    help="Capture market data on this machine: exchange, NATS, archive and its pages, in one command.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

DataOption = Annotated[Path, typer.Option("--data", envvar=DATA_VARIABLE, help="The archive's base folder.")]
_DEFAULT_DATA = Path("data")


@app.command()
def up(
    data: DataOption = _DEFAULT_DATA,
    feed: Annotated[
        str | None,
        typer.Option(help="A feed of exchanges/feeds, live; kalshi is the simulator unless KALSHI_API_KEY is set."),
    ] = None,
    capture: Annotated[Path | None, typer.Option(help="Play this recording instead of a market made up.")] = None,
    rate: Annotated[str | None, typer.Option(help="The simulator's data frames a second, or `max`.")] = None,
    rotation: Annotated[str, typer.Option(help="Length of a segment's window, such as 30s or 15m.")] = "1m",
    api_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the manifest API; 0 takes a free one.")
    ] = 8080,
    for_s: Annotated[
        float | None, typer.Option("--for", min=0, help="Stop by itself after so many seconds of capture.")
    ] = None,
) -> int:
    """Start everything, show how it goes, and stop in order at Ctrl-C: the archive is sealed then."""
    logs.configure("ssmd", level="error")
    try:
        interval = parse_rotation_interval(rotation)
    except ConfigError as error:
        raise ConfigError(error.problem, field="--rotation", remedy=error.remedy) from None
    request = Request(
        data=data.absolute(),
        feed=feed,
        capture=None if capture is None else capture.absolute(),
        rate=rate,
        rotation=interval,
        api_port=api_port,
    )
    return lifecycle.run(lambda stop: run_up(request, stop, for_s=for_s, environ=os.environ))


@app.command()
def down(data: DataOption = _DEFAULT_DATA) -> int:
    """Stop the capture that runs over an archive, in order, and wait for it."""
    logs.configure("ssmd", level="error")
    return lifecycle.run(lambda _stop: run_down(RunPaths(data.absolute()), say=_say))


@app.command()
def status(data: DataOption = _DEFAULT_DATA) -> int:
    """Tell what runs, how it goes, and what the archive holds; exits 1 unless everything is ready."""
    logs.configure("ssmd", level="error")
    return lifecycle.run(lambda _stop: show(RunPaths(data.absolute()), say=_say))


@app.command()
def verify(data: DataOption = _DEFAULT_DATA) -> int:
    """Check every byte and sequence of the archive; exits 1 where anything is at fault."""
    if RunPaths(data).folder.is_dir() and not list_feeds(data):
        # A capture was stopped before its first frame: that is an archive too, and a whole one.
        _say("0 frames received, 0 archived, 0 lost: nothing was captured here yet")
        return 0
    done = subprocess.run(  # noqa: S603 - our own program
        [*programs.command(ARCHIVER), "verify", "--data", str(data.absolute())],
        env=programs.child_environment(os.environ),
        check=False,
    )
    return done.returncode


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def replay(context: typer.Context, data: DataOption = _DEFAULT_DATA) -> NoReturn:
    """Replay archived segments: as `ssmd-connector replay`, into the NATS of the capture that runs (see --help)."""
    words = context.args
    if {"nats", "--to=nats"} & set(words) and not any(word.startswith(("--url", "--env")) for word in words):
        state = read_state(RunPaths(data.absolute()))
        if state is None or not state.supervisor.is_alive():
            raise ConfigError(
                f"nothing runs over {data}", field="--to nats", remedy="start ./ssmd up, or name --url or --env"
            )
        words = [*words, "--url", state.nats_url]
    command = [*programs.command(CONNECTOR), "replay", *words]
    os.execve(command[0], command, programs.child_environment(os.environ))  # noqa: S606 - so that a Ctrl-C is its own


@app.command(name="bench")
def measure(
    names: Annotated[list[Benchmark] | None, typer.Argument(help="What to measure; everything by default.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures there.")
    ] = None,
) -> int:
    """Measure ssmd on this machine, beside simpler programs that do the same work in the same run."""
    logs.configure("ssmd", level="error")
    return bench(names or [], json_file)


def _say(line: str) -> None:
    Console(highlight=False, soft_wrap=True).print(Text(line))


def main() -> NoReturn:
    """Run the program."""
    lifecycle.run_app(app)

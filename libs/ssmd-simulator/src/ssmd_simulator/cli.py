"""``ssmd-simulator``: an exchange on this machine, for development and tests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ssmd_common.errors import ConfigError
from ssmd_common.service import lifecycle, logs
from ssmd_common.service.address import HOST_VARIABLE
from ssmd_simulator import faults
from ssmd_simulator.run import Door, Generated, Replayed, Settings, Trouble, run

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False)

_DEFAULT_PORT = 8765
_DEFAULT_SEED = 1
_DEFAULT_MARKETS = 20


def _list_faults(asked: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if not asked:
        return
    for kind in faults.CATALOGUE.values():
        name = kind.name if kind.default is None else f"{kind.name}={kind.default:.12g}"
        never = "" if kind.drawn else " (never by chance)"
        typer.echo(f"{name:<20} {kind.help}{never}")
    raise typer.Exit


@app.command()
def simulate(
    *,
    host: Annotated[str, typer.Option(envvar=HOST_VARIABLE, help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = _DEFAULT_PORT,
    rate: Annotated[
        str, typer.Option(help="Data frames a second for each connection, or `max` for as fast as it reads.")
    ] = "100",
    seed: Annotated[
        int | None, typer.Option(help=f"What the market follows from.  [default: {_DEFAULT_SEED}]")
    ] = None,
    markets: Annotated[
        int | None, typer.Option(min=1, help=f"How many markets are listed.  [default: {_DEFAULT_MARKETS}]")
    ] = None,
    open_every: Annotated[float | None, typer.Option(help="List one more market each so many seconds.")] = None,
    settle_every: Annotated[
        float | None, typer.Option(help="Settle the oldest market each so many seconds; one is left to trade.")
    ] = None,
    capture: Annotated[Path | None, typer.Option(help="Play back this recording in place of a market.")] = None,
    speed: Annotated[
        float | None, typer.Option(help="How many times faster than recorded to play back.  [default: 1]")
    ] = None,
    public_key: Annotated[Path | None, typer.Option(help="PEM file of the RSA key that may connect.")] = None,
    key_id: Annotated[str | None, typer.Option(help="That key's id.")] = None,
    generate_keys: Annotated[
        Path | None, typer.Option(help="Keep a key pair and its id in this folder, made when it holds none.")
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let everybody connect, on any path.")] = False,
    ready_file: Annotated[Path | None, typer.Option(help="Write the URL here once clients can connect.")] = None,
    sent_log: Annotated[
        Path | None, typer.Option(help="Note every frame sent or withheld, and the end of every connection, here.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE][@TIME]",
            help="Let something go wrong: at once, at a time after the start (`close=1012@30s`), or again and "
            "again (`missing-seq=3@every 10s`). May be repeated.",
        ),
    ] = None,
    faults_every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Let things go wrong by chance, so far apart on average: `10s`."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Draw the faults of --faults-every from these. May be repeated."),
    ] = None,
    fault_log: Annotated[Path | None, typer.Option(help="Note every fault performed in this new file.")] = None,
    list_faults: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option("--list-faults", is_eager=True, callback=_list_faults, help="Name every fault, and exit."),
    ] = False,
) -> int:
    """Speak Kalshi's WebSocket protocol: a market made up from a seed, or a recording played back once.

    The same port answers REST for the markets' documents: GET /trade-api/v2/markets.
    """
    logs.configure("ssmd-simulator")
    door = Door(public_key=public_key, key_id=key_id, keys_folder=generate_keys, open_to_all=no_auth)
    play: Generated | Replayed
    if capture is None:
        if speed is not None:
            raise ConfigError("is for a recording", field="--speed", remedy="give --capture too, or use --rate")
        play = Generated(
            seed=_DEFAULT_SEED if seed is None else seed,
            markets=_DEFAULT_MARKETS if markets is None else markets,
            rate=_rate(rate),
            open_every_s=_positive(open_every, "--open-every"),
            settle_every_s=_positive(settle_every, "--settle-every"),
        )
    else:
        for option, value in (
            ("--seed", seed if faults_every is None else None),
            ("--markets", markets),
            ("--open-every", open_every),
            ("--settle-every", settle_every),
        ):
            if value is not None:
                raise ConfigError("is for a made-up market", field=option, remedy="leave out --capture")
        play = Replayed(capture=capture, speed=_positive(speed, "--speed") or 1.0, rate=_rate(rate))
    settings = Settings(
        door=door,
        play=play,
        host=host,
        port=port,
        ready_file=ready_file,
        sent_log=sent_log,
        trouble=Trouble(
            planned=tuple(faults.parse(text) for text in fault or ()),
            by_chance=_by_chance(faults_every, seed, only or []),
            log=fault_log,
        ),
    )
    return lifecycle.run(lambda stop: run(settings, stop))


def _by_chance(every: str | None, seed: int | None, only: list[str]) -> faults.RandomFaults | None:
    if every is None:
        if only:
            raise ConfigError("is for faults by chance", field="--only", remedy="give --faults-every too")
        return None
    return faults.RandomFaults(
        faults.parse_time(every, field="--faults-every"), _DEFAULT_SEED if seed is None else seed, tuple(only)
    )


def _rate(text: str) -> float | None:
    if text == "max":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return _positive(number, "--rate", remedy="frames a second, or `max`")


def _positive(number: float | None, option: str, *, remedy: str = "") -> float | None:
    if number is not None and not (math.isfinite(number) and number > 0):
        raise ConfigError("must be a number above 0", field=option, remedy=remedy)
    return number


def main() -> None:
    """Run the command line."""
    lifecycle.run_app(app)

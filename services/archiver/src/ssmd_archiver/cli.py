"""The command ``ssmd-archiver``."""

from __future__ import annotations

import datetime as dt
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ssmd_archiver.certified import read_certificate, verify_certificate
from ssmd_archiver.disk import Disk
from ssmd_archiver.maintenance import rebuild_feed, seal_feed
from ssmd_archiver.run import run_archiver
from ssmd_archiver.verify import FeedReport, verify_feed
from ssmd_archiver.workers import available_processors, worker_processes
from ssmd_common.archive.layout import list_days, list_feeds
from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.config.loading import load_archiver
from ssmd_common.errors import ConfigError
from ssmd_common.nats.connection import check_settings
from ssmd_common.service import lifecycle, logs
from ssmd_common.service.address import HEALTH_VARIABLE

__all__ = ["main"]

SERVICE = "ssmd-archiver"
app = typer.Typer(
    help="Archive a feed's stream as sealed .jsonl.gz segments with evidence and a daily manifest.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The archiver's YAML file.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="The archive's base folder, instead of --config.")]
FeedOption = Annotated[str | None, typer.Option("--feed", help="Only this feed.")]


@app.callback(invoke_without_command=True)
def archive(
    context: typer.Context,
    config: ConfigOption = None,
    health_addr: Annotated[
        str | None,
        typer.Option("--health-addr", envvar=HEALTH_VARIABLE, help="HOST:PORT for /health, /ready and /metrics."),
    ] = None,
    *,
    new_archive: Annotated[
        bool, typer.Option("--new-archive", help="Begin in an empty folder although this consumer archived before.")
    ] = False,
) -> int | None:
    """Archive until SIGTERM or SIGINT."""
    if context.invoked_subcommand is not None:
        return None
    logs.configure(SERVICE)
    loaded = _config(config)
    return lifecycle.run(lambda stop: run_archiver(loaded, stop, new_archive=new_archive, health_addr=health_addr))


@app.command()
def check(config: ConfigOption = None) -> None:
    """Validate a configuration offline and say what it means."""
    loaded = _config(config)
    names = loaded.subjects()
    rotation = loaded.rotation
    try:
        check_settings(loaded.nats)
    except ConfigError as error:
        raise error.within(loaded.file, "nats") from None
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"feed      {names.feed} of environment {names.env}")
    console.print(f"subjects  {names.prefix}.json.> (filter {loaded.nats.filter}) and {names.prefix}.capture.>")
    console.print(f"stream    {loaded.nats.stream}, consumer {loaded.nats.consumer}")
    console.print(f"archive   {loaded.storage.path / names.feed}")
    console.print(
        f"rotation  every {rotation.interval}, sealed on exit: {'yes' if rotation.seal_on_exit else 'no'}"
    )


@app.command()
def verify(
    config: ConfigOption = None,
    data: DataOption = None,
    feed: FeedOption = None,
    date: Annotated[str | None, typer.Option("--date", help="Only this day, as 2026-11-23.")] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Hold the archive to this day's certificate, a JSON file.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="How many processes read; one a processor by default.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Re-check every hash, block, sequence and manifest. Exits 1 on any finding."""
    if certificate is not None:
        if feed is not None or date is not None:
            raise ConfigError(
                "cannot be combined with --feed or --date",
                field="--certificate",
                remedy="the certificate names both",
            )
        return _verify_certificate(_base(config, data), certificate, as_json=as_json)
    base, feeds = _archive(config, data, feed)
    day = _date(date)
    total = sum(_sizes(base, name, day) for name in feeds)
    with worker_processes(jobs or available_processors(), total) as workers, _progress() as progress:
        task = progress.add_task("verify", total=total)
        reports = [
            verify_feed(base, name, date=day, progress=lambda read: progress.advance(task, read), workers=workers)
            for name in feeds
        ]
    clean = not any(report.findings for report in reports)
    if as_json:
        print(json.dumps({"ok": clean, "feeds": [asdict(report) for report in reports]}, indent=2))  # noqa: T201
    else:
        for report in reports:
            _print_report(report)
    return 0 if clean else 1


def _verify_certificate(base: Path, path: Path, *, as_json: bool) -> int:
    certificate = read_certificate(path)
    day = f"{certificate.feed}/{certificate.date}"
    paths = [base / day / file.path for file in certificate.files]
    total = sum(path.stat().st_size for path in paths if path.is_file())
    with _progress() as progress:
        task = progress.add_task("verify", total=total)
        findings = verify_certificate(base, certificate, progress=lambda read: progress.advance(task, read))
    if as_json:
        found = {
            "ok": not findings,
            "root": certificate.root,
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(found, indent=2))  # noqa: T201
    else:
        lines = [
            f"{day}: {_count(len(certificate.files), 'file')} of the certificate, {certificate.state}",
            f"  root {certificate.root}",
            *(f"  FINDING {finding.where}: {finding.problem}" for finding in findings),
            "  verified" if not findings else f"  {_count(len(findings), 'finding')}",
        ]
        print("\n".join(lines))  # noqa: T201 - the CLI's voice
    return 1 if findings else 0


def _progress() -> Progress:
    return Progress(
        TextColumn("verifying"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


@app.command()
def rebuild(config: ConfigOption = None, data: DataOption = None, feed: FeedOption = None) -> None:
    """Derive every manifest again from the indexes."""
    logs.configure(SERVICE)
    base, feeds = _archive(config, data, feed)
    for name in feeds:
        written = rebuild_feed(base, name, Disk())
        print(f"{name}: {_count(len(written), 'manifest')} written")  # noqa: T201 - the CLI's voice


@app.command()
def seal(config: ConfigOption = None, data: DataOption = None, feed: FeedOption = None) -> None:
    """Seal the open segment of a stopped archiver."""
    logs.configure(SERVICE)
    base, feeds = _archive(config, data, feed)
    for name in feeds:
        sealed = seal_feed(base, name, Disk())
        print(f"{name}: {f'sealed {sealed}' if sealed else 'nothing open'}")  # noqa: T201 - the CLI's voice


def _config(path: Path | None) -> ArchiverConfig:
    if path is None:
        raise ConfigError("missing", field="--config", remedy="name the archiver's YAML file")
    return load_archiver(path)


def _archive(config: Path | None, data: Path | None, feed: str | None) -> tuple[Path, list[str]]:
    """Return the base folder and the feeds meant."""
    base = _base(config, data)
    if config is not None:
        feed = feed or load_archiver(config).subjects().feed
    feeds = list_feeds(base)
    if feed is not None:
        if feed not in feeds:
            raise ConfigError(
                f"no archive of feed {feed!r}", file=str(base), remedy=f"there is: {', '.join(feeds) or 'none'}"
            )
        return base, [feed]
    if not feeds:
        raise ConfigError("no archive here", file=str(base), remedy="name the folder that holds {feed}/{date}/")
    return base, feeds


def _base(config: Path | None, data: Path | None) -> Path:
    if config is not None and data is None:
        return load_archiver(config).storage.path
    if config is None and data is not None:
        return data
    raise ConfigError("name one of --config and --data", remedy="--data is the archive's base folder")


def _date(text: str | None) -> dt.date | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a date", field="--date", remedy="write it as 2026-11-23") from None


def _sizes(base: Path, feed: str, date: dt.date | None) -> int:
    days = [day for day in list_days(base, feed) if date is None or day.date == date]
    return sum(day.sealed(stem).data.stat().st_size for day in days for stem in day.data_stems())


def _print_report(report: FeedReport) -> None:
    unverifiable = f", {report.unverifiable} unverifiable" if report.unverifiable else ""
    size = f"{report.raw_bytes} bytes ({report.compressed_bytes} compressed)"
    kinds = ", ".join(
        _count(number, what)
        for number, what in (
            (report.records, "record"),
            (report.capture_events, "capture event"),
            (report.rejects, "reject"),
        )
    )
    lines = [
        f"{report.feed}: {report.received} frames received, {report.archived} archived, {report.lost} lost"
        + unverifiable,
        f"  {_count(report.days, 'day')}, {_count(report.files, 'sealed file')}, {kinds}, {size}",
    ]
    if report.foreign:
        lines.append(f"  {report.foreign} records of a foreign publisher: their completeness is unverifiable")
    if report.open_segments:
        lines.append(f"  {_count(report.open_segments, 'open segment')}, verified as far as it is durable")
    if report.gaps:
        layers = ", ".join(f"{count} {layer}" for layer, count in sorted(report.gaps.items()))
        lines.append(f"  gaps: {layers}; {report.missing} messages known to be missing")
    else:
        lines.append("  no gaps")
    lines += [f"  FINDING {finding.where}: {finding.problem}" for finding in report.findings]
    lines.append("  verified" if not report.findings else f"  {_count(len(report.findings), 'finding')}")
    print("\n".join(lines))  # noqa: T201 - the CLI's voice


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def main() -> None:
    """Run the command."""
    lifecycle.run_app(app)

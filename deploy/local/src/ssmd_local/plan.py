"""What ``ssmd up`` runs: which processes, with which arguments and files, in which order; pure.

Given what was asked for, the ports that are free and the feed's file, this module says everything; the shells write
the files and start the programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

from ssmd_common.config.environment import Capture
from ssmd_common.config.model import Interval
from ssmd_local.nats_server import nats_config
from ssmd_local.places import RunPaths

__all__ = [
    "API",
    "ARCHIVER",
    "CONNECTOR",
    "DEFAULT_FEED",
    "NATS",
    "SIMULATOR",
    "STOP_ORDER",
    "FileReady",
    "HttpReady",
    "Plan",
    "Ports",
    "ProcessSpec",
    "Ready",
    "Request",
    "Source",
    "make_plan",
    "source_of",
]

DEFAULT_FEED = "kalshi"

NATS = "nats-server"
SIMULATOR = "ssmd-simulator"
CONNECTOR = "ssmd-connector"
ARCHIVER = "ssmd-archiver"
API = "ssmd-manifest-api"

STOP_ORDER = (CONNECTOR, ARCHIVER, API, SIMULATOR, NATS)
"""Along the data: the connector hands over what it has, the archiver takes all of it, then the rest may go."""

_LOOPBACK = "127.0.0.1"
_SIMULATOR_PATH = "/trade-api/ws/v2"
_KEY_ID, _PRIVATE_KEY = "key-id", "private-key.pem"


class Source(StrEnum):
    """Where the frames come from."""

    SIMULATOR = "simulator"
    CAPTURE = "capture"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        feed: The feed, as named; None for the default.
        capture: A recording to play instead of the simulator's own market.
        rate: Data frames a second, or ``max``; None for the simulator's default.
    """

    data: Path
    feed: str | None
    capture: Path | None
    rate: str | None
    rotation: Interval
    api_port: int

    @property
    def feed_name(self) -> str:
        """The feed that is captured."""
        return self.feed or DEFAULT_FEED


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports that are free."""

    nats: int
    nats_monitor: int
    simulator: int
    connector: int
    archiver: int
    api: int


@dataclass(frozen=True, slots=True)
class HttpReady:
    """The process is ready when this URL answers 200."""

    url: str


@dataclass(frozen=True, slots=True)
class FileReady:
    """The process is ready when this file exists."""

    path: Path


Ready = HttpReady | FileReady


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process.

    Attributes:
        name: The program, and the name it goes by.
        after: Processes that must be ready before it starts.
        ready_s: How long it may take to be ready.
        stop_s: How long it may take to end in order before it is killed.
        url: Where it tells of itself, ``/ready`` and ``/metrics``; None where it does not.
    """

    name: str
    args: tuple[str, ...]
    ready: Ready
    after: tuple[str, ...] = ()
    ready_s: float = 30.0
    stop_s: float = 15.0
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything ``ssmd up`` does.

    Attributes:
        source: Where the frames come from.
        feed: The feed.
        env: First token of the subjects, which the archive keeps apart.
        processes: In an order in which they can be started.
        files: Their configuration files.
        api_url: Where the archive can be looked at.
        nats_url: Where the stream is.
    """

    source: Source
    feed: str
    env: str
    stream: str
    processes: tuple[ProcessSpec, ...]
    files: Mapping[Path, str]
    api_url: str
    nats_url: str

    @property
    def urls(self) -> dict[str, str]:
        """Where the services tell of themselves, by name."""
        return {spec.name: spec.url for spec in self.processes if spec.url is not None}


def source_of(request: Request, environ: Mapping[str, str]) -> Source:
    """Return where the frames come from.

    Only a feed that is named can be live, and Kalshi only with a key: a plain ``ssmd up`` never leaves the machine.
    """
    if request.capture is not None:
        return Source.CAPTURE
    if request.feed is None or (request.feed == DEFAULT_FEED and not environ.get("KALSHI_API_KEY")):
        return Source.SIMULATOR
    return Source.LIVE


def make_plan(
    request: Request,
    *,
    source: Source,
    live_env: str,
    feed_path: Path,
    capture: Capture,
    ports: Ports,
) -> Plan:
    """Say what runs.

    Args:
        request: What was asked for.
        source: Where the frames come from.
        live_env: The environment's token for a live feed, such as ``prod``.
        feed_path: The feed's file.
        capture: What of the feed to capture; empty for what the feed's own file says.
        ports: Free ports.
    """
    paths = RunPaths(request.data)
    feed = request.feed_name
    env = live_env if source is Source.LIVE else "local"
    signed = source is not Source.LIVE and feed == DEFAULT_FEED
    nats_url = f"nats://{_LOOPBACK}:{ports.nats}"
    stream = f"{env}_{feed}".upper().replace("-", "_")
    chosen = capture.model_dump(mode="json", exclude_none=True)
    environment, archiver = paths.folder / "environment.yaml", paths.folder / "archiver.yaml"
    files = {
        paths.folder / "nats.conf": nats_config(port=ports.nats, monitor_port=ports.nats_monitor),
        environment: _yaml(
            {
                "name": f"{feed}-{env}",
                "feed": feed,
                "env": env,
                "instance": "local",
                **_origin(source, ports, signed=signed),
                **({"capture": chosen} if chosen else {}),
                "transport": {
                    "type": "nats",
                    "url": nats_url,
                    "stream": stream,
                    "create_stream": {"max_age": "1d"},
                },
                "limits": {"spool_dir": str(paths.folder / "spool")},
            }
        ),
        archiver: _yaml(
            {
                "nats": {
                    "url": nats_url,
                    "stream": stream,
                    "consumer": f"archiver-{feed}",
                    "filter": f"{env}.{feed}.json.>",
                },
                "storage": {"path": str(request.data)},
                "rotation": {"interval": str(request.rotation), "seal_on_exit": True},
                "flush_interval": "2s",
            }
        ),
    }
    processes = [
        ProcessSpec(
            NATS,
            ("-c", "nats.conf"),
            HttpReady(f"http://{_LOOPBACK}:{ports.nats_monitor}/healthz?js-enabled-only=true"),
            ready_s=60.0,  # a large store is checked first
        ),
        *([_simulator(request, source, paths, ports, signed=signed)] if source is not Source.LIVE else []),
        ProcessSpec(
            API,
            ("--data", str(request.data), "--host", _LOOPBACK, "--port", str(ports.api)),
            HttpReady(f"http://{_LOOPBACK}:{ports.api}/ready"),
            stop_s=10.0,
            url=f"http://{_LOOPBACK}:{ports.api}",
        ),
        _service(ARCHIVER, ("--config", str(archiver)), ports.archiver, after=(NATS,), ready_s=120.0, stop_s=180.0),
        _service(
            CONNECTOR,
            ("--feed", str(feed_path), "--env", str(environment)),
            ports.connector,
            after=(NATS,) if source is Source.LIVE else (NATS, SIMULATOR),
            ready_s=60.0,
            stop_s=60.0,
        ),
    ]
    return Plan(
        source=source,
        feed=feed,
        env=env,
        stream=stream,
        processes=tuple(processes),
        files=files,
        api_url=f"http://{_LOOPBACK}:{ports.api}",
        nats_url=nats_url,
    )


def _origin(source: Source, ports: Ports, *, signed: bool) -> dict[str, object]:
    if source is Source.LIVE:
        return {}
    endpoint: dict[str, object] = {"endpoint": f"ws://{_LOOPBACK}:{ports.simulator}{_SIMULATOR_PATH}"}
    if signed:
        # Relative to the run folder, where the processes are started: a comma in its path would part the list.
        key = {
            "type": "api_key",
            "fields": ["api_key", "private_key"],
            "source": f"file:keys/{_KEY_ID},keys/{_PRIVATE_KEY}",
        }
        endpoint["keys"] = {DEFAULT_FEED: key}
    return endpoint


def _simulator(request: Request, source: Source, paths: RunPaths, ports: Ports, *, signed: bool) -> ProcessSpec:
    ready = paths.folder / "simulator.ready"
    args = ["--host", _LOOPBACK, "--port", str(ports.simulator), "--ready-file", str(ready)]
    args += ["--generate-keys", str(paths.keys)] if signed else ["--no-auth"]
    if source is Source.CAPTURE:
        args += ["--capture", str(request.capture)]
    if request.rate is not None:
        args += ["--rate", request.rate]
    return ProcessSpec(SIMULATOR, tuple(args), FileReady(ready))


def _service(
    name: str, args: tuple[str, ...], port: int, *, after: tuple[str, ...], ready_s: float, stop_s: float
) -> ProcessSpec:
    base = f"http://{_LOOPBACK}:{port}"
    return ProcessSpec(
        name,
        (*args, "--health-addr", f"{_LOOPBACK}:{port}"),
        HttpReady(f"{base}/ready"),
        after=after,
        ready_s=ready_s,
        stop_s=stop_s,
        url=base,
    )


class _Dumper(yaml.SafeDumper):
    """Quotes every text: which plain words are none is not the same in all versions of YAML."""


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def _yaml(document: Mapping[str, object]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=math.inf)

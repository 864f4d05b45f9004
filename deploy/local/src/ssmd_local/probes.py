"""Asks the running services how they are: their counters and their readiness."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from ssmd_local.counters import Counters, read_counters
from ssmd_local.health import why_not
from ssmd_local.plan import ARCHIVER, CONNECTOR
from ssmd_local.state import ProcessId
from ssmd_local.status import ProcessStatus

__all__ = ["ask_counters", "ask_process"]

_TIMEOUT_S = 3.0


async def ask_counters(client: httpx.AsyncClient, urls: Mapping[str, str]) -> Counters:
    """Return what the connector and the archiver count; what does not answer is unknown."""
    texts = [await _text(client, urls, name) for name in (CONNECTOR, ARCHIVER)]
    return read_counters(*texts)


async def ask_process(client: httpx.AsyncClient, name: str, process: ProcessId, url: str | None) -> ProcessStatus:
    """Return how a process is."""
    if not process.is_alive():
        return ProcessStatus(name, process.pid, "gone", {})
    if url is None:
        return ProcessStatus(name, process.pid, "running", {})
    try:
        answer = await client.get(f"{url}/ready", timeout=_TIMEOUT_S)
    except httpx.HTTPError:
        return ProcessStatus(name, process.pid, "not ready", {url: "does not answer"})
    state = "ready" if answer.status_code == httpx.codes.OK else "not ready"
    return ProcessStatus(name, process.pid, state, why_not(answer))


async def _text(client: httpx.AsyncClient, urls: Mapping[str, str], name: str) -> str:
    if name not in urls:
        return ""
    try:
        answer = await client.get(f"{urls[name]}/metrics", timeout=_TIMEOUT_S)
    except httpx.HTTPError:
        return ""
    return answer.text if answer.status_code == httpx.codes.OK else ""

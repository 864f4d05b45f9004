"""``ssmd status``: what runs, how it goes, and what the archive holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import httpx

from ssmd_common.client import Client
from ssmd_common.errors import ApiError
from ssmd_local.archive_summary import FeedSummary, ask_archive, summarise_archive
from ssmd_local.places import RunPaths
from ssmd_local.plan import STOP_ORDER
from ssmd_local.probes import ask_counters, ask_process
from ssmd_local.state import read_state
from ssmd_local.status import archive_lines, process_lines, status_line

__all__ = ["show"]

_TIMEOUT_S = 3.0


async def show(paths: RunPaths, *, say: Callable[[str], None]) -> int:
    """Tell how things are; 0 where everything runs and is ready, 1 otherwise."""
    state = read_state(paths)
    code = 1
    if state is None:
        say(f"nothing runs over {paths.data}")
    else:
        async with httpx.AsyncClient(trust_env=False) as client:
            found = [
                await ask_process(client, name, state.processes[name], state.urls.get(name))
                for name in reversed(STOP_ORDER)
                if name in state.processes
            ]
            counters = await ask_counters(client, state.urls)
        say(f"{state.feed} ({state.source}), started {state.started_at}, {state.api_url}")
        for line in process_lines(found):
            say(line)
        if not state.supervisor.is_alive():
            say("ssmd up itself is gone: `ssmd down` stops the rest")
        running_s = time.time() - datetime.fromisoformat(state.started_at).timestamp()
        say(status_line(counters, running_s=running_s, left_s=None))
        code = 0 if state.supervisor.is_alive() and all(p.state in ("ready", "running") for p in found) else 1
    feeds = await asyncio.to_thread(_feeds, paths, None if state is None else state.api_url)
    for line in archive_lines(feeds):
        say(line)
    return code


def _feeds(paths: RunPaths, api_url: str | None) -> list[FeedSummary]:
    """Ask the API what the archive holds; where it does not answer, read the manifests."""
    if api_url is not None:
        with Client(api_url, timeout_s=_TIMEOUT_S) as api, suppress(ApiError):
            return ask_archive(api)
    return summarise_archive(paths.data)

"""Starts, watches and stops the processes of a plan.

Each has a session of its own, so that the terminal's Ctrl-C reaches none of them: they are stopped one by one, in
the order that leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ssmd_common.errors import ConfigError, SsmdError
from ssmd_local import programs
from ssmd_local.health import why_not
from ssmd_local.places import RunPaths
from ssmd_local.plan import NATS, STOP_ORDER, FileReady, HttpReady, ProcessSpec
from ssmd_local.state import ProcessId, process_id

__all__ = ["ChildDiedError", "Supervisor", "last_lines"]

_POLL_S = 0.1
_BEGIN_S = 15.0
_TAIL_BYTES = 8192
_TAIL_LINES = 5
_ERROR_PREFIX = "error: "


class ChildDiedError(SsmdError):
    """A process ended that nobody had asked to."""


@dataclass(slots=True)
class _Child:
    spec: ProcessSpec
    process: asyncio.subprocess.Process
    identity: ProcessId


class Supervisor:
    """The processes of one run.

    Args:
        paths: Where they run and log.
        environ: Their environment variables.
        on_start: Told of each process that was started.
    """

    def __init__(
        self, paths: RunPaths, environ: Mapping[str, str], *, on_start: Callable[[str, ProcessId], None]
    ) -> None:
        self._paths = paths
        self._environ = programs.child_environment(environ)
        self._on_start = on_start
        self._children: dict[str, _Child] = {}
        self._died: asyncio.Future[_Child] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._watchers: set[asyncio.Task[None]] = set()

    async def start_all(self, specs: Iterable[ProcessSpec]) -> None:
        """Start processes, each as soon as those before it are ready, and return once all are.

        Raises:
            ConfigError: One refused its arguments or configuration; its own line is the text.
            ChildDiedError: One ended otherwise.
            SsmdError: One was not ready in time.
        """
        everything = asyncio.create_task(self._bring_up(tuple(specs)))
        try:
            either: set[asyncio.Future[Any]] = {everything, self._died}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._died.done():
                child = self._died.result()
                raise self._refusal(child) or self.death_of(child)
            await everything
        finally:
            everything.cancel()
            await asyncio.gather(everything, return_exceptions=True)

    async def _bring_up(self, specs: Sequence[ProcessSpec]) -> None:
        ready = {spec.name: asyncio.Event() for spec in specs}

        async def bring_up(spec: ProcessSpec) -> None:
            for name in spec.after:
                await ready[name].wait()
            await self._start(spec)
            await self._wait_ready(spec)
            ready[spec.name].set()

        try:
            async with asyncio.TaskGroup() as tasks:
                for spec in specs:
                    tasks.create_task(bring_up(spec))
        except ExceptionGroup as group:
            known, unknown = group.split(SsmdError)
            if known is None or unknown is not None:
                raise
            raise _first(known) from None

    async def died(self) -> ChildDiedError:
        """Return once a process ends that was not asked to: what to say of it."""
        return self.death_of(await asyncio.shield(self._died))

    async def stop_all(self, *, on_stop: Callable[[str], None]) -> list[str]:
        """Stop what runs, one after another along the data.

        Args:
            on_stop: Told of each process before it is asked to stop.

        Returns:
            What went wrong, a line each.
        """
        self._stopping = True
        problems: list[str] = []
        for name in STOP_ORDER:
            child = self._children.get(name)
            if child is None or child.process.returncode is not None:
                continue
            on_stop(name)
            problems += await self._stop(child)
        for watcher in self._watchers:
            watcher.cancel()
        return problems

    async def _stop(self, child: _Child) -> list[str]:
        name, process = child.spec.name, child.process
        await self._wait_begun(child)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(child.spec.stop_s):
                code = await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            return [f"{name} did not stop in {child.spec.stop_s:g} s and was killed"]
        # One that had not even begun dies of the signal, and the NATS server ends in order with 1 by it.
        return [] if code in (0, -signal.SIGTERM) or name == NATS else [f"{name} stopped with code {code}"]

    async def _wait_begun(self, child: _Child) -> None:
        """Wait until a service takes signals: before it does, one would end it without order."""
        if child.spec.url is None:
            return
        deadline = time.monotonic() + _BEGIN_S
        async with httpx.AsyncClient(timeout=_BEGIN_S, trust_env=False) as client:
            while child.process.returncode is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    await client.get(f"{child.spec.url}/health")
                    return
                await asyncio.sleep(_POLL_S)

    async def _start(self, spec: ProcessSpec) -> None:
        log = self._paths.log(spec.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            log.replace(log.with_suffix(".log.1"))
        if isinstance(spec.ready, FileReady):
            spec.ready.path.unlink(missing_ok=True)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *programs.command(spec.name),
                *spec.args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._paths.folder,
                env=self._environ,
                start_new_session=True,
            )
        child = _Child(spec, process, process_id(process.pid))
        self._children[spec.name] = child
        self._on_start(spec.name, child.identity)
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, child: _Child) -> None:
        await child.process.wait()
        if not self._stopping and not self._died.done():
            self._died.set_result(child)

    async def _wait_ready(self, spec: ProcessSpec) -> None:
        deadline = time.monotonic() + spec.ready_s
        reason = ""
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            while time.monotonic() < deadline:
                match spec.ready:
                    case FileReady(path):
                        if path.exists():
                            return
                    case HttpReady(url):
                        with contextlib.suppress(httpx.HTTPError):
                            answer = await client.get(url)
                            if answer.status_code == httpx.codes.OK:
                                return
                            reason = "; ".join(f"{name}: {why}" for name, why in why_not(answer).items())
                await asyncio.sleep(_POLL_S)
        log = self._paths.log(spec.name)
        said = f": {reason}" if reason else ""
        raise SsmdError(f"{spec.name} was not ready within {spec.ready_s:g} s{said}", remedy=f"its log is {log}")

    def _refusal(self, child: _Child) -> ConfigError | None:
        """Return the child's own complaint about its configuration, where it had one."""
        if child.process.returncode != ConfigError.exit_code:
            return None
        for line in reversed(last_lines(self._paths.log(child.spec.name))):
            if line.startswith(_ERROR_PREFIX):
                return ConfigError(f"{child.spec.name}: {line.removeprefix(_ERROR_PREFIX)}")
        return None

    def death_of(self, child: _Child) -> ChildDiedError:
        """Return what to say of a process that ended by itself."""
        log = self._paths.log(child.spec.name)
        code = child.process.returncode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        lines = "".join(f"\n  {line}" for line in last_lines(log)) or " it had logged nothing"
        return ChildDiedError(f"{child.spec.name} {how}; its last lines ({log}):{lines}")


def last_lines(path: Path) -> list[str]:
    """Return the last lines of a log file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-_TAIL_LINES:]


def _first(group: BaseExceptionGroup[SsmdError]) -> SsmdError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group holds at least one error")

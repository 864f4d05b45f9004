"""``ssmd up``: from nothing to a running capture, and back to a sealed archive."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import time
from collections.abc import Awaitable, Iterator, Mapping

import httpx
import msgspec
from filelock import FileLock, Timeout

from ssmd_common.archive.layout import list_feeds
from ssmd_common.errors import ConfigError
from ssmd_common.service.lifecycle import Stop
from ssmd_local import programs
from ssmd_local.commands.down import stop_leftovers
from ssmd_local.places import RunPaths
from ssmd_local.plan import ARCHIVER, Plan, Request, Source
from ssmd_local.prepare import prepare
from ssmd_local.probes import ask_counters
from ssmd_local.processes import ChildDiedError, Supervisor
from ssmd_local.screen import Screen
from ssmd_local.state import ProcessId, RunState, process_id, read_state, write_state
from ssmd_local.status import banner, status_line

__all__ = ["up"]

_SAMPLE_EVERY_S = 1.0
_VERIFY_S = 300.0
_POLL_S = 0.2


async def up(request: Request, stop: Stop, *, for_s: float | None, environ: Mapping[str, str]) -> int:
    """Capture until ``stop`` is set or the time is over, then stop everything in order and verify.

    Args:
        request: What to capture.
        stop: Asks for the end; being asked again changes nothing, but cuts a verification short.
        for_s: How long to run once everything is ready; None until told to stop.
        environ: The environment variables.

    Returns:
        0 where all went well; 1 where a process died, could not be stopped in order, or the archive is at fault.

    Raises:
        ConfigError: What was asked for cannot be run.
        SsmdError: The processes did not come up.
    """
    paths = RunPaths(request.data)
    with _lock(paths), Screen() as screen:
        await stop_leftovers(paths, say=screen.say)
        plan = prepare(request, environ)
        _write_files(plan, paths)
        with contextlib.suppress(NotImplementedError):
            # A terminal that closes is a wish to stop, too.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set, "SIGHUP")
        run = _Run(plan, paths, screen, stop, environ)
        code = await run.run(for_s)
        if request.feed_name in list_feeds(request.data):
            code = max(code, await run.verify())
        return code


class _Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, paths: RunPaths, screen: Screen, stop: Stop, environ: Mapping[str, str]) -> None:
        self.plan = plan
        self.paths = paths
        self.screen = screen
        self.stop = stop
        self.environ = environ
        self.state = RunState(
            supervisor=process_id(os.getpid()),
            source=plan.source.value,
            feed=plan.feed,
            api_url=plan.api_url,
            nats_url=plan.nats_url,
            started_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            urls=plan.urls,
        )

    async def run(self, for_s: float | None) -> int:
        """Start, watch and stop the processes of the plan."""
        supervisor = Supervisor(self.paths, self.environ, on_start=self._note)
        write_state(self.paths, self.state)
        say = self.screen.say
        if self.plan.source is Source.SIMULATOR:
            say("starting the simulator and the services …")
        else:
            say(f"starting the services for {self.plan.feed} …")
        code = 0
        try:
            if await self._unless_stopped(supervisor.start_all(self.plan.processes)):
                for line in banner(self.plan, self.paths):
                    say(line)
                await self._watch(supervisor, for_s)
        except ChildDiedError as error:
            self.screen.fail(str(error))
            code = 1
        finally:
            self.screen.end_status()
            problems = await supervisor.stop_all(on_stop=lambda name: say(f"stopping {name} …"))
            self.paths.state.unlink(missing_ok=True)
        for problem in problems:
            self.screen.fail(problem)
        return 1 if problems else code

    async def verify(self) -> int:
        """Have the archiver's program verify the feed; its words are ours.

        A wish to stop that comes meanwhile ends it, and so does an archive too large to wait for: it is sealed, and
        can be verified at any time.
        """
        self.screen.say("verifying …")
        args = ("verify", "--data", str(self.paths.data), "--feed", self.plan.feed)
        process = await asyncio.create_subprocess_exec(
            *programs.command(ARCHIVER),
            *args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=programs.child_environment(self.environ),
            start_new_session=True,
        )
        asked = self.stop.asked
        verifying = asyncio.create_task(process.communicate())
        deadline = time.monotonic() + _VERIFY_S
        while not verifying.done() and self.stop.asked == asked and time.monotonic() < deadline:
            await asyncio.wait({verifying}, timeout=_POLL_S)
        if not verifying.done():
            process.kill()
            await verifying
            self.screen.say(f"not verified; `ssmd verify --data {self.paths.data}` does it")
            return 0
        output, _ = verifying.result()
        for line in output.decode("utf-8", "replace").splitlines():
            self.screen.say(line)
        return process.returncode or 0

    async def _watch(self, supervisor: Supervisor, for_s: float | None) -> None:
        """Show the counters until the time is over, a stop is asked for or a process dies (which is raised)."""
        begun = time.monotonic()
        died = asyncio.create_task(supervisor.died())
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                while not self.stop.is_set():
                    running_s = time.monotonic() - begun
                    left_s = None if for_s is None else for_s - running_s
                    if left_s is not None and left_s <= 0:
                        return
                    if died.done():
                        raise died.result()
                    counters = await ask_counters(client, self.plan.urls)
                    self.screen.status(status_line(counters, running_s=running_s, left_s=left_s))
                    pause_s = _SAMPLE_EVERY_S if left_s is None else min(_SAMPLE_EVERY_S, left_s)
                    await self.stop.wait_for(pause_s)
        finally:
            died.cancel()

    async def _unless_stopped(self, work: Awaitable[None]) -> bool:
        """Do ``work`` unless a stop is asked for meanwhile; tell whether it was done."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.create_task(self.stop.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            return False
        await working
        return True

    def _note(self, name: str, process: ProcessId) -> None:
        self.state = msgspec.structs.replace(self.state, processes={**self.state.processes, name: process})
        write_state(self.paths, self.state)


@contextlib.contextmanager
def _lock(paths: RunPaths) -> Iterator[None]:
    """Hold the archive's run folder; made where it is not there yet."""
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(paths.lock, timeout=0)
        lock.acquire()
    except Timeout:
        state = read_state(paths)
        holder = f" (process {state.supervisor.pid})" if state else ""
        raise ConfigError(
            f"ssmd up runs over this archive already{holder}",
            file=str(paths.data),
            remedy="stop it with `ssmd down`, or give another --data",
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(paths.data), field="--data") from None
    try:
        yield
    finally:
        lock.release()


def _write_files(plan: Plan, paths: RunPaths) -> None:
    paths.logs.mkdir(parents=True, exist_ok=True)
    for path, text in plan.files.items():
        path.write_text(text, "utf-8")

"""TorchServe runs as a child process: on loopback only, with one archive and N single-threaded workers, and it ends with us.

This module imports nothing heavy: in a pod, the process that imports it stays for as long as the pod does.
"""

import asyncio
import http.client
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from visor.errors import ServeError, ServerEnded
from visor.serving import cgroup, loopback, memory
from visor.serving.launch import KEYS, SOCKETS, WorkerSettings, check_length, command, environment, find_java, write_config
from visor.serving.ports import Ports
from visor.serving.watch import watch_workers

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.1
POLL_TIMEOUT_S = 5.0
# The guard starts before TorchServe, in a process group of its own, which TorchServe and its workers join. It waits for the
# end of a pipe that this process alone holds, and that closes however this process ends; then it ends its whole group.
GUARD = ("/bin/sh", "-c", "read -r _; kill -KILL 0")
# What a worker's log says when it cannot load the archive; TorchServe itself would retry for five minutes.
WORKER_FAILED = "Backend worker process died"
# A traceback is complete once the log has been silent for this long; the worker's next start is a second away.
SILENCE_S = 0.5
TAIL_BYTES = 64 << 10
# What Java ends with when its heap is full.
HEAP_FULL = 3


class Server:
    """A running TorchServe, and the end of its log. `keys`: the file, which it writes, of the keys that its APIs ask for."""

    def __init__(self, process: "asyncio.subprocess.Process", ports: Ports, keys: Path, forward: BinaryIO | None) -> None:
        self.process = process
        self.ports = ports
        self.keys = keys
        self._forward = forward
        self._tail = b""
        self._oom_kills = cgroup.oom_kills()

    async def wait_ready(self, name: str) -> None:
        """Return once a worker of the model is READY. Raises ServeError with the log's own words when none will be."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not await self._has_worker(name):
            if self.process.returncode is not None:
                raise self.ended_error()
            if WORKER_FAILED in self.tail(200):
                raise ServeError(f"the worker cannot load the archive:\n{await self._last_words()}")
            if asyncio.get_running_loop().time() > deadline:
                raise ServeError(f"no worker was ready within {START_TIMEOUT_S:.0f} s:\n{self.tail()}")
            await asyncio.sleep(POLL_S)

    async def _last_words(self) -> str:
        """Wait until a worker that failed has logged its whole traceback, which comes line by line, and return it."""
        said = ""
        while (tail := self.tail(200)) != said and self.process.returncode is None:
            said = tail
            await asyncio.sleep(SILENCE_S)
        return tail[tail.index(WORKER_FAILED) :] if WORKER_FAILED in tail else tail

    def ended_error(self) -> ServerEnded:
        """The error that says that TorchServe ended by itself, and why as far as that can be known."""
        how = how_ended(self.process.returncode or 0, cgroup.oom_kills() - self._oom_kills, cgroup.memory_limit())
        return ServerEnded(f"TorchServe {how}:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        """The last lines that TorchServe and its workers logged."""
        return "\n".join(self._tail.decode(errors="replace").splitlines()[-lines:])

    async def follow(self, output: asyncio.StreamReader) -> None:
        """Keep the end of the log, and forward all of it where that was asked for."""
        while chunk := await output.read(TAIL_BYTES):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]
            try:
                if self._forward:
                    self._forward.write(chunk)
                    self._forward.flush()
            except OSError:
                self._forward = None  # its reader has gone, and TorchServe must not wait for one

    async def _has_worker(self, name: str) -> bool:
        try:
            key = json.loads(self.keys.read_bytes())["management"]["key"]
            answer = await asyncio.to_thread(loopback.get, self.ports.management, f"/models/{name}", POLL_TIMEOUT_S, key)
            return any(worker["status"] == "READY" for version in json.loads(answer) for worker in version["workers"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return False  # no keys yet, no listener yet, or {"code": 404, ...}: not registered yet


@asynccontextmanager
async def running(
    archive: Path,
    settings: WorkerSettings,
    home: Path,
    ports: Ports,
    forward: BinaryIO | None = None,
) -> AsyncIterator[Server]:
    """Run TorchServe, on an archive that is alone in its folder, until the block ends; then stop it and its workers.

    `home` is private to this run and to its user: configuration, unpacked archive, TorchServe's keys and the workers' sockets.
    `forward`: the stream that gets its log. Raises JavaMissing, ServeError.
    """
    java = find_java()
    archive, home = archive.resolve(), home.resolve()  # TorchServe's own working folder is another one
    check_length(home)
    (home / SOCKETS).mkdir()
    config = write_config(home, archive, ports, settings)
    guard = await asyncio.create_subprocess_exec(
        *GUARD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=os.setpgrp
    )
    process = await asyncio.create_subprocess_exec(
        *command(java, home, config, archive.parent, settings.count),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=home,
        env=environment(home, settings),
        # The guard's group is not the terminal's: Ctrl-C is ours to hand on, after the drain.
        preexec_fn=lambda: os.setpgid(0, guard.pid),
    )
    server = Server(process, ports, home / KEYS, forward)
    if process.stdout is None:
        raise RuntimeError("a process that was started with a pipe has one")
    following = asyncio.create_task(server.follow(process.stdout))
    watching = asyncio.create_task(watch_workers(home / SOCKETS, settings.hang_s))
    try:
        yield server
    finally:
        watching.cancel()
        await _stop(process, guard)
        await following


def choose_workers(count: int | None, archive: memory.ArchiveMemory, picture_bytes: int | None, hang_s: float) -> WorkerSettings:
    """Choose how TorchServe runs an archive; what is None follows from CPUs and archive. Warns or raises MemoryShort."""
    if picture_bytes is not None:
        archive = replace(archive, picture=picture_bytes)
    settings = WorkerSettings(count or cgroup.cpu_limit(), archive.picture, hang_s)
    memory.check_limit(cgroup.memory_limit(), settings.count, archive)
    return settings


def how_ended(returncode: int, oom_kills: int, memory_limit: int | None) -> str:
    """Say how a process ended, as Python tells it. `oom_kills`: processes that the kernel ended for memory meanwhile."""
    if returncode == HEAP_FULL:
        return f"ended with {returncode}, as Java's heap was full"
    if returncode != -signal.SIGKILL:
        return f"ended with {returncode}" if returncode >= 0 else f"was ended by {signal.Signals(-returncode).name}"
    if oom_kills:
        limit = "" if memory_limit is None else f" of {memory_limit >> 20} MiB"
        return f"was killed (137, OOM): the memory limit{limit} was reached; raise it or lower the number of workers"
    return "was killed (137), by somebody or something else than its memory limit"


async def _stop(process: "asyncio.subprocess.Process", guard: "asyncio.subprocess.Process") -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    if guard.stdin:
        guard.stdin.close()  # what is left of the group goes now, such as a worker in the middle of loading
    await guard.wait()
    await process.wait()

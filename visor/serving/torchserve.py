"""TorchServe runs as a child process: on loopback only, with one archive and N single-threaded workers, and it ends with us.

This module imports nothing heavy: in a pod, the process that imports it stays for as long as the pod does.
"""

import asyncio
import http.client
import importlib.util
import itertools
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

from visor.errors import JavaMissing, ServeError, ServerEnded
from visor.serving import cgroup, loopback, memory
from visor.serving.watch import watch_workers
from visor.serving.worker import HANG_S, HANG_VARIABLE, MEMORY_VARIABLE, SOCKETS_VARIABLE

JAVA_NEEDED = 17
JAVA_ADVICE = "install Java 17, on Debian and Ubuntu `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
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
# Below a run's home: the sockets by which the edge asks the workers, and the keys without which TorchServe answers nothing.
# TorchServe writes the keys, readable by its own user alone, into the folder that it is started in.
SOCKETS, KEYS = "workers", "key_file.json"
# What a Unix socket's path may have (sun_path of sockaddr_un, without its last NUL), and the longest name of one below a home.
SOCKET_BYTES, SOCKET_NAME = 107, f"{SOCKETS}/{1 << 22}"
# TorchServe's keys end after an hour unless told otherwise, and nothing here would renew them.
KEYS_LAST_MINUTES = 100 * 365 * 24 * 60
# Characters that mean themselves in a file of Java's properties: no backslash, line break, blank or separator.
PLAIN_VALUE = re.compile(r"[A-Za-z0-9._,:/*-]+")
JVM = (
    # The heap grows with what is under way, up to `memory.java_heap`.
    "-Xms16m",
    "-XX:+ExitOnOutOfMemoryError",  # half a server is worse than one that is started again
    # One collector thread and the quick compiler; what TorchServe does takes no longer for it [48 KB there and back: p50 1.6 ms].
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # Memory of netty, which is in TorchServe twice, in pieces of 256 KiB instead of 16 MiB [idle: 76 instead of 201 MB].
    "-Dio.netty.allocator.maxOrder=5",
    "-Dio.grpc.netty.shaded.io.netty.allocator.maxOrder=5",
    "-XX:-UsePerfData",
)
# What Java ends with when its heap is full.
HEAP_FULL = 3

# Ports that neither the kernel gives to whoever asks for any (32768 on, on Linux) nor Kubernetes to its Services (30000 on): one
# that is free here is still free seconds later, when Java binds it. Each process begins elsewhere and goes on from there.
UNASSIGNED = range(10_240, 30_000)
PORTS_APART = 16
_TURNS = itertools.count(os.getpid() * PORTS_APART)

# Buffers of this size and above are mapped on their own, and go back to the system when they are freed.
MAPPED = 4 << 20

# TorchServe hands each request to a worker through Java's common pool. Below two threads, which is its size on two cores,
# CompletableFuture makes a thread for each request instead [p50 2.7 ms instead of 1.7, Java's CPU 1.2 ms instead of 0.7].
POOLED = 2


@dataclass(frozen=True)
class Ports:
    """Where TorchServe listens, on 127.0.0.1; the defaults are those of a pod, where no other process takes ports."""

    inference: int = 8085
    management: int = 8086
    metrics: int = 8082

    @classmethod
    def free(cls) -> Self:
        """Choose ports that were free just now, for a machine that other processes use too."""
        return cls(*free_ports(3))


def url(port: int) -> str:
    """The address of a loopback port."""
    return f"http://127.0.0.1:{port}"


@dataclass(frozen=True)
class WorkerSettings:
    """How many workers TorchServe has, and what each may take: bytes for one picture above the loaded archive, and seconds."""

    count: int
    picture_bytes: int
    hang_s: float = HANG_S


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
    config = _write_config(home, archive, ports, settings)
    guard = await asyncio.create_subprocess_exec(
        *GUARD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=os.setpgrp
    )
    process = await asyncio.create_subprocess_exec(
        *_command(java, home, config, archive.parent, settings.count),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=home,
        env=_environment(home, settings),
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


def check_length(home: Path) -> None:
    """Raise ServeError where the paths of sockets below a home would be longer than the kernel takes."""
    spare = SOCKET_BYTES - len(os.fsencode(home / SOCKET_NAME))
    if spare < 0:
        raise ServeError(
            f"the folder {home} has too long a path for Unix sockets, which end at {SOCKET_BYTES} bytes: "
            f"set TMPDIR (of a pod: --work) to a folder that is {-spare} bytes shorter"
        )


def find_java() -> str:
    """Find a Java that TorchServe runs on and return its path. Raises JavaMissing, saying what to install."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if java is None:
        raise JavaMissing(f"no java {'under JAVA_HOME=' + home if home else 'on the PATH'}; {JAVA_ADVICE}")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version[1]) < JAVA_NEEDED:
        raise JavaMissing(f"{java} is not Java {JAVA_NEEDED} or newer ({shown.splitlines()[:1]}); {JAVA_ADVICE}")
    return java


def free_ports(count: int) -> list[int]:
    """Choose distinct loopback ports that were free just now, and that nobody is given before they are taken.

    Raises:
        ServeError: every port of UNASSIGNED is taken.
    """
    chosen: list[int] = []
    for turn in itertools.islice(_TURNS, len(UNASSIGNED)):
        port = UNASSIGNED[turn % len(UNASSIGNED)]
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise ServeError(f"none of the loopback ports {UNASSIGNED[0]} to {UNASSIGNED[-1]} is free")


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


def _write_config(home: Path, archive: Path, ports: Ports, workers: WorkerSettings) -> Path:
    unused = free_ports(2)  # for TorchServe's own gRPC, which cannot be turned off
    values = {
        "inference_address": url(ports.inference),
        "management_address": url(ports.management),
        "metrics_address": url(ports.metrics),
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": unused[0],
        "grpc_management_port": unused[1],
        # Others on this machine, and a pod's other containers, reach the ports above. Without a key they get nothing there: no
        # workflow, which would bring a handler of its own, no scaling, no inference past the edge, over REST and gRPC alike.
        "disable_token_authorization": "false",
        "token_expiration_min": KEYS_LAST_MINUTES,
        "enable_model_api": "false",
        # Nothing but the archive in its folder is loaded, whoever asks.
        "allowed_urls": "none",
        "load_models": archive.name,
        "default_workers_per_model": workers.count,
        # Of requests that come through it. The other time, for loading an archive, keeps its default of 120 s.
        "default_response_timeout": math.ceil(workers.hang_s),
        "max_request_size": memory.BODY,
        "max_response_size": memory.BODY,
        "metrics_mode": "prometheus",
        "disable_system_metrics": "true",
    }
    path = home / "config.properties"
    path.write_text(properties(values))
    return path


def properties(values: Mapping[str, object]) -> str:
    """Write values as Java's properties. Raises ServeError for a value that Java would read as another one, or as several.

    Java takes a backslash for the start of an escape and the last of equal keys, so that a line break in a value could set
    whatever a later line sets.
    """
    for key, value in values.items():
        if not PLAIN_VALUE.fullmatch(str(value)):
            raise ServeError(f"TorchServe's setting {key} cannot be {str(value)!r}: use letters, digits and -_.,:/* alone")
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _command(java: str, home: Path, config: Path, model_store: Path, workers: int) -> list[str]:
    # Not the `torchserve` script: it only starts this same command, hands no signal on and keeps a pid file for all users.
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise ServeError("the package torchserve is not installed; `make setup` installs it")
    site = Path(spec.origin).parent.parent
    heap, direct = memory.java_heap(workers)
    jvm = [*JVM, f"-Xmx{heap}", f"-XX:MaxDirectMemorySize={direct}"]
    jvm += [f"-Dmodel_server_home={server_home(site, home / 'server')}", f"-Djava.io.tmpdir={home}"]
    jvm += [f"-Djava.util.concurrent.ForkJoinPool.common.parallelism={max(POOLED, workers)}"]
    jvm += [f"-Dlog4j.configurationFile={Path(__file__).with_name('log4j2.xml')}"]
    server = ["org.pytorch.serve.ModelServer", "--python", sys.executable, "-f", str(config), "-s", str(model_store), "-ncs"]
    return [java, *jvm, "-cp", str(site / "ts" / "frontend" / "*"), *server]


def server_home(site: Path, home: Path) -> Path:
    """Make the folder that TorchServe takes for its own: the files that it reads in `site`, with our worker.py for its worker.

    The package `ts` is still found in `site`: a folder without __init__.py hides no package.
    """
    place = home / "ts"
    place.mkdir(parents=True)
    for name in ("configs", "version.txt"):
        (place / name).symlink_to(site / "ts" / name)
    # A copy and no link: the interpreter would follow it, and find our folder's modules before the standard library's.
    shutil.copyfile(Path(__file__).with_name("worker.py"), place / "model_service_worker.py")
    return home


def _environment(home: Path, workers: WorkerSettings) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    places = {"TMPDIR": str(home), "LOG_LOCATION": str(home), "METRICS_LOCATION": str(home)}
    places[SOCKETS_VARIABLE] = str(home / SOCKETS)
    bounds = {HANG_VARIABLE: str(workers.hang_s), MEMORY_VARIABLE: str(workers.picture_bytes)}
    # Large pages for what is allocated, where the kernel leaves it to us (madvise): a CPU finds them sooner, most of all in a
    # virtual machine [EfficientNet-Lite0 in 8 bits: 2 to 4 % of a worker's time, for 5 MB]. Only glibc reads it.
    pages = {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")}
    # TorchServe prefers some variables, such as TS_CONFIG_FILE, to the configuration that it is given.
    others = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    # A second arena that glibc makes where the first gets no more memory keeps 64 MiB of a worker's limit for good.
    # And glibc else raises these two with each large picture that was freed, up to 32 and 64 MiB, which a worker then keeps.
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(MAPPED), "MALLOC_TRIM_THRESHOLD_": str(2 * MAPPED)}
    return {**others, **malloc, **pages, **threads, **places, **bounds}


async def _stop(process: "asyncio.subprocess.Process", guard: "asyncio.subprocess.Process") -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    if guard.stdin:
        guard.stdin.close()  # what is left of the group goes now, such as a worker in the middle of loading
    await guard.wait()
    await process.wait()

"""TorchServe as a child process: on loopback only, one archive, N single-threaded workers, and gone when we are gone."""

import asyncio
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path

from transformer.upstream import TorchServe
from visor.errors import JavaMissing, ServeError

JAVA_NEEDED = 17
JAVA_ADVICE = "install Java 17, on Debian and Ubuntu `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.1
# The edge refuses larger bodies, so TorchServe never has to: it would close the connection without a word.
MAX_BODY_BYTES = 65 << 20
# Started before TorchServe and in a process group of its own, which TorchServe and its workers join. It waits for the end of
# a pipe that only we hold, and that closes however we end, by SIGKILL too; then it ends its whole group, itself included.
GUARD = ("/bin/sh", "-c", "read -r _; kill -KILL 0")
# What a worker's log says when it cannot load the archive; TorchServe itself would retry for five minutes.
WORKER_FAILED = "Backend worker process died"


@dataclass(frozen=True)
class Endpoints:
    """Where a running TorchServe listens, on loopback."""

    inference: str
    management: str
    metrics: str


def cpu_limit() -> int:
    """CPUs that this process may use: the cgroup's quota where there is one, not the node's cores; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return limited(cores, Path("/sys/fs/cgroup/cpu.max"))


def limited(cores: int, cpu_max: Path) -> int:
    """`cores`, or fewer by the quota in a cgroup v2 file ("QUOTA PERIOD" in microseconds, or "max PERIOD")."""
    try:
        quota, period = cpu_max.read_text().split()
        allowed = cores if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        allowed = cores  # no cgroup v2 here
    return max(1, min(cores, allowed))


def find_java() -> str:
    """The path of a Java that TorchServe runs on. Raises JavaMissing, saying what to install."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if java is None:
        raise JavaMissing(f"no java {'under JAVA_HOME=' + home if home else 'on the PATH'}; {JAVA_ADVICE}")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version[1]) < JAVA_NEEDED:
        raise JavaMissing(f"{java} is not Java {JAVA_NEEDED} or newer ({shown.splitlines()[:1]}); {JAVA_ADVICE}")
    return java


@asynccontextmanager
async def running(archive: Path, workers: int, home: Path) -> AsyncIterator[tuple[Endpoints, "asyncio.subprocess.Process"]]:
    """Run TorchServe on an archive that is alone in its folder; stops it, workers included, on the way out.

    `home` is private to this run: configuration, log (`torchserve.log`), unpacked archive and the workers' sockets.
    """
    java = find_java()
    ports = free_ports(5)
    endpoints = Endpoints(*(f"http://127.0.0.1:{port}" for port in ports[:3]))
    config = _write_config(home, archive, endpoints, ports[3:], workers)
    guard = await asyncio.create_subprocess_exec(
        *GUARD, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=os.setpgrp
    )
    with (home / "torchserve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *_command(java, home, config, archive.parent),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
            env=_environment(home),
            # The guard's group is not the terminal's: Ctrl-C is ours to hand on, after the drain.
            preexec_fn=lambda: os.setpgid(0, guard.pid),
        )
    try:
        yield endpoints, process
    finally:
        await _stop(process, guard)


async def wait_ready(endpoints: Endpoints, name: str, process: "asyncio.subprocess.Process", home: Path) -> None:
    """Return once a worker is READY. Raises ServeError with the log's own words when none will be."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    upstream = TorchServe(endpoints.inference, name, endpoints.management, ready_cache_s=0)
    with closing(upstream):
        while not await upstream.ready():
            if process.returncode is not None:
                raise ServeError(f"TorchServe ended with {process.returncode}:\n{log_tail(home)}")
            if WORKER_FAILED in (tail := log_tail(home, 200)):
                raise ServeError(f"the worker cannot load the archive:\n{tail[tail.index(WORKER_FAILED) :]}")
            if asyncio.get_running_loop().time() > deadline:
                raise ServeError(f"no worker was ready within {START_TIMEOUT_S:.0f} s:\n{log_tail(home)}")
            await asyncio.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that were free just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def log_tail(home: Path, lines: int = 30) -> str:
    """The last lines of TorchServe's log."""
    try:
        return "\n".join((home / "torchserve.log").read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _write_config(home: Path, archive: Path, endpoints: Endpoints, grpc_ports: list[int], workers: int) -> Path:
    values = {
        "inference_address": endpoints.inference,
        "management_address": endpoints.management,
        "metrics_address": endpoints.metrics,
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": grpc_ports[0],
        "grpc_management_port": grpc_ports[1],
        # Nobody but this machine can reach the ports above; the token would only be a file to lose.
        "disable_token_authorization": "true",
        "enable_model_api": "false",
        "allowed_urls": "file://.*",
        "load_models": archive.name,
        "default_workers_per_model": workers,
        "max_request_size": MAX_BODY_BYTES,
        "max_response_size": MAX_BODY_BYTES,
        "metrics_mode": "prometheus",
        "disable_system_metrics": "true",
    }
    path = home / "config.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def _command(java: str, home: Path, config: Path, model_store: Path) -> list[str]:
    # Not the `torchserve` script: it only starts this same command, hands no signal on and keeps a pid file for all users.
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise ServeError("the package torchserve is not installed; `make setup` installs it")
    site = Path(spec.origin).parent.parent
    jvm = [f"-Dmodel_server_home={site}", f"-Djava.io.tmpdir={home}", "-Xmx1g", "-XX:+UseSerialGC"]
    jvm += [f"-Dlog4j.configurationFile={Path(__file__).with_name('log4j2.xml')}"]
    server = ["org.pytorch.serve.ModelServer", "--python", sys.executable, "-f", str(config), "-s", str(model_store), "-ncs"]
    return [java, *jvm, "-cp", str(site / "ts" / "frontend" / "*"), *server]


def _environment(home: Path) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    places = {"TMPDIR": str(home), "LOG_LOCATION": str(home), "METRICS_LOCATION": str(home)}
    return {**os.environ, **threads, **places}


async def _stop(process: "asyncio.subprocess.Process", guard: "asyncio.subprocess.Process") -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    if guard.stdin:
        guard.stdin.close()  # what is left of the group goes now, such as a worker in the middle of loading
    await guard.wait()
    await process.wait()

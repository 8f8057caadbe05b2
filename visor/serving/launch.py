"""What TorchServe is started with: Java, the command, the configuration and the environment."""

import importlib.util
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from archives.files import naming
from visor.errors import JavaMissing, ServeError
from visor.serving import memory
from visor.serving.ports import Ports, free_ports, url
from visor.serving.worker import HANG_S, HANG_VARIABLE, MEMORY_VARIABLE, SOCKETS_VARIABLE

JAVA_NEEDED = 17
JAVA_ADVICE = "install Java 17, on Debian and Ubuntu `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME"
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
    # Touched at once and not as it fills, which looks like a leak for an hour [+0.1 MiB a minute at 137 requests/s].
    "-XX:+AlwaysPreTouch",
    "-XX:+ExitOnOutOfMemoryError",  # half a server is worse than one that is started again
    # One collector thread and the quick compiler; what TorchServe does takes no longer for it [48 KB there and back: p50 1.6 ms].
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # Memory of netty, which is in TorchServe twice, in pieces of 256 KiB instead of 16 MiB [idle: 76 instead of 201 MB].
    "-Dio.netty.allocator.maxOrder=5",
    "-Dio.grpc.netty.shaded.io.netty.allocator.maxOrder=5",
    "-XX:-UsePerfData",
)

# Buffers of this size and above are mapped on their own, and go back to the system when they are freed.
MAPPED = 4 << 20

# TorchServe hands each request to a worker through Java's common pool. Below two threads, which is its size on two cores,
# CompletableFuture makes a thread for each request instead [p50 2.7 ms instead of 1.7, Java's CPU 1.2 ms instead of 0.7].
POOLED = 2


@dataclass(frozen=True)
class WorkerSettings:
    """How many workers TorchServe has, and what each may take: bytes for one picture above the loaded archive, and seconds."""

    count: int
    picture_bytes: int
    hang_s: float = HANG_S


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


def write_config(home: Path, archive: Path, ports: Ports, workers: WorkerSettings) -> Path:
    """Write TorchServe's configuration, and return its path. Raises ServeError."""
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
    with naming(path):
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


def command(java: str, home: Path, config: Path, model_store: Path, workers: int) -> list[str]:
    """The command that starts TorchServe. Raises ServeError where it is not installed."""
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


def environment(home: Path, workers: WorkerSettings) -> dict[str, str]:
    """The environment of TorchServe and its workers."""
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

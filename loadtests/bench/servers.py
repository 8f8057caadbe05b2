"""The servers that are compared, and how each is started, asked and stopped."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from loadtests import local_server
from loadtests.bench.forms import BINARY, GRPC, JSON, V2_FORMS, Form, raw, upload
from loadtests.bench.model import Model
from loadtests.bench.processes import stop
from loadtests.errors import ServerFailed
from loadtests.peers.environment import PEERS, EnvironmentFailed, environment_of, python_of
from visor.serving.ports import free_ports

TAIL_CHARACTERS = 1500


@dataclass(frozen=True)
class Running:
    """A server that was started, ready or not: HOST:PORT of each protocol, its process, and its last words."""

    http: str
    grpc: str
    pid: int
    ended: Callable[[], bool]
    tail: Callable[[], str]


@dataclass(frozen=True)
class Server:
    """One server and the ways to ask it. `start`: (model, workers) → the running server, until the block's end.

    `most_workers`: where it cannot use all that there are. `own_preprocessing`: it may see another class in a picture.
    """

    forms: Mapping[str, Form]
    start: Callable[[Model, int], AbstractContextManager[Running]]
    most_workers: int | None = None
    own_preprocessing: bool = False


@contextmanager
def _visor(model: Model, _workers: int) -> Iterator[Running]:
    """`visor serve` takes one worker for each CPU by itself. Raises ServerFailed."""
    with local_server.serving(model.archive, model.public_key) as server:
        yield Running(server.rest, server.grpc, server.pid, lambda: False, lambda: "")


def _peer(name: str) -> Callable[[Model, int], AbstractContextManager[Running]]:
    @contextmanager
    def start(model: Model, workers: int) -> Iterator[Running]:
        http, grpc = free_ports(2)
        command = [str(python_of(name)), str(PEERS / name / "server.py"), "--model", str(model.unpacked)]
        command += ["--port", str(http), "--grpc-port", str(grpc), "--workers", str(workers)]
        with tempfile.TemporaryFile() as log:
            environment = {**environment_of(), "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)

            def tail() -> str:
                log.seek(0)
                return log.read().decode(errors="replace")[-TAIL_CHARACTERS:].strip()

            try:
                yield Running(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", process.pid, lambda: process.poll() is not None, tail)
            finally:
                stop(process)

    return start


def prepare(name: str) -> None:
    """Make a peer's environment ahead, so that no start-up time has it in it. Raises ServerFailed."""
    if (PEERS / name / "server.py").exists():
        try:
            python_of(name)
        except EnvironmentFailed as err:
            raise ServerFailed(str(err)) from err


# A server is ready when it answers its first form, and these two do not answer binary requests at all.
V2_JSON_FIRST = {form: V2_FORMS[form] for form in (JSON, GRPC, BINARY)}
SERVERS: Mapping[str, Server] = {
    "visor": Server(V2_FORMS, _visor),
    "image_classifier": Server({"body": raw("/predictions/{model}")}, _peer("image_classifier"), own_preprocessing=True),
    "kserve": Server(V2_JSON_FIRST, _peer("kserve")),
    "mlserver": Server(V2_JSON_FIRST, _peer("mlserver"), most_workers=1),
    "litserve": Server({"upload": upload("/predict", "request")}, _peer("litserve")),
    "rayserve": Server({"body": raw("/")}, _peer("rayserve")),
    "triton": Server(V2_FORMS, _peer("triton")),
    "bentoml": Server({"upload": upload("/classify", "image")}, _peer("bentoml")),
}

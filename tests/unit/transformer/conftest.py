"""A TorchServe in miniature: the archive's real handler behind the two HTTP APIs that the edge calls."""

import asyncio
import contextlib
import functools
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from aiohttp import web
from PIL import Image
from safetensors.torch import save_file

from handlers.entry import VisorHandler
from handlers.networks import build
from handlers.spec import Limits, Spec
from tests.unit.specs import make_spec
from transformer.listening import Listening
from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.server import serve_edge
from transformer.service import Service
from transformer.settings import EdgeLimits, EdgeSettings
from transformer.upstream.torchserve import TorchServe

DIGEST = "ab" * 32
ANSWER = {
    "label": "intact",
    "confidence": 0.5,
    "probabilities": [0.5, 0.25, 0.25],
    "decision": "pass",
    "threshold": 0.4,
    "heatmap": None,
    "heatmap_label": None,
    "seconds": {"infer": 0.001},
}
"""The handler's answer for one image of the archive in `archive_folder`."""


@dataclass
class Context:
    """TorchServe's context of one request, as the handler uses it."""

    system_properties: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200

    def get_all_request_header(self, _: int) -> dict[str, str]:
        return self.headers

    def set_response_status(self, status: int, _phrase: str, _n: int) -> None:
        self.status = status

    def set_response_content_type(self, _n: int, _kind: str) -> None: ...


@dataclass
class MiniTorchServe:
    """`reply` stands in for the handler when set; `workers` is what the management API tells. `keys`: those asked for, by API.

    `slow_s`: how long the management API takes."""

    name: str
    handler: VisorHandler
    url: str = ""
    reply: Callable[[web.Request, bytes], Awaitable[web.StreamResponse]] | None = None
    workers: Any = field(default_factory=lambda: [{"id": "9000", "status": "READY"}])
    keys: dict[str, str] = field(default_factory=dict)
    calls: list[dict[str, str]] = field(default_factory=list)
    polls: int = 0
    cancelled: int = 0
    slow_s: float = 0.0

    async def predict(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if refusal := self.check(request, "inference"):
            return refusal
        self.calls.append({key.lower(): value for key, value in request.headers.items()})
        if self.reply is not None:
            try:
                return await self.reply(request, body)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        context = Context({}, self.calls[-1])
        [answer] = self.handler.handle([{"body": bytearray(body)}], context)
        return web.Response(text=answer, status=context.status)

    def check(self, request: web.Request, api: str) -> web.Response | None:
        """TorchServe's refusal of a request without its API's key."""
        if api in self.keys and request.headers.get("Authorization") != f"Bearer {self.keys[api]}":
            return web.json_response({"code": 400, "type": "InvalidKeyException", "message": "Token ..."}, status=400)
        return None

    async def describe(self, request: web.Request) -> web.StreamResponse:
        self.polls += 1
        await asyncio.sleep(self.slow_s)
        if refusal := self.check(request, "management"):
            return refusal
        if self.workers is None:
            return web.json_response({"code": 404, "type": "ModelNotFoundException", "message": "Model not found"}, status=404)
        return web.json_response([{"modelName": self.name, "workers": self.workers}])

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post(f"/predictions/{self.name}", self.predict)
        app.router.add_get(f"/models/{self.name}", self.describe)
        return app


@pytest.fixture(scope="session")
def spec() -> Spec:
    return make_spec(
        ("intact", "damaged", "unsure"),
        height=32,
        width=32,
        name="roofs",
        version="3",
        temperature=1.5,
        positive=("damaged",),
        threshold=0.4,
        cost=((0, 1, 1), (5, 0, 1), (1, 1, 0)),
        limits=Limits(max_bytes=100_000, max_pixels=1_000_000),
    )


def write_archive(folder: Path, spec: Spec) -> Path:
    """Write an unpacked archive of a network with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build(spec.network, len(spec.labels))
        torch.nn.init.normal_(network.head.weight, std=2.0)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "spec.json").write_text(spec.model_dump_json())
    return folder


def load_handler(folder: Path) -> VisorHandler:
    """Load an unpacked archive as TorchServe's worker does."""
    handler = VisorHandler()
    handler.initialize(Context({"model_dir": str(folder)}))
    return handler


@pytest.fixture(scope="session")
def archive_folder(spec: Spec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"), spec)


@pytest.fixture(scope="session")
def handler(archive_folder: Path) -> VisorHandler:
    return load_handler(archive_folder)


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Four PNGs of noise, 40 x 48."""
    rng = np.random.default_rng(7)
    encoded = []
    for _ in range(4):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(file, "PNG")
        encoded.append(file.getvalue())
    return encoded


@pytest.fixture
def ask_handler(handler: VisorHandler) -> Callable[..., dict[str, Any]]:
    """The handler's own answer to one body: what the edge must hand on."""

    def ask(body: bytes, **headers: str) -> dict[str, Any]:
        context = Context({}, {f"x-visor-{key}": value for key, value in headers.items()})
        answer: dict[str, Any] = json.loads(handler.handle([{"body": bytearray(body)}], context)[0])
        return answer

    return ask


@contextlib.asynccontextmanager
async def start_torchserve(handler: VisorHandler, spec: Spec) -> AsyncIterator[MiniTorchServe]:
    """Listen on a free port until the block ends."""
    mini = MiniTorchServe(spec.name, handler)
    runner = web.AppRunner(mini.app(), shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    mini.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield mini
    await runner.cleanup()


@pytest.fixture
async def torchserve(handler: VisorHandler, spec: Spec) -> AsyncIterator[MiniTorchServe]:
    async with start_torchserve(handler, spec) as mini:
        yield mini


@pytest.fixture
async def upstream(torchserve: MiniTorchServe, spec: Spec) -> AsyncIterator[TorchServe]:
    with contextlib.closing(TorchServe(torchserve.url, spec.name, torchserve.url, ready_cache_s=0.0)) as upstream:
        yield upstream


@pytest.fixture
def service(upstream: TorchServe, spec: Spec) -> Service:
    return Service(spec, DIGEST, upstream, Metrics(spec, DIGEST), limits=EdgeLimits(max_images=6, max_body_bytes=400_000))


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The REST app without a network."""
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        yield client


@dataclass
class Edge:
    """A running edge: REST and gRPC on ports of their own."""

    bound: Listening
    stop: asyncio.Event
    task: "asyncio.Task[None]"

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.bound.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.bound.grpc_port}"


@pytest.fixture
def settings(torchserve: MiniTorchServe) -> EdgeSettings:
    """An edge of small limits before the miniature TorchServe."""
    return EdgeSettings(
        inference_url=torchserve.url,
        management_url=torchserve.url,
        host="127.0.0.1",
        http_port=0,
        grpc_port=0,
        torchserve_keys=None,
        limits=EdgeLimits(max_body_bytes=400_000, max_images=6, timeout_s=5.0),
        ready_cache_s=0.0,
        grace_s=3.0,
        drain_s=1.0,
    )


@contextlib.asynccontextmanager
async def _running(spec: Spec, settings: EdgeSettings) -> AsyncIterator[Edge]:
    stop = asyncio.Event()
    bound: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_edge(spec, DIGEST, settings, bound.set_result, stop))
    await asyncio.wait({task, bound}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    yield Edge(bound.result(), stop, task)
    stop.set()
    await task


@pytest.fixture
def start_edge(spec: Spec) -> Callable[[EdgeSettings], contextlib.AbstractAsyncContextManager[Edge]]:
    """Run an edge of other settings."""
    return functools.partial(_running, spec)


@pytest.fixture
async def edge(spec: Spec, settings: EdgeSettings) -> AsyncIterator[Edge]:
    async with _running(spec, settings) as edge:
        yield edge


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody listens on, kept from others while the test runs."""
    import socket

    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]

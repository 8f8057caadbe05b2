"""A console on a port of its own, in front of a real edge whose archive has random weights."""

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from console.serve import listen, make_server
from console.settings import Settings
from console.state import Console
from tests.unit.transformer.conftest import (
    DIGEST,
    Edge,
    MiniTorchServe,
    archive_folder,
    edge,
    handler,
    images,
    spec,
    start_edge,
    torchserve,
)
from transformer.settings import EdgeSettings

__all__ = (
    "DIGEST", "Edge", "MiniTorchServe", "archive_folder", "edge", "handler", "images", "spec", "start_edge",
    "torchserve",
)  # fmt: skip


@pytest.fixture
def settings(torchserve: MiniTorchServe) -> EdgeSettings:
    """An edge before the miniature TorchServe, with time enough for a machine that does other work."""
    return EdgeSettings(
        inference_url=torchserve.url,
        management_url=torchserve.url,
        host="127.0.0.1",
        http_port=0,
        protocol="rest",
        torchserve_keys=None,
        ready_cache_s=0.0,
        grace_s=3.0,
        drain_s=0.1,
        request_log="none",
    )


@contextlib.asynccontextmanager
async def running(chosen: Settings) -> AsyncIterator[tuple[str, Console]]:
    """Run a console until the block ends: its address, and its parts."""
    server = make_server(chosen)
    with listen(chosen) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            assert not task.done(), task.result()
            await asyncio.sleep(0.005)
        app: Any = server.config.app
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", app.state.console
        server.should_exit = True
        await task


@pytest.fixture
def choose(edge: Edge, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a console in front of the edge, which keeps what it keeps in a folder of the test's."""

    def chosen(**more: Any) -> Settings:
        return Settings(**{"servers": f"http://{edge.http}", "port": 0, "folder": tmp_path / "console", **more}, _env_file=None)

    return chosen


@pytest.fixture
async def console(choose: Callable[..., Settings]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a console that everybody on this machine may use."""
    async with running(choose()) as (address, _), httpx.AsyncClient(base_url=address, timeout=30) as client:
        yield client


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def encoded(form: str, side: int = 24, **options: Any) -> bytes:
    """A picture of two colours."""
    file = io.BytesIO()
    picture = Image.new("RGB", (side, side), (200, 40, 40))
    picture.paste((30, 90, 200), (0, 0, side // 2, side))
    picture.save(file, form, **options)
    return file.getvalue()

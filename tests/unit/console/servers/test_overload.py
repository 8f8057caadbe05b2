"""A server whose own line is short, and more uploads at once than it takes: all of them are answered."""

import asyncio
import dataclasses

import httpx
import pytest

from console.settings import Settings
from tests.unit.console.conftest import Edge, running
from transformer.settings import EdgeSettings


@pytest.fixture
def settings(settings: EdgeSettings) -> EdgeSettings:
    return dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, max_queue=3, max_images=3))


async def test_all_are_answered_by_a_server_that_refuses_some(edge: Edge, images: list[bytes]) -> None:
    chosen = Settings(servers=f"http://{edge.http}", port=0, concurrency=16, _env_file=None)
    async with running(chosen) as (address, console), httpx.AsyncClient(base_url=address, timeout=60) as client:

        async def ask(n: int) -> int:
            return (await client.post("/predict", files={"image": images[n % 4]})).status_code

        assert await asyncio.gather(*(ask(n) for n in range(200))) == [200] * 200
        assert (console.metrics.registry.get_sample_value("visor_console_retries_total") or 0) > 0

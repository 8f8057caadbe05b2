"""One worker or two that answer when they are told to, and an upstream that knows them by their sockets."""

import contextlib

import pytest

from tests.unit.transformer.upstream.at_hand.told import told
from transformer.upstream.torchserve import TorchServe


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
async def one(folder):
    async with told(folder, "1") as worker:
        yield worker


@pytest.fixture
def hang_s():
    return 10.0


@pytest.fixture
async def upstream(torchserve, folder, hang_s):
    torchserve.workers = []  # those that answer here are known by their sockets alone
    with contextlib.closing(
        TorchServe(torchserve.url, "roofs", torchserve.url, folder, ready_cache_s=0.0, hang_s=hang_s)
    ) as upstream:
        yield upstream


@pytest.fixture
async def alone(one, upstream):
    """One worker."""
    await upstream.direct.connect_new()
    return one


@pytest.fixture
async def both(folder, alone, upstream):
    """Two workers, the first of which is asked first."""
    async with told(folder, "2") as other:
        await upstream.direct.connect_new()
        yield alone, other

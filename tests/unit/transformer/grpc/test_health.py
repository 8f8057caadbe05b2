"""grpc.health.v1, as Kubernetes' probes and load-balancing clients ask it."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from transformer.grpc.messages import SERVICE

SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


@pytest.fixture
async def health(edge):
    async with grpc.aio.insecure_channel(edge.grpc) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def about(name):
    return health_pb2.HealthCheckRequest(service=name)


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_it_serves_while_a_worker_is_ready(health, torchserve, name):
    assert (await health.Check(about(name))).status == SERVING
    good, torchserve.workers = torchserve.workers, [{"status": "LOADING"}]
    assert (await health.Check(about(name))).status == NOT_SERVING
    torchserve.workers = good
    assert (await health.Check(about(name))).status == SERVING


async def test_other_services_are_not_found(health):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(about("tensorflow.serving"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert SERVICE in caught.value.details()


async def test_a_watcher_is_told_of_changes_and_of_the_end(edge, health, torchserve):
    watching = health.Watch(about(SERVICE))
    assert (await watching.read()).status == SERVING
    good, torchserve.workers = torchserve.workers, []
    assert (await watching.read()).status == NOT_SERVING
    torchserve.workers = good
    assert (await watching.read()).status == SERVING
    edge.stop.set()
    assert (await watching.read()).status == NOT_SERVING
    assert await watching.read() is grpc.aio.EOF
    async with asyncio.timeout(2.5):
        await edge.task


async def test_a_watcher_of_another_service_is_told_so_and_not_cut_off(health):
    watching = health.Watch(about("other"))
    assert (await watching.read()).status == UNKNOWN
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watching.read(), 0.1)

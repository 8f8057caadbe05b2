"""gRPC's own health service, grpc.health.v1, which Kubernetes' gRPC probes and load-balancing clients ask."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from handlers.errors import VisorError
from transformer.errors import grpc_code, show
from transformer.grpc.messages import SERVICE
from transformer.grpc.receiving import Receiver
from transformer.service import Service

WATCH_S = 0.5
NAME = "grpc.health.v1.Health"
MAX_BYTES = 4096  # of a question: a service's name

Response = health_pb2.HealthCheckResponse


class Health:
    """The health of the server ("") and of one gRPC service by its name; it agrees with /v2/health/ready.

    The package's own servicer has to be told of each change; this one finds out when it is asked, as REST does.
    """

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self._known = ("", name)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the protocol
        """Answer with the present state; NOT_FOUND for an unknown service."""
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {show(request.service)} here; {self._known[1]} is")
        return Response(status=await self._status(request.service))

    async def Watch(self, request: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answer with the state now and at each change, until the server is about to stop, which an open call would hold up."""
        told = None
        while True:
            last = self._service.draining
            status = await self._status(request.service)
            if status != told:
                yield Response(status=status)
                told = status
            if last:
                return
            await asyncio.sleep(WATCH_S)

    async def _status(self, name: str) -> Any:
        if name not in self._known:
            return Response.SERVICE_UNKNOWN
        return Response.SERVING if await self._service.ready() else Response.NOT_SERVING


def health_handlers(service: Service, receiver: Receiver) -> grpc.GenericRpcHandler:
    """Make the handlers of the health service; its messages are received as all others are."""
    health = Health(service, SERVICE)

    async def read(context: Any) -> Any:
        try:
            with service.budget.open() as charge:
                return health_pb2.HealthCheckRequest.FromString((await receiver.receive(context, charge))[:MAX_BYTES])
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is no grpc.health.v1.HealthCheckRequest")
        except VisorError as err:
            await context.abort(grpc_code(err), str(err))

    async def check(_: Any, context: Any) -> bytes:
        answered: bytes = (await health.Check(await read(context), context)).SerializeToString()
        return answered

    async def watch(_: Any, context: Any) -> AsyncIterator[bytes]:
        async for answer in health.Watch(await read(context), context):
            yield answer.SerializeToString()

    methods = {"Check": grpc.stream_unary_rpc_method_handler(check), "Watch": grpc.stream_stream_rpc_method_handler(watch)}
    return grpc.method_handlers_generic_handler(NAME, methods)

"""gRPC's own health service, grpc.health.v1: what Kubernetes' gRPC probes and clients that balance load ask."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from transformer.errors import show
from transformer.service import Service

WATCH_S = 0.5

Response = health_pb2.HealthCheckResponse


class Health:
    """Health of the server ("") and of one gRPC service by its name: the same truth as /v2/health/ready.

    The package's own servicer is told of each change; this one asks when it is asked, as REST does.
    """

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self._known = ("", name)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the protocol
        """The state now; NOT_FOUND for a service that is not here."""
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {show(request.service)} here; {self._known[1]} is")
        return Response(status=await self._status(request.service))

    async def Watch(self, request: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802
        """The state, now and at each change; ends when the server is about to stop, which it would hold up."""
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

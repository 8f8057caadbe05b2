"""gRPC's own health service, grpc.health.v1, which Kubernetes' gRPC probes and load-balancing clients ask."""

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

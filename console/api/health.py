"""Whether the console lives, is ready, and what its servers say; and its metrics. None of these asks for a key."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from console.state import Console


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Health(BaseModel):
    """`status`: of the console itself; `models`: of those that its servers told last; `trouble`: by code, why others did not."""

    status: Literal["ready", "not ready"] = Field(examples=["ready"])
    models: list[str] = Field(examples=[["roofs"]])
    trouble: list[str] = Field(examples=[[]])


def routes(console: Console) -> APIRouter:
    """Make the routes of health and metrics."""
    router = APIRouter(tags=["health"])

    @router.get("/health/live", response_model=Live)
    async def live() -> Live:
        """Say that the process answers."""
        return Live()

    # A console whose servers are down still shows its page, which says so, and its queue: that is no reason to be taken out.
    @router.get("/health/ready", responses={503: {"model": Health}}, response_model=Health)
    @router.get("/health", responses={503: {"model": Health}}, response_model=Health)
    async def ready() -> Response:
        """Say whether the console can be used, and what its servers say: 503 where a changed file of keys cannot be read."""
        troubles = await console.servers.troubles()
        if console.keys.trouble:
            troubles.append(console.keys.trouble.code)
        names = [name for server in console.servers.all for name in server.models]
        health = Health(status="not ready" if console.keys.trouble else "ready", models=names, trouble=troubles)
        return JSONResponse(health.model_dump(), 503 if console.keys.trouble else 200)

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(console.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    return router

"""`GET /models` and `GET /models/NAME`: what the servers tell of their models."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from console.access.asking import Allowed
from console.api.documents import ASKING, documented
from console.errors import ModelUnknown
from console.servers.models import Model
from console.state import Console


class Models(BaseModel):
    """The models of all servers."""

    models: list[Model]


def routes(console: Console) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["models"], dependencies=[Depends(Allowed("predict"))])

    @router.get("/models", responses=documented(*ASKING))
    async def list_models() -> Models:
        """List the models that can be asked, each with its labels, rule, curve and groups."""
        return Models(models=await console.servers.models())

    @router.get("/models/{name}", responses=documented(*ASKING, ModelUnknown))
    async def one_model(name: Annotated[str, "the model's name"]) -> Model:
        """Tell of one model."""
        return await console.servers.model(name)

    return router

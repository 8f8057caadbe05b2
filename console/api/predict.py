"""`POST /predict`: one picture."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from console.access.asking import Allowed
from console.access.keys import Key
from console.servers.models import Answer, Question
from console.state import Console


def routes(console: Console) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["predict"])

    @router.post("/predict", response_model=Answer)
    async def predict(
        request: Request,
        _: Annotated[Key, Depends(Allowed("predict"))],
        model: str | None = None,
        explain: bool = False,
        threshold: Annotated[float | None, Query(ge=0, le=1)] = None,
        group: str | None = None,
    ) -> Response:
        """Ask about one picture."""
        question = Question(explain=explain, threshold=threshold, group=group)
        answer = await console.servers.ask(model, await request.body(), question)
        return Response(answer.model_dump_json(), media_type="application/json")

    return router

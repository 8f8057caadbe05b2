"""A Starlette that takes a body and answers a constant of a V2 answer's size: the least that HTTP costs in Python."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ANSWER = bytes(700)


async def _take(request: Request) -> Response:
    await request.body()
    return Response(ANSWER)


app = Starlette(routes=[Route("/", _take, methods=["POST"])])

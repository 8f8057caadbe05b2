"""The OpenAPI document and the page that shows it: Swagger UI out of its package, nothing from any other host."""

from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from swagger_ui_bundle import swagger_ui_path

from transformer.rest.body import JSON
from transformer.rest.openapi import document
from transformer.service import Service

HERE = Path(__file__).parent
# By the names in the page's own addresses, which are relative: it may be served below another path.
FILES = {
    "page.js": HERE / "docs.js",
    "swagger-ui.css": Path(swagger_ui_path) / "swagger-ui.css",
    "swagger-ui-bundle.js": Path(swagger_ui_path) / "swagger-ui-bundle.js",
}
HEADERS = {
    # The style sheet's own pictures are data: addresses.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def docs_routes(service: Service) -> list[Route]:
    """Make the routes of `/openapi.json`, `/docs` and the page's files. The document is made once, as nothing in it changes."""
    limits, asks_tokens = service.limits, service.tokens is not None
    made = orjson.dumps(
        document(service.spec, service.archive_digest, limits.max_images, limits.max_body_bytes, asks_tokens=asks_tokens)
    )

    async def openapi(_: Request) -> Response:
        return Response(made, media_type=JSON)

    async def page(_: Request) -> Response:
        return FileResponse(HERE / "docs.html", headers=HEADERS)

    async def file(request: Request) -> Response:
        # The router knows these names alone, so no path of the client's is ever opened.
        return FileResponse(FILES[request.url.path.rpartition("/")[2]], headers=HEADERS)

    return [
        Route("/openapi.json", openapi, include_in_schema=False),
        Route("/docs", page, include_in_schema=False),
        *(Route(f"/docs/{name}", file, include_in_schema=False) for name in FILES),
    ]

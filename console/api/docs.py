"""The OpenAPI document and the page that shows it: Swagger UI out of its package, nothing from any other host."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from swagger_ui_bundle import swagger_ui_path

from console.errors import PathUnknown
from console.state import Console

HERE = Path(__file__).parent
FILES = {
    "page.js": HERE / "docs.js",
    "swagger-ui.css": Path(swagger_ui_path) / "swagger-ui.css",
    "swagger-ui-bundle.js": Path(swagger_ui_path) / "swagger-ui-bundle.js",
}
"""By the names in the page's own addresses, which are relative: it may be served below another path."""
HEADERS = {
    # The style sheet's own pictures are data: addresses, and answers that are pictures are shown from blob: ones.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


def routes(_: Console) -> APIRouter:
    """Make the routes. None of them asks for a key: what the page asks for does."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def document(request: Request) -> Response:
        return JSONResponse(request.app.openapi())

    @router.get("/docs")
    async def page() -> Response:
        return FileResponse(HERE / "docs.html", headers=HEADERS)

    @router.get("/docs/{name}")
    async def file(name: str) -> Response:
        if name not in FILES:
            raise PathUnknown("the page of the API has no such file")
        return FileResponse(FILES[name], headers=HEADERS)

    return router

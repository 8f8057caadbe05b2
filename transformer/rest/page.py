"""The page at `/`, on which a person asks about one picture; its files are static and ask nothing of any other host."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page/page.css": "page.css", "/page/page.js": "page.js"}
"""The files by their addresses. They say nothing of the model, so that they need no token; what the page asks for does."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def page_routes() -> list[Route]:
    """Make the routes of the page's files."""

    async def file(request: Request) -> Response:
        # The router knows these addresses alone, so no path of the client's is ever opened.
        return FileResponse(FOLDER / FILES[request.url.path], headers=HEADERS)

    return [Route(address, file, include_in_schema=False) for address in FILES]

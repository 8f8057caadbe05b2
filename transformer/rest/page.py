"""The page at `/`, on which a person asks about one picture; its files are static and ask nothing of any other host."""

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
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
    return [Route(address, _answering(FOLDER / name), include_in_schema=False) for address, name in FILES.items()]


def _answering(path: Path) -> Callable[[Request], Awaitable[Response]]:
    """Serve a file, which browsers ask for again each time: after an upgrade, none shows the page of the version before."""
    content = path.read_bytes()
    # Of the contents and not of their date, which images and wheels may have alike for two versions.
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "cache-control": "no-cache", "etag": tag}
    kind, _ = mimetypes.guess_type(path.name)

    async def file(request: Request) -> Response:
        known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
        if tag in known or known == ["*"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return file

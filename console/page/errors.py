"""Errors as pages, for people who open an address in a browser."""

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from console.access.keys import EVERYBODY
from console.errors import Told, Unauthenticated
from console.page.render import page
from console.state import console_of

HEADINGS = {403: "You may not see this", 404: "Nothing is here", 421: "Another host", 429: "Too often", 503: "Not now"}


def html_answer(request: Request, one: Told) -> Response | None:
    """Answer a page that cannot be shown by the sign-in, or by a page that says why; None for what no person reads."""
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return None
    if one.code == Unauthenticated.code:
        return RedirectResponse(f"sign-in?next={request.url.path.rpartition('/')[2] or './'}", 303)
    heading = HEADINGS.get(one.status, "This did not work")
    console = console_of(request)
    session = console.sessions.of(request)
    key = EVERYBODY if console.keys.open_to_all else session.key if session else None
    return page(request, "error.html", key, one.status, heading=heading, message=one.message, code=one.code, status=one.status)

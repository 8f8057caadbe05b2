"""Pages out of templates: what every page has, the entries of its head, and the headers that keep scripts out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from console.access.keys import Key
from console.access.scopes import Scope
from console.page import words
from console.state import console_of

FOLDER = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types console"
)
"""What a page may load: files of this console, and pictures out of the page itself. Scripts make HTML in one place alone."""
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "same-origin"}
"""Of every page. With `no-referrer`, as all else has, browsers would send a page's own forms with `Origin: null`."""


@dataclass(frozen=True)
class Entry:
    """A page that every page's head leads to. `address`: relative, so that a proxy may put the console below a path."""

    address: str
    name: str
    scope: Scope = "predict"


ENTRIES = (
    Entry("./", "Picture"),
    Entry("batch", "Batch"),
    Entry("reviews", "Review", "review"),
    Entry("releases", "Releases"),
    Entry("drift", "Drift"),
    Entry("docs", "API"),
)
"""The pages of the head, in their order. Another room's page stands here, too."""

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["percent"] = words.percent
_ENVIRONMENT.filters["number"] = words.number


def page(request: Request, template: str, key: Key | None, answer_status: int = 200, **values: Any) -> HTMLResponse:
    """Make a page. `key`: who looks at it, None for nobody yet. `values`: what its template fills in."""
    console = console_of(request)
    session = console.sessions.of(request)
    common = {
        "nav": [entry for entry in ENTRIES if key is not None and key.may(entry.scope)],
        "here": request.url.path.rpartition("/")[2] or "./",
        "who": session.key.name if session and key else "",
        "csrf": console.sessions.token(session) if session else "",
        "open": console.keys.open_to_all,
    }
    return HTMLResponse(fragment(template, **common, **values), answer_status, HEADERS)


def fragment(template: str, **values: Any) -> str:
    """Fill in a template; whatever stands for itself in HTML is escaped."""
    return _ENVIRONMENT.get_template(template).render(**values)

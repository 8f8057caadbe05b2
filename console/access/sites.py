"""What browsers may ask for: pages of this host alone, and changes from the console's own pages alone."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from console.errors import CrossSite, HostUnknown, told

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_HOST = ("/health", "/metrics")
"""Addresses that probes and Prometheus ask by a pod's own address, whatever that is."""


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to the console or to a proxy that says so; a client that lies harms itself alone."""
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"


def check_site(request: Request) -> None:
    """Refuse a change that a browser sends for another site's page. Clients other than browsers say neither. Raises CrossSite."""
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("sec-fetch-site", "none"), request.headers.get("origin")
    other = origin is not None and origin.partition("://")[2] != request.headers.get("host", "")
    if site not in ("none", "same-origin") or other:
        raise CrossSite("another site's page may not ask this console; open the console's own page")


def host_of(header: str) -> str:
    """The name of a header Host without its port, in small letters: `[::1]:8090` → `::1`."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


class HostCheck:
    """Answers requests for other hosts by an error, so that no name that is made to point here (DNS rebinding) reads a page.

    `allowed`: names of hosts; empty for any, where keys protect everything and cookies are of one host anyway.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self.app, self.allowed = app, frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.allowed and not scope["path"].startswith(ANY_HOST):
            name = host_of(Headers(scope=scope).get("host", ""))
            if name not in self.allowed:
                await refuse(
                    HostUnknown(f"this console is not {name[:80]!r}; name that host in VISOR_CONSOLE_ALLOWED_HOSTS"),
                    scope,
                    receive,
                    send,
                )
                return
        await self.app(scope, receive, send)


def allowed_hosts(listening: str, named: Collection[str], *, open_to_all: bool) -> frozenset[str]:
    """Which hosts a console answers for: loopback's and what it was told; with keys and no names, any (the empty set)."""
    if not named and not open_to_all:
        return frozenset()
    return frozenset({*LOOPBACK, host_of(listening) if ":" not in listening else listening, *(name.lower() for name in named)})


async def refuse(err: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by an error, as the console's routes do."""
    found = told(err)
    await JSONResponse(found.body(), found.status)(scope, receive, send)

"""Who asks: the key of a request, by its header, and whether it may do that."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from console.access.keys import EVERYBODY, Key, Scope
from console.errors import CrossSite, ScopeMissing, Unauthenticated
from console.state import Console, console_of

BEARER = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key of `visor console key`, as `Authorization: Bearer KEY`."
)
CHALLENGE = 'Bearer realm="visor-console"'


def key_of(request: Request, console: Console) -> Key | None:
    """The key of a request: of its header, else what a session has put into `request.state.key`; None for nobody."""
    if console.keys.open_to_all:
        _check_site(request)
        return EVERYBODY
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return console.keys.find(secret.strip())
    signed_in: Key | None = getattr(request.state, "key", None)
    return signed_in


def _check_site(request: Request) -> None:
    """Refuse what a browser sends for another site's page, where no key is asked for. Raises CrossSite."""
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    other = origin is not None and origin.partition("://")[2] != request.headers.get("host", "")
    if request.method not in ("GET", "HEAD") and (site not in ("none", "same-origin") or other):
        raise CrossSite("another site's page may not ask this console; open the console's own page")


class Allowed:
    """A route's dependency: the key that asks, which has this scope and something left of its minute."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request, _: Annotated[object, Depends(BEARER)]) -> Key:
        """Raise Unauthenticated, ScopeMissing, LimitReached, CrossSite."""
        console = console_of(request)
        key = key_of(request, console)
        if key is None:
            raise Unauthenticated("this console asks for a key: send `Authorization: Bearer KEY`")
        if not key.may(self.scope):
            raise ScopeMissing(f"the key {key.name} may not do this; it takes a key with the scope {self.scope}")
        length = request.headers.get("content-length", "")
        console.keys.take(key, 1, int(length) if length.isdecimal() else 0)
        request.state.key = key
        return key

"""Who asks: the key of a request, by its header, and whether it may do that."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from console.access.keys import EVERYBODY, Key
from console.access.scopes import Scope
from console.access.sites import check_site
from console.errors import ScopeMissing, Unauthenticated
from console.state import Console, console_of

BEARER = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key of `visor console key`, as `Authorization: Bearer KEY`."
)
CHALLENGE = 'Bearer realm="visor-console"'


def key_of(request: Request, console: Console) -> Key | None:
    """The key of a request: of its header, else of its session; None for nobody. Raises CrossSite."""
    if console.keys.open_to_all:
        check_site(request)
        return EVERYBODY
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return console.keys.find(secret.strip())
    return console.sessions.key_of(request)


class Allowed:
    """A route's dependency: the key that asks, which has this scope and something left of its minute."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request, _: Annotated[object, Depends(BEARER)]) -> Key:
        """See `check`."""
        return self.check(request)

    def check(self, request: Request) -> Key:
        """Raise Unauthenticated, ScopeMissing, LimitReached, CrossSite."""
        console = console_of(request)
        key = self.find(request, console)
        if key is None:
            raise Unauthenticated("this console asks for a key: send `Authorization: Bearer KEY`")
        if not key.may(self.scope):
            raise ScopeMissing(f"the key {key.name} may not do this; it takes a key with the scope {self.scope}")
        length = request.headers.get("content-length", "")
        # What a head declares is not sent yet: one beyond all limits is refused, and must not end the key for days.
        console.keys.take(key, 1, min(int(length), console.settings.most_upload) if length.isdecimal() else 0)
        request.state.key = key
        return key

    def find(self, request: Request, console: Console) -> Key | None:
        """The key of a request, None for nobody. Raises CrossSite."""
        return key_of(request, console)

"""The page's sign-in: a key for a cookie, so that a browser need not keep the key, and no other site's page can use it.

A cookie names the session's id, its key's digest and its end, signed; so sessions hold over replicas and restarts that share the
secret, and end with their key. Each sign-in makes a new id: a cookie that somebody planted before is worth nothing after it. A
request that changes something brings the session's token, too, which other sites' pages cannot read.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

from console.access.keys import Key, Keys
from console.access.sites import check_site, is_secure
from console.errors import CrossSite, SettingsInvalid
from handlers.errors import unread

LIFETIME_S = 12 * 3600
"""After so long a person signs in again: a working day."""
HEADER, FIELD = "x-csrf-token", "csrf"
"""Where a request brings its session's token: a header, or a field of a form."""
LEAST_SECRET = 32
"""Bytes of a secret file, at least."""


@dataclass(frozen=True)
class Session:
    """A signed-in browser. `until`: seconds since the epoch."""

    id: str
    key: Key
    until: float


@dataclass
class Sessions:
    """The sessions of a console. `secret`: what signs them."""

    keys: Keys
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(LEAST_SECRET), repr=False)
    _ended: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, keys: Keys, secret_file: Path | None) -> "Sessions":
        """Read the secret; without a file it is made in memory. Raises SettingsInvalid."""
        if secret_file is None:
            return cls(keys)
        try:
            secret = secret_file.read_bytes().strip()
        except OSError as err:
            raise SettingsInvalid(f"{secret_file} {unread(err)}; `openssl rand -hex 32` makes a secret") from err
        if len(secret) < LEAST_SECRET:
            raise SettingsInvalid(
                f"{secret_file} has {len(secret)} bytes, fewer than {LEAST_SECRET}; `openssl rand -hex 32` makes a secret"
            )
        return cls(keys, secret)

    def begin(self, key: Key, now: float | None = None) -> Session:
        """Begin a session with an id of its own."""
        return Session(secrets.token_urlsafe(16), key, (time.time() if now is None else now) + LIFETIME_S)

    def cookie(self, session: Session) -> str:
        """Write a session's cookie."""
        return str(self._signer.dumps([session.id, session.key.sha256, session.until]))

    def read(self, cookie: str, now: float | None = None) -> Session | None:
        """Read a cookie; None where it is forged, over, signed out, or of a key that there is no more."""
        try:
            name, digest, until = self._signer.loads(cookie)
        except (BadData, TypeError, ValueError):
            return None
        key = self.keys.by_digest(digest)
        if key is None or until <= (time.time() if now is None else now) or name in self._ended:
            return None
        return Session(name, key, until)

    def end(self, session: Session) -> None:
        """End a session before its time, in this process; other replicas know only that the browser's cookie is gone."""
        now = time.time()
        self._ended = {name: until for name, until in self._ended.items() if until > now} | {session.id: session.until}

    def token(self, session: Session) -> str:
        """The token that proves a request to come from the console's own page."""
        return hmac.new(self.secret, f"csrf {session.id}".encode(), hashlib.sha256).hexdigest()

    def of(self, request: Request) -> Session | None:
        """The session of a request's cookie, None without one that holds."""
        cookie = request.cookies.get(cookie_name(request))
        return self.read(cookie) if cookie else None

    def check(self, request: Request, session: Session, token: str | None = None) -> None:
        """Refuse a changing request that does not come from the console's own page. `token`: of a form's field.

        Raises CrossSite.
        """
        if request.method in ("GET", "HEAD"):
            return
        check_site(request)
        given = token or request.headers.get(HEADER, "")
        if not hmac.compare_digest(given.encode(), self.token(session).encode()):
            raise CrossSite(f"a change by cookie needs the page's token in the header {HEADER}; load the page again")

    def key_of(self, request: Request) -> Key | None:
        """The key of a request by cookie, None for nobody. Raises CrossSite as `check` does."""
        session = self.of(request)
        if session is None:
            return None
        self.check(request, session)
        return session.key

    @property
    def _signer(self) -> URLSafeSerializer:
        return URLSafeSerializer(self.secret, salt="visor-console-session")


def cookie_name(request: Request) -> str:
    """The cookie's name. `__Host-`: browsers take it over TLS alone, and from this very host, so no neighbour can plant one."""
    return "__Host-visor-console" if is_secure(request) else "visor-console"


def give(response: Response, request: Request, value: str) -> None:
    """Give a browser its cookie, to be kept until it closes."""
    response.set_cookie(cookie_name(request), value, path="/", httponly=True, samesite="strict", secure=is_secure(request))


def take(response: Response, request: Request) -> None:
    """Take a browser's cookie away."""
    response.delete_cookie(cookie_name(request), path="/", httponly=True, samesite="strict", secure=is_secure(request))

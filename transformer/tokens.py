"""Bearer tokens (RFC 6750) decide who may ask the edge: a file of tokens, and the check of one request's."""

import hashlib
import hmac
import logging
import re
import time
from pathlib import Path

from handlers.errors import counted, unread
from transformer.errors import TokensUnusable, Unauthenticated
from transformer.followed import LOOK_S, Followed

logger = logging.getLogger(__name__)

AUTHORIZATION = "authorization"
"""The HTTP header, and over gRPC the metadata, that brings a token: `Bearer TOKEN`."""

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready", "/metrics"})
"""What is answered over HTTP without a token too: probes and scrapes bring none."""

OPEN_METHODS = frozenset({"ServerLive", "ServerReady"})
"""The same over gRPC, beside gRPC's own health service."""

LEAST_CHARACTERS = 16
"""A shorter token is refused, as it could be guessed."""

_TOKEN = re.compile(rf"[A-Za-z0-9._~+/-]{{{LEAST_CHARACTERS},4096}}=*")
_BEARER = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE)


class Tokens:
    """The tokens of a file, of which a request brings one.

    The file is read again when it has changed, which is looked at once in LOOK_S at most, on a request. A changed file that
    cannot be used leaves the tokens as they were, and the log says so. What is kept and compared are SHA-256 digests: the time
    of a comparison tells nothing of a token.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises TokensUnusable."""
        self._file = Followed(path)
        self._digests = _read_digests(path)
        self._looked = time.monotonic()

    def check(self, authorization: str | None) -> None:
        """Raise Unauthenticated unless the value of a request's header Authorization brings one of the tokens."""
        self._follow()
        if authorization is None:
            raise Unauthenticated("this server asks for a token; send the header Authorization: Bearer TOKEN")
        sent = _BEARER.fullmatch(authorization)
        if sent is None:
            raise Unauthenticated("the header Authorization is not of the form Bearer TOKEN")
        digest = _digest(sent[1])
        # Not any(): each one is compared, whichever of them is right.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthenticated("this token is none of the server's; ask its owner for one", "invalid_token")

    def _follow(self) -> None:
        """Read the file again if it has changed."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        if not self._file.changed():
            return
        try:
            self._digests = _read_digests(self._file.path)
        except TokensUnusable as err:
            logger.error("%s; the tokens before stay valid", err)  # noqa: TRY400 - the sentence says it
        else:
            logger.info("%s has changed: %s valid now", self._file.path, counted(len(self._digests), "token is", "tokens are"))


def read_tokens(path: Path) -> list[str]:
    """Read the tokens of a file, one a line; empty lines and those that begin with # do not count.

    Raises TokensUnusable when it has none, or a line is none. No error shows a line.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError as err:
        raise TokensUnusable(f"{path} {unread(err)}; a file of tokens is wanted, one a line") from err
    except UnicodeDecodeError as err:
        raise TokensUnusable(f"{path} holds other characters than a token may have") from err
    tokens = {n: line.strip() for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")}
    for n, token in tokens.items():
        if not _TOKEN.fullmatch(token):
            raise TokensUnusable(
                f"line {n} of {path} is no token: {LEAST_CHARACTERS} characters or more of A-Z, a-z, 0-9, -, ., _, ~, + and /, "
                "then any number of =; `openssl rand -hex 32` makes one"
            )
    if not tokens:
        raise TokensUnusable(f"{path} holds no token; write one a line")
    return list(tokens.values())


def _read_digests(path: Path) -> list[bytes]:
    return [_digest(token) for token in read_tokens(path)]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

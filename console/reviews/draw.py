"""Draws and pseudonyms that are the same in every process and at every time, by secrets that only the database has."""

import hashlib
import hmac

PSEUDONYM_DIGITS = 12


class Draw:
    """A draw of pictures by their bytes: each is drawn or not, however often it is asked about and whoever asks.

    Each picture has a number in [0, 1), HMAC-SHA-256 of its digest, and is drawn where that is below the share: nobody can
    choose a picture that is drawn without the secret, and who raises the share keeps those that were drawn before.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def number(self, digest: str) -> float:
        """The picture's number: the first 53 bits, as many as a float has."""
        drawn = hmac.digest(self._secret, digest.encode(), hashlib.sha256)
        return (int.from_bytes(drawn[:8]) >> 11) / (1 << 53)

    def draws(self, digest: str, share: float) -> bool:
        """Whether the picture is one of this share."""
        return self.number(digest) < share


class Pseudonyms:
    """Names of reviewers that stand for keys, and of which no key's name can be found."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, name: str) -> str:
        """The pseudonym of a key's name."""
        return hmac.digest(self._secret, name.encode(), hashlib.sha256).hex()[:PSEUDONYM_DIGITS]

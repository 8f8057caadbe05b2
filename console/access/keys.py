"""API keys: who asks, what they may do, and how much a minute.

A key is 256 random bits, of which the file has the SHA-256 alone: who reads the file can ask nothing by it. As the secret is
random and not chosen by a person, one fast hash is enough. A changed file is read again within a second.
"""

import fcntl
import hashlib
import math
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from console.access.scopes import SCOPES, Scope
from console.errors import KeysUnusable, LimitReached
from console.settings import MIB
from handlers.errors import undecoded, unread

MARK = "vck_"
"""How every key begins, so that searches for leaked secrets find it."""
REREAD_S = 1.0
MINUTE_S = 60.0
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Key(BaseModel):
    """A key as the file has it. `sha256`: of its secret; the limits are those of one minute."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME)
    scopes: frozenset[Scope] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    requests_per_minute: int = Field(default=1200, ge=1)
    mib_per_minute: int = Field(default=1024, ge=1)
    created: datetime | None = None

    def may(self, scope: Scope) -> bool:
        """Whether this key may do that; `admin` may do everything."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def holder(self) -> str:
        """Whose memory and batches it takes a share of, see `console.room`; "" where everybody is one."""
        return "" if self is EVERYBODY else self.name


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[Key, ...]


EVERYBODY = Key(
    name="everybody",
    scopes=frozenset(SCOPES),
    sha256="0" * 64,
    requests_per_minute=1_000_000_000,
    mib_per_minute=1_000_000_000,
)
"""Whoever asks a console without keys, which only this machine reaches. No secret has that digest."""


def digest_of(secret: str) -> str:
    """The SHA-256 of a key's secret, in hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a file of keys. Raises KeysUnusable."""
    try:
        text = path.read_text()
    except OSError as err:
        raise KeysUnusable(f"{path} {unread(err)}; `visor console key NAME --scope predict --keys-file FILE` writes one") from err
    except UnicodeDecodeError as err:
        raise KeysUnusable(f"{path} {undecoded(err)}") from err
    try:
        keys = _File.model_validate_json(text).keys
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise KeysUnusable(
            f"{path} is no file of keys: {place + ': ' if place else ''}{first['msg']}; "
            "`visor console key NAME --scope predict --keys-file FILE` writes one"
        ) from err
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise KeysUnusable(f"{path} has two keys of one name; each name stands for one key")
    return keys


def add_key(
    path: Path,
    name: str,
    scopes: Collection[Scope],
    requests_per_minute: int | None = None,
    mib_per_minute: int | None = None,
    *,
    replace: bool = False,
) -> str:
    """Write a new key into a file, which is made if need be; return its secret, which is nowhere else.

    `replace`: a key of that name gives way. Raises KeysUnusable.
    """
    if not re.match(_NAME, name):
        raise KeysUnusable(f"{name!r} is no name of a key: up to 64 letters, digits, ., _ and -, a letter or a digit first")
    with _changing(path):
        present = read_keys(path) if path.exists() else ()
        if not replace and any(key.name == name for key in present):
            raise KeysUnusable(f"{path} has a key {name} already; choose another name, or give --replace, which ends that key")
        secret = MARK + secrets.token_urlsafe(32)
        limits = {"requests_per_minute": requests_per_minute, "mib_per_minute": mib_per_minute}
        key = Key(
            name=name,
            scopes=frozenset(scopes),
            sha256=digest_of(secret),
            created=datetime.now(UTC).replace(microsecond=0),
            **{limit: value for limit, value in limits.items() if value is not None},
        )
        _write(path, [*(one for one in present if one.name != name), key])
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file. Raises KeysUnusable."""
    with _changing(path):
        present = read_keys(path)
        if all(key.name != name for key in present):
            raise KeysUnusable(f"{path} has no key {name}; it has {', '.join(key.name for key in present) or 'none'}")
        _write(path, [key for key in present if key.name != name])


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Let no other process change the file until the block ends, as it would lose what the other one adds. Raises KeysUnusable.

    The lock is on a file beside it, which stays: the file itself is replaced by each change.
    """
    try:
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError as err:
        raise KeysUnusable(f"the folder {path.parent} is not there; make it, or name a file in another one") from err
    except OSError as err:
        raise KeysUnusable(f"{path} cannot be written: {err.strerror or err}; name another file") from err
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, keys: Sequence[Key]) -> None:
    """Write the file whole, for its owner's eyes alone."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    text = _File(keys=tuple(keys)).model_dump_json(indent=2, exclude_none=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@dataclass
class _Used:
    """What is left to a key: it fills up evenly, to one minute's allowance at most. `bytes` may be overdrawn by one request."""

    requests: float
    bytes: float
    at: float


@dataclass
class Keys:
    """The keys of a console. `path`: None for a console that everybody on this machine may use."""

    path: Path | None
    _known: dict[str, Key] = field(default_factory=dict)
    _used: dict[str, _Used] = field(default_factory=dict)
    _read: float = -math.inf
    _state: tuple[int, int, int] | None = None
    trouble: KeysUnusable | None = None
    """Why a changed file was not taken; the keys from before go on."""

    @classmethod
    def open(cls, path: Path | None) -> "Keys":
        """Read the file. Raises KeysUnusable."""
        keys = cls(path)
        if path is not None:
            keys._follow(path)
            if keys.trouble:
                raise keys.trouble
        return keys

    @property
    def open_to_all(self) -> bool:
        """Whether there are no keys, and everybody who reaches the console may do everything."""
        return self.path is None

    def find(self, secret: str) -> Key | None:
        """The key with this secret, None where there is none."""
        return self.by_digest(digest_of(secret))

    def by_digest(self, digest: str) -> Key | None:
        """The key whose secret has this SHA-256, None where there is none any more."""
        if self.path is not None:
            self._follow(self.path)
        return self._known.get(digest)

    def take(self, key: Key, requests: int, size: int, now: float | None = None) -> None:
        """Count requests and bytes against a key's minute. Raises LimitReached where nothing is left."""
        now = time.monotonic() if now is None else now
        most_bytes = float(key.mib_per_minute * MIB)
        used = self._used.get(key.name) or _Used(key.requests_per_minute, most_bytes, now)
        passed = (now - used.at) / MINUTE_S
        requests_left = min(key.requests_per_minute, used.requests + passed * key.requests_per_minute)
        bytes_left = min(most_bytes, used.bytes + passed * most_bytes)
        self._used[key.name] = used = _Used(requests_left, bytes_left, now)
        if requests_left < requests:
            wait_s = MINUTE_S * (requests - requests_left) / key.requests_per_minute
            raise LimitReached(f"the key {key.name} may ask {key.requests_per_minute} times a minute", math.ceil(wait_s))
        if size and bytes_left <= 0:
            wait_s = MINUTE_S * (1 - bytes_left) / most_bytes
            raise LimitReached(f"the key {key.name} may send {key.mib_per_minute} MiB a minute", max(1, math.ceil(wait_s)))
        used.requests -= requests
        used.bytes -= size

    def _follow(self, path: Path) -> None:
        now = time.monotonic()
        if now - self._read < REREAD_S:
            return
        self._read = now
        try:
            state = _state(path)
            if state is None or state != self._state:
                self._known = {key.sha256: key for key in read_keys(path)}
            self._state, self.trouble = state, None
        except KeysUnusable as err:
            self.trouble = err


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content; None where there is no file to look at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

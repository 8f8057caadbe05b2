"""Sessions: what a cookie is worth, and when not. Expected ends are of `LIFETIME_S`, and a forged cookie is any other text."""

import base64
import json
from pathlib import Path

import pytest
from itsdangerous import URLSafeSerializer

from console.access.keys import Keys, add_key, digest_of, remove_key
from console.access.sessions import LIFETIME_S, Sessions
from console.errors import SettingsInvalid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def opened(path: Path, secret: bytes = b"s" * 32) -> Sessions:
    return Sessions(Keys.open(path), secret)


def test_a_cookie_is_its_keys_until_it_is_over(path: Path) -> None:
    sessions = opened_with(path)
    session = sessions.begin(sessions.keys.find(SECRETS[path]), now=1000.0)  # type: ignore[arg-type]
    cookie = sessions.cookie(session)
    assert sessions.read(cookie, now=1000.0 + LIFETIME_S - 1) == session
    assert sessions.read(cookie, now=1000.0 + LIFETIME_S) is None


SECRETS: dict[Path, str] = {}


def opened_with(path: Path) -> Sessions:
    """Sessions over a file with one key, whose secret is in SECRETS."""
    SECRETS[path] = add_key(path, "anna", ["predict"])
    return opened(path)


def test_each_sign_in_makes_another_id_and_another_token(path: Path) -> None:
    sessions = opened_with(path)
    key = sessions.keys.find(SECRETS[path])
    assert key
    one, other = sessions.begin(key), sessions.begin(key)
    assert one.id != other.id
    assert sessions.token(one) != sessions.token(other)


def test_a_forged_cookie_is_nothing(path: Path) -> None:
    sessions = opened_with(path)
    far = 4e9
    forged = URLSafeSerializer(b"t" * 32, salt="visor-console-session").dumps(["id", digest_of(SECRETS[path]), far])
    bare = base64.urlsafe_b64encode(json.dumps(["id", digest_of(SECRETS[path]), far]).encode()).decode()
    other_use = URLSafeSerializer(sessions.secret, salt="another").dumps(["id", digest_of(SECRETS[path]), far])
    of_another_form = URLSafeSerializer(sessions.secret, salt="visor-console-session").dumps({"id": 1})
    for cookie in (forged, bare, other_use, of_another_form, "", ".", "é", bare + "." + forged.rpartition(".")[2]):
        assert sessions.read(cookie) is None


def test_a_session_ends_by_signing_out_and_with_its_key(path: Path) -> None:
    sessions = opened_with(path)
    key = sessions.keys.find(SECRETS[path])
    assert key
    out, stays = sessions.begin(key), sessions.begin(key)
    sessions.end(out)
    assert sessions.read(sessions.cookie(out)) is None
    assert sessions.read(sessions.cookie(stays)) == stays
    remove_key(path, "anna")
    sessions.keys._read = float("-inf")  # as if the second until it is read again had passed
    assert sessions.read(sessions.cookie(stays)) is None


def test_replicas_with_one_secret_know_each_others_sessions(path: Path, tmp_path: Path) -> None:
    add_key(path, "anna", ["predict"])
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef" * 2 + "\n")
    one, other = (Sessions.open(Keys.open(path), file) for _ in range(2))
    [key] = one.keys._known.values()
    session = one.begin(key)
    assert other.read(one.cookie(session)) == session
    assert other.token(session) == one.token(session)
    assert Sessions.open(Keys.open(path), None).read(one.cookie(session)) is None


def test_a_secret_that_is_short_or_missing_is_refused(path: Path, tmp_path: Path) -> None:
    add_key(path, "anna", ["predict"])
    file = tmp_path / "secret"
    with pytest.raises(SettingsInvalid, match="openssl rand -hex 32"):
        Sessions.open(Keys.open(path), file)
    file.write_text("short")
    with pytest.raises(SettingsInvalid, match="5 bytes, fewer than 32"):
        Sessions.open(Keys.open(path), file)

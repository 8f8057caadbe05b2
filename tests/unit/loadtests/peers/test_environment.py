"""Which python runs a peer, and how peers read an image however it came."""

import base64
import hashlib
import sys
from pathlib import Path

import pytest

from loadtests.peers import environment
from loadtests.peers.classifier import raw_image


def test_a_peer_without_a_lock_runs_in_this_environment() -> None:
    assert environment.python_of("kserve") == Path(sys.executable)


def test_an_environment_that_was_made_is_taken_by_its_locks_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lock = Path(environment.__file__).parent / "mlserver/requirements.txt"
    home = tmp_path / "visor/peers" / f"mlserver-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    home.mkdir(parents=True)
    (home / ".installed").touch()
    assert environment.python_of("mlserver") == home / "bin/python"


def test_an_environment_that_cannot_be_made_is_an_error_with_uvs_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(environment.EnvironmentFailed, match=r"uv venv .* ended with \d+:\n.+"):
        environment.python_of("mlserver")


@pytest.mark.parametrize("picture", [b"\xff\xd8\xff\xe0jpeg", b"\x89PNG\r\n", b"RIFF....WEBP", b"BM\x00\x00", b"II*\x00"])
def test_an_image_is_the_same_raw_and_as_base64(picture: bytes) -> None:
    text = base64.b64encode(picture)
    assert raw_image(picture) == raw_image(text) == raw_image(text.decode()) == picture

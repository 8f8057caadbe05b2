"""How the console starts: in which order, and how it ends where a signal comes early."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from console import serve as module
from console.access.keys import add_key
from console.errors import SettingsInvalid
from console.reviews.database import Database


@pytest.mark.parametrize("wrong", ["port", "host", "keys"])
def test_a_start_that_fails_leaves_the_folder_as_it_was(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = {
            "port": {"port": taken.getsockname()[1]},
            "host": {"host": "192.0.2.1", "keys_file": "keys.json"},
            "keys": {"keys_file": "nowhere.json"},
        }[wrong]
        add_key(Path("keys.json"), "anna", ["admin"])
        with pytest.raises(SettingsInvalid):
            module.serve({"folder": "kept", **given}, print)
    assert not Path("kept").exists()


def test_a_migration_writes_no_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Database.open(f"sqlite:///{tmp_path / 'console.db'}").close()
    assert caplog.messages == []


STOPPED = """
import asyncio, os, signal, sys, uvicorn
from console import serve
run = uvicorn.Server.serve
def early(server, *args, **kwargs):
    made = run(server, *args, **kwargs)
    os.kill(os.getpid(), int(sys.argv[1]))  # between the coroutine and its loop
    return made
uvicorn.Server.serve = early
serve.serve({"port": "0"}, print)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_right_after_the_address_ends_it_in_order(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(int(number))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "never awaited" not in done.stderr
    assert "Traceback" not in done.stderr

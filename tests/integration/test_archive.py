"""An archive is there whole or not at all."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.running import Workspace


def test_a_killed_archive_leaves_no_version_and_the_next_one_is_whole(workspace: Workspace, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "visor.cli", "archive", "runs/digits", "--store", str(store)]
    process = subprocess.Popen(command, cwd=workspace.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(store.glob("digits/.building-*/staged")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (store / "digits/1").exists()
    path = workspace.path / workspace.ok("archive", "runs/digits", "--store", str(store)).strip()
    assert path == store / "digits/1/digits.mar"
    assert "signature  holds" in workspace.ok("inspect", str(path))


def test_an_unfinished_run_is_not_archived(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_bytes((workspace.home / "digits/run.json").read_bytes())
    done = workspace.visor("archive", str(tmp_path / "run"), "--store", str(tmp_path / "store"))
    assert done.returncode == 1
    assert "run.invalid" in done.stderr
    assert not (tmp_path / "store").exists()

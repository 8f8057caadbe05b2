"""Pipelines of one name, in processes of their own, take turns."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from training.jobs import pipeline as job


def test_two_pipelines_of_one_name_take_turns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    lines = "import sys; from pathlib import Path; from training.jobs.pipeline import _turn\n"
    lines += "with _turn(Path(sys.argv[1]), 'tiny'): print('mine', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", lines, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "mine\n"
        with job._turn(tmp_path, "another"):
            pass  # which nobody holds
        order: list[str] = []

        def wait() -> None:
            with job._turn(tmp_path, "tiny"):
                order.append("entered")

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.3)
        order.append("released")
        other.stdin.write("\n")
        other.stdin.flush()
        thread.join(30)
    assert order == ["released", "entered"]
    assert "waiting for another pipeline of tiny" in caplog.text

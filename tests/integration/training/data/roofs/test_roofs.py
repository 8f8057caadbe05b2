"""Roofs drawn by several processes, and what is left of them when one is killed; and that no simple model tells them apart."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from training.data.roofs import roofs
from training.data.roofs.roofs import DAMAGED, generate, render
from training.errors import DataError


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofs, "POOL_FROM", 2)
    one, two = (generate(tmp_path / str(processes), 60, 48, 1, processes) for processes in (1, 2))
    assert files(one) == files(two)


def test_a_kill_leaves_no_set_and_no_process(tmp_path: Path) -> None:
    root = tmp_path / "roofs"
    program = (
        f"from pathlib import Path\nfrom training.data.roofs.roofs import generate\ngenerate(Path({str(root)!r}), 100_000, 48, 0)"
    )
    # A process of its own, as the pool's workers import the program that started them.
    script = tmp_path / "draw.py"
    script.write_text("if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in program.splitlines()))
    environment = {**os.environ, "PYTHONPATH": str(Path(roofs.__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: any(tmp_path.rglob("*.jpg")))
            workers = psutil.Process(process.pid).children(recursive=True)
        finally:
            process.send_signal(signal.SIGKILL)
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    assert not root.exists()


def test_a_killed_worker_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill_worker(items: Iterable[int], *_: object) -> Iterator[int]:
        for item in items:
            if item == 0:
                worker = next(c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline()))
                worker.kill()
            yield item

    monkeypatch.setattr(roofs, "show_progress", kill_worker)
    with pytest.raises(DataError, match="a process that drew roofs was killed"):
        generate(tmp_path / "roofs", 5000, 48, 0)
    assert list(tmp_path.iterdir()) == []


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_linear_model_on_pixels_is_at_a_loss() -> None:
    """Place and colour do not decide: a quick form of the measure with 1,500 images, 32 x 32 in colour and 64 x 64 in grey."""
    pictures = [render(9, index, 48) for index in range(300)]
    pixels = np.stack(
        [np.asarray(Image.fromarray(p.image).resize((16, 16), Image.Resampling.BOX)).ravel() / 255 for p in pictures]
    )
    damaged = np.array([picture.label == DAMAGED for picture in pictures])
    model = LogisticRegression(max_iter=1000).fit(pixels[:200], damaged[:200])
    assert model.score(pixels[200:], damaged[200:]) < 0.8

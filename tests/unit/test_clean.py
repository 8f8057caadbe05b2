"""`make clean` spares what digests lead back to; `make clean-all` asks first, and never takes keys."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ("runs/roofs/run.json", "runs/mlflow.db", "model-store/README.md", "model-store/roofs/1/roofs.mar", "keys/visor.key")
MADE = ("runs/cache/pixels.npy", ".venv/bin/python", ".ruff_cache/x", "build/x", "visor.egg-info/x", ".coverage.1")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*KEPT, *MADE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def make(checkout: Path, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=checkout, env=env, input=answer, capture_output=True, text=True, check=False)


def there(checkout: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (checkout / name).exists()]


def test_clean_takes_what_can_be_made_again_alone(checkout: Path) -> None:
    assert make(checkout, "clean").returncode == 0
    assert (there(checkout, KEPT), there(checkout, MADE)) == (list(KEPT), [])


@pytest.mark.parametrize("answer", ["", "no\n", "y\n"])
def test_clean_all_removes_nothing_without_a_yes(checkout: Path, answer: str) -> None:
    done = make(checkout, "clean-all", answer=answer)
    assert done.returncode != 0
    assert "1 run(s), and the registry" in done.stdout
    assert "1 archives" in done.stdout
    assert "nothing was removed" in done.stderr
    assert (there(checkout, KEPT), there(checkout, MADE)) == (list(KEPT), list(MADE))


@pytest.mark.parametrize(("arguments", "answer"), [((), "yes\n"), (("YES=1",), "")])
def test_clean_all_takes_runs_and_archives_and_leaves_keys(checkout: Path, arguments: tuple[str, ...], answer: str) -> None:
    assert make(checkout, "clean-all", *arguments, answer=answer).returncode == 0
    assert there(checkout, (*KEPT, *MADE)) == ["model-store/README.md", "keys/visor.key"]

"""A disk that is full is told in a sentence, nothing of a run is lost by it, and the same command goes on once there is room."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.integration.running import QUICK, ROOT, BeginHome, Workspace
from training import runs
from training.data import pixels
from training.errors import DiskFull
from training.fitting import checkpoint
from training.jobs.checks import check_writable
from training.tracking import Tracker
from visor.system import of_system

DIGITS = str(ROOT / "training/configs/digits.yaml")
SIZE_MIB = 160
TRAIN = ["train", DIGITS, *QUICK, "--set", "backend=torch", "--set", "fit.phases.0.epochs=4", "--set", "explanation_images=2"]


@pytest.fixture
def disk(tmp_path: Path, begin_home: BeginHome) -> Iterator[Workspace]:
    """A workspace on a disk of its own, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a disk of a size")
    try:
        workspace = Workspace(place)
        begin_home(workspace.home)
        yield workspace
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Write a file that takes all the space there is."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 65536)
        except OSError:
            pass
    return filler


def expect_a_sentence(said: str) -> None:
    assert "Traceback" not in said
    assert "disk.full: no space is left for" in said or "disk.full: " in said.splitlines()[-1]


def test_what_is_written_to_a_full_disk_names_its_place(disk: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    filler, weights = fill(disk.path), {"a": torch.zeros(500_000)}
    with pytest.raises(OSError, match="No space left") as raised:
        checkpoint.save(disk.path / "c.pt", checkpoint.State(weights=weights, best={}), "a" * 64, "b" * 64)
    assert str(of_system(raised.value)).startswith(f"disk.full: no space is left for {disk.path}/c.pt; free some")
    with pytest.raises(OSError, match="No space left"):  # and not the process's end by SIGBUS
        pixels._reserve(disk.path / "pixels.npy", 10**6)
    with pytest.raises(DiskFull, match=r"no space is left for sqlite:///.*/other/mlflow.db"):
        Tracker.open(disk.path / "other")
    filler.unlink()
    assert not (disk.path / "c.pt").exists()
    checkpoint.save(disk.path / "c.pt", checkpoint.State(weights=weights, best={}), "a" * 64, "b" * 64)
    Tracker.open(disk.path / "other").reach()


def test_a_folder_on_a_full_disk_is_told_as_that(disk: Workspace) -> None:
    check_writable(disk.path, disk.path / "new/run")
    filler = fill(disk.path)
    for folder in (disk.path, disk.path / "new/run"):
        with pytest.raises(DiskFull, match=f"no space is left for {folder}; free some"):
            check_writable(folder)
    filler.unlink()
    check_writable(disk.path, disk.path / "new/run")


def test_too_little_space_is_said_before_anything_is_fitted(disk: Workspace) -> None:
    subprocess.run(["mount", "-o", "remount,size=40m", str(disk.path)], check=True)
    done = disk.visor(*TRAIN)
    assert done.returncode == 1
    assert "visor: disk.full: " in done.stderr
    assert "MB are left there; free some" in done.stderr
    assert not (disk.home / "digits").exists()
    subprocess.run(["mount", "-o", f"remount,size={SIZE_MIB}m", str(disk.path)], check=True)


def test_a_disk_that_is_full_in_the_midst_is_a_sentence_and_the_same_command_goes_on(disk: Workspace) -> None:
    command = [sys.executable, "-m", "visor.cli", *TRAIN]
    process = subprocess.Popen(command, cwd=disk.path, stderr=subprocess.PIPE, text=True)
    checkpoint, deadline = disk.home / "digits" / "checkpoint.pt", time.monotonic() + 240
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    filler = fill(disk.path)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1, said
    expect_a_sentence(said)
    assert not runs.is_finished(disk.home / "digits")
    filler.unlink()
    done = disk.visor(*TRAIN)
    assert done.returncode == 0, done.stderr
    assert "going on after epoch" in done.stderr
    assert runs.is_finished(disk.home / "digits")


def test_scores_that_do_not_fit_are_a_sentence(disk: Workspace, workspace: Workspace, archive: Path) -> None:
    images = workspace.path / "images-of-one"
    images.mkdir(exist_ok=True)
    picture = next((workspace.home / "data").rglob("*.png"))
    (images / "one.png").write_bytes(picture.read_bytes())
    filler = fill(disk.path)
    done = workspace.visor("score", str(archive), str(images), "--out", str(disk.path / "scores.parquet"), "--workers", "1")
    assert done.returncode == 1
    expect_a_sentence(done.stderr)
    filler.unlink()
    done = workspace.visor("score", str(archive), str(images), "--out", str(disk.path / "scores.parquet"), "--workers", "1")
    assert done.returncode == 0, done.stderr


def test_a_home_that_cannot_be_made_is_a_sentence(workspace: Workspace) -> None:
    for command in (TRAIN, ["data", "make", DIGITS], ["search", DIGITS, str(ROOT / "nowhere.yaml"), "--study", "s"]):
        done = workspace.visor(*command, "--home", "/proc/none")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("visor: ")

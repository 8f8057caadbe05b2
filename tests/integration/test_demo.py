"""The demo on a folder of images, as `make demo` calls it: the whole way, and a failing step that stops it by name and log."""

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.integration.running import ROOT, Workspace

QUICK = [
    "--set",
    "model={network: small_cnn}",
    "--set",
    "preprocessing={height: 32, width: 32, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
    "--set",
    "fit={batch_size: 8, phases: [{epochs: 8, learning_rate: 0.003, unfreeze: all}]}",
]


@dataclass(frozen=True)
class Demo:
    """A workspace where the demo was called once; `shown`: what it said."""

    place: Workspace
    folder: Path
    shown: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    place = Workspace(tmp_path_factory.mktemp("demo"))
    folder = write_leaves(place.path)
    command = ["make", "--no-print-directory", "--dry-run", "--assume-old", "setup", "demo", f"DATA={folder}"]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    program, *arguments = shlex.split(recipe.splitlines()[-1])
    assert program.endswith("/visor")
    return Demo(place, folder, place.ok(*arguments, *QUICK))


def test_make_gives_the_demo_keys_of_the_config() -> None:
    given = ["demo", "DATA=My Leaves", "SET=data.leaks=warn seed=1"]
    command = ["make", "--no-print-directory", "--dry-run", "--assume-old", "setup", *given]
    recipe = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    said = shlex.split(recipe.splitlines()[-1])
    assert said[1:] == ["demo", "--data", "My Leaves", "--set", "data.leaks=warn", "--set", "seed=1"]


def write_leaves(root: Path) -> Path:
    """A folder of sixty leaves, green or brown."""
    rng = np.random.default_rng(0)
    for label, colour in {"healthy": (40, 160, 40), "sick": (140, 90, 40)}.items():
        (root / "My Leaves" / label).mkdir(parents=True)
        for n in range(30):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (40, 60, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "My Leaves" / label / f"{n}.jpg")
    return root / "My Leaves"


def test_the_whole_way_on_a_folder_of_images(demo: Demo) -> None:
    place = demo.place
    run = place.home / "my-leaves"
    assert json.loads((run / "metrics.json").read_text())["accuracy"] >= 0.8
    assert len(list((run / "overlays").glob("*.png"))) == 8
    assert (run / "report.html").is_file()
    assert (place.store / "my-leaves/1/my-leaves.mar").is_file()
    for word in (
        "Timings",
        "predict-rest",
        "predict-grpc",
        "sick",
        "report.html",
        "MLFLOW_DISABLE_TELEMETRY=true mlflow ui",
    ):
        assert word in demo.shown
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(place.path) in " ".join(p.info["cmdline"] or [])]


def test_a_failing_step_stops_it_with_its_name_and_log(tmp_path: Path) -> None:
    folder = write_leaves(tmp_path)
    (folder / "sick" / "torn.jpg").write_bytes(b"no image")
    place = Workspace(tmp_path)
    done = place.visor("demo", "--data", str(folder), *QUICK)
    assert done.returncode == 1
    assert "demo.failed: step 'train' ended with 1" in done.stderr
    assert "sick/torn.jpg" in done.stderr
    log = place.home / "my-leaves/logs/train.log"
    assert str(log.relative_to(tmp_path)) in done.stderr
    assert "sick/torn.jpg" in log.read_text()
    assert not place.store.exists()


def test_the_demo_can_be_called_again(demo: Demo) -> None:
    assert "is finished" in demo.place.ok("demo", "--data", str(demo.folder), *QUICK)
    assert (demo.place.store / "my-leaves/2/my-leaves.mar").is_file()

"""The demo on a folder of images: the whole way, and a failing step that stops it with its name and log."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.integration.running import Workspace

QUICK = [
    "--set",
    "model={network: small_cnn}",
    "--set",
    "preprocessing={height: 32, width: 32, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
    "--set",
    "fit={batch_size: 8, phases: [{epochs: 8, learning_rate: 0.003, unfreeze: all}]}",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty leaves, green or brown."""
    rng = np.random.default_rng(0)
    for label, colour in {"healthy": (40, 160, 40), "sick": (140, 90, 40)}.items():
        (tmp_path / "My Leaves" / label).mkdir(parents=True)
        for n in range(30):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (40, 60, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "My Leaves" / label / f"{n}.jpg")
    return tmp_path / "My Leaves"


def test_the_whole_way_on_a_folder_of_images(folder: Path, tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shown = place.ok("demo", "--data", str(folder), *QUICK)
    run = place.home / "my-leaves"
    assert json.loads((run / "metrics.json").read_text())["accuracy"] >= 0.8
    assert len(list((run / "overlays").glob("*.png"))) == 8
    assert (run / "report.html").is_file()
    assert (place.store / "my-leaves/1/my-leaves.mar").is_file()
    for word in ("Timings", "predict-rest", "predict-grpc", "sick", "report.html", "mlflow ui"):
        assert word in shown
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]


def test_a_failing_step_stops_it_with_its_name_and_log(folder: Path, tmp_path: Path) -> None:
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


def test_the_demo_can_be_called_again(folder: Path, tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    place.ok("demo", "--data", str(folder), *QUICK)
    shown = place.ok("demo", "--data", str(folder), *QUICK)
    assert "is finished" in shown
    assert (place.store / "my-leaves/2/my-leaves.mar").is_file()

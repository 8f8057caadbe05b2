"""`visor drift` on a trained archive: its own images are calm, darkened ones are not, and Parquet and folder say the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from handlers.drift import Reference
from tests.integration.running import Workspace


@pytest.fixture(scope="module")
def test_split(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's test images, which neither the network nor the reference saw."""
    root = Path(json.loads((workspace.home / "digits/run.json").read_text())["dataset_root"])
    samples = json.loads((workspace.home / "digits/manifest.json").read_text())["samples"]
    folder = tmp_path_factory.mktemp("pictures")
    for sample in samples:
        if sample["split"] == "test":
            (folder / sample["path"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(workspace.path / root / sample["path"], folder / sample["path"])
    return folder


@pytest.fixture(scope="module")
def darkened(test_split: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at half their light, a file that is none, and one that is not named as they are."""
    folder = tmp_path_factory.mktemp("darkened")
    for number, path in enumerate(sorted(test_split.rglob("*.png"))):
        Image.fromarray((np.asarray(Image.open(path)) // 2).astype(np.uint8)).save(folder / f"{number:03}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("at dusk")
    return folder


def test_images_of_the_run_are_calm(workspace: Workspace, archive: Path, test_split: Path) -> None:
    done = workspace.visor("drift", str(archive), str(test_split))
    assert done.returncode == 0, done.stderr
    assert "Calm: no difference found." in done.stdout
    assert done.stdout.splitlines()[0].split() == ["figure", "PSI", "limit"]
    assert "moved  " not in done.stdout


def test_darkened_images_have_drifted(workspace: Workspace, archive: Path, darkened: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "drift.html"
    done = workspace.visor("drift", str(archive), str(darkened), "--json", "--report", str(page))
    assert done.returncode == 3, done.stderr
    assert done.stderr.count(" is signed by the key ") == 1
    assert done.stderr.count("1 file is not named as images are and is left out: 1 .txt") == 1
    said = json.loads(done.stdout)
    assert said["word"] == "pictures"
    assert "brightness" in said["moved"]
    assert said["errors"] == {"image.undecodable": 1}
    assert said["images"] == len(list(darkened.iterdir())) - 2
    moved = {one["figure"] for one in said["figures"] if one["psi"] > one["limit"]}
    assert moved == set(said["moved"]) == {one["figure"] for one in said["figures"] if one["moved"]}
    text = page.read_text()
    assert text.count('<img src="data:image/jpeg;base64,') == 24
    assert "which these are not." in text
    assert "bound on missed images" not in text  # digits.yaml asks for none
    assert said["unusual"][0] in text
    # What visor score wrote says the same, whole or in parts, without the pictures.
    for out in (tmp_path / "scores.parquet", tmp_path / "scores"):
        workspace.ok("score", str(archive), str(darkened), "--out", str(out))
        again = workspace.visor("drift", str(archive), str(out), "--json", "--report", str(page))
        assert again.returncode == 3, again.stderr
        assert json.loads(again.stdout) == said
    assert "<img" not in page.read_text()
    assert f"<code>{said['unusual'][0]}</code>" in page.read_text()


def test_the_parquets_bins_add_up_to_what_the_archive_knows(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    """Scored anew, the calibration split falls into the bins that the reference has of it."""
    run = workspace.home / "digits"
    root = Path(json.loads((run / "run.json").read_text())["dataset_root"])
    samples = json.loads((run / "manifest.json").read_text())["samples"]
    listed = [sample["path"] for sample in samples if sample["split"] == "calibration"]
    (tmp_path / "list.txt").write_text("\n".join(listed))
    out = tmp_path / "scores.parquet"
    workspace.ok("score", str(archive), str(tmp_path / "list.txt"), "--root", str(workspace.path / root), "--out", str(out))
    bins, reference = np.array(pq.read_table(out)["drift"].to_pylist()), Reference.read(run / "reference.npz")
    assert reference is not None
    assert reference.images == len(listed)
    for n, counts in enumerate(reference.counts):
        assert np.bincount(bins[:, n], minlength=len(counts)).tolist() == counts.tolist(), reference.figures[n]


def test_errors_are_said(workspace: Workspace, archive: Path, test_split: Path, darkened: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(darkened.glob("0*.png"))[:5]:
        shutil.copy(path, few)
    for images in (few, tmp_path / "list.txt", tmp_path / "scores.parquet"):
        done = workspace.visor("drift", str(archive), str(images), "--root", str(tmp_path / "nowhere"))
        assert done.returncode == 1
        assert f"visor: data.invalid: --root {tmp_path}/nowhere is not there" in done.stderr
    done = workspace.visor("drift", str(archive), str(few))
    assert (done.returncode, done.stderr.splitlines()[-1].partition(" has ")[0]) == (1, f"visor: drift.images: {few}")
    # A run from before has no figures; it is archived, scored and served as ever, and has nothing to compare with.
    old = tmp_path / "old"
    shutil.copytree(workspace.home / "digits", old)
    with np.load(old / "reference.npz") as arrays:
        np.savez(old / "reference.npz", **{name: arrays[name] for name in ("features", "probabilities", "labels", "rows")})
    store = tmp_path / "store"
    second = workspace.path / workspace.ok("archive", str(old), "--store", str(store)).strip().splitlines()[-1]
    done = workspace.visor("drift", str(second), str(test_split))
    assert done.returncode == 1
    assert "visor: drift.reference: " in done.stderr
    workspace.ok("score", str(second), str(few), "--out", str(tmp_path / "few.parquet"))
    assert pq.read_table(tmp_path / "few.parquet")["drift"].to_pylist() == [None] * 5
    # Another archive's scores, and what are none.
    done = workspace.visor("drift", str(archive), str(tmp_path / "few.parquet"))
    assert done.returncode == 1
    assert "visor: drift.failed: " in done.stderr
    assert "was scored by the archive" in done.stderr
    (tmp_path / "none.parquet").write_bytes(b"none")
    done = workspace.visor("drift", str(archive), str(tmp_path / "none.parquet"))
    assert done.returncode == 1
    assert "visor: drift.failed: " in done.stderr

"""docs/examples/dvc as it stands: `dvc repro` goes from images to a signed archive, and then only as far as something changed."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from sklearn.datasets import load_digits

from archives.contents import read
from loadtests.peers.environment import make
from tests.integration.running import ROOT, Workspace, shell
from tests.unit.blocks import blocks_of
from training.data.manifest import Manifest

EXAMPLE = ROOT / "docs/examples/dvc"
LOCK = ROOT / "tests/integration/dvc/requirements.txt"
TIMEOUT_S = 280
STAGES = ["prepare", "report", "train", "archive", "verify"]


@dataclass(frozen=True)
class Project:
    """A folder that DVC keeps; `said`: by its first `dvc repro`."""

    workspace: Workspace
    dvc: Path
    said: str

    @property
    def path(self) -> Path:
        return self.workspace.path


def run_dvc(dvc: Path, folder: Path, *arguments: str) -> str:
    """DVC with visor's command on the PATH; its standard output."""
    return run(dvc, folder, shlex.join(("dvc", *arguments)))


def run(dvc: Path, folder: Path, script: str) -> str:
    """A script in which DVC and visor's command are on the PATH; its standard output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(dvc.parent)])
    settings = dict.fromkeys(("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"), str(folder / "settings"))
    site = str(folder / ".dvc/site")
    return shell(script, folder, timeout=TIMEOUT_S, PATH=path, DVC_SITE_CACHE_DIR=site, **settings).stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    from PIL import Image

    dvc = make("dvc", LOCK).parent / "dvc"
    workspace = Workspace(tmp_path_factory.mktemp("dvc"))
    folder = workspace.path
    example = shutil.copytree(EXAMPLE, folder / "docs/examples/dvc")
    config = yaml.safe_load((example / "train.yaml").read_text())
    config["preprocessing"] |= {"height": 32, "width": 32}
    config["fit"]["phases"][0]["epochs"] = 1
    config["backend"] = "torch"  # what serves is not what this is about, and OpenVINO's exports take as long as all the rest
    (example / "train.yaml").write_text(yaml.safe_dump(config))
    images, labels = load_digits(n_class=3, return_X_y=True)
    for index, (image, label) in enumerate(zip(images[:120], labels[:120], strict=True)):
        place = folder / "images" / str(label) / f"{index:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15).astype("uint8")).save(place)
    (folder / "settings").mkdir()
    (folder / "settings/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    [block] = blocks_of("docs/data.md", "tests/integration/test_dvc.py::test_every_stage_runs_in_order")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    said = run(dvc, folder, block.text)
    shutil.rmtree(folder / "docs")  # the checkout's, whose own dvc.yaml DVC would ask of, too
    return Project(workspace, dvc, said)


def test_every_stage_runs_in_order(project: Project) -> None:
    places = [project.said.index(f"Running stage '{stage}'") for stage in STAGES]
    assert places == sorted(places)
    assert len(Manifest.read(project.path / "manifest.json").samples) == 120
    assert (project.path / "data.html").read_text().startswith("<!doctype html>")
    told = json.loads((project.path / "archive.json").read_text())
    assert told["signature"]["holds"]
    contents = read(project.path / "model-store/images/1/images.mar")
    assert told["archive_digest"] == contents.digest
    assert contents.lineage.dataset_digest == Manifest.read(project.path / "manifest.json").digest


def test_metrics_are_those_of_the_run(project: Project) -> None:
    shown = run_dvc(project.dvc, project.path, "metrics", "show", "--json")
    accuracy = json.loads((project.path / "run/metrics.json").read_text())["accuracy"]
    assert json.loads(shown)[""]["data"]["run/metrics.json"]["data"]["accuracy"] == accuracy


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("seed", 3, {"train"}),
        ("data", {"source": "imagefolder", "path": "images", "seed": 1}, {"prepare", "report", "train"}),
    ],
)
def test_a_changed_key_concerns_the_stages_that_read_it_and_no_other(
    project: Project, key: str, value: object, stages: set[str]
) -> None:
    config = project.path / "train.yaml"
    before = config.read_text()
    config.write_text(yaml.safe_dump({**yaml.safe_load(before), key: value}))
    try:
        assert set(json.loads(run_dvc(project.dvc, project.path, "status", "--json"))) == stages
    finally:
        config.write_text(before)


def test_images_as_links_into_the_cache_are_the_same_data_set(project: Project) -> None:
    """Row 5 of the faults: `cache.type symlink` leaves a link out of the data set for every image."""
    before = Manifest.read(project.path / "manifest.json").digest
    run_dvc(project.dvc, project.path, "config", "cache.type", "symlink")
    try:
        run_dvc(project.dvc, project.path, "checkout", "--relink", "images.dvc")
        images = sorted((project.path / "images").rglob("*.png"))
        assert len(images) == 120
        assert all(image.is_symlink() and ".dvc/cache" in str(image.resolve()) for image in images)
        assert f"digest       {before}" in project.workspace.ok("data", "manifest", "train.yaml", "--out", "linked.json")
        project.workspace.ok("data", "verify", "images", "--manifest", "linked.json")
        cached = images[0].resolve()
        kept = cached.rename(cached.with_suffix(".away"))
        done = project.workspace.visor("data", "manifest", "train.yaml", "--out", "linked.json")
        assert (done.returncode, "visor: data.unpulled" in done.stderr) == (1, True)
        assert "`dvc pull " in done.stderr
        kept.rename(cached)
    finally:
        run_dvc(project.dvc, project.path, "config", "--unset", "cache.type")
        run_dvc(project.dvc, project.path, "checkout", "--relink", "images.dvc")


def test_images_that_were_not_pulled_are_asked_for(project: Project) -> None:
    shutil.rmtree(project.path / "images")
    done = project.workspace.visor("data", "manifest", "train.yaml")
    assert done.returncode == 1
    assert "visor: data.unpulled" in done.stderr
    assert f"`dvc pull {project.path / 'images.dvc'}`" in done.stderr
    run_dvc(project.dvc, project.path, "checkout", "images.dvc")
    (project.path / "images/1/001.png").rename(project.path / "kept.png")
    assert "holds 119 files of the 120" in project.workspace.visor("data", "manifest", "train.yaml").stderr
    (project.path / "kept.png").rename(project.path / "images/1/001.png")
    done = project.workspace.visor("data", "diff", "manifest.json", "images")
    assert (done.returncode, done.stdout) == (0, "120 images before, 120 after: no difference\n")

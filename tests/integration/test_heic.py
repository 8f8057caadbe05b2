"""HEIC and colour profiles are answered alike by server, `visor predict --archive` and `visor score`; by old archives as ever."""

import json
import shutil
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.integration.kept import copy_kept
from tests.integration.running import QUICK, ROOT, Server, Workspace
from tests.unit.handlers.profiles import P3

SAMPLES = ROOT / "tests/heic"
INFER = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("plain.heic", "display-p3.heic", "clear.heic"):
        shutil.copy(SAMPLES / name, folder)
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(folder / "p3.png", icc_profile=P3)
    Image.new("RGB", (64, 64), (200, 60, 10)).save(folder / "saved.jfif", "JPEG")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("kind", ["image/heic", "image/heif"])
def test_every_way_gives_one_answer(workspace: Workspace, archive: Path, server: Server, pictures: list[Path], kind: str) -> None:
    offline = [
        json.loads(line)
        for line in workspace.ok("predict", "--archive", str(archive), "--json", *map(str, pictures)).splitlines()
    ]
    out = workspace.path / f"{kind[6:]}.parquet"
    workspace.ok("score", str(archive), str(pictures[0].parent), "--out", str(out), "--workers", "1")
    scored = {Path(row["path"]).name: row for row in pq.read_table(out).to_pylist()}
    assert len(scored) == len(pictures)
    for picture, told in zip(pictures, offline, strict=True):
        response = httpx.post(f"http://{server.rest}{INFER}", content=picture.read_bytes(), headers={"Content-Type": kind}).json()
        outputs = {one["name"]: one["data"] for one in response["outputs"]}
        assert outputs["error"] == [""]
        assert outputs["label"] == [told["label"]] == [scored[picture.name]["label"]]
        assert outputs["confidence"][0] == pytest.approx(told["confidence"], abs=1e-5)
        assert scored[picture.name]["confidence"] == pytest.approx(told["confidence"], abs=1e-5)


def test_an_old_archive_reads_no_heic_wherever_it_is_asked(tmp_path: Path, pictures: list[Path]) -> None:
    kept = copy_kept(tmp_path / "kept")
    done = kept.visor("predict", "--archive", "digits", "--json", *map(str, pictures))
    errors = {Path(told["image"]).suffix: told["error"] for told in map(json.loads, done.stdout.splitlines())}
    assert errors[".heic"] == "image.unsupported"
    assert not errors[".png"]


def test_a_run_that_began_by_the_first_rule_ends_by_it(own: Workspace, tmp_path: Path) -> None:
    """The second command says no rule, as a user's config does, and finishes what the first, older one has left."""
    run = tmp_path / "run"
    command = ["train", str(ROOT / "training/configs/digits.yaml"), *QUICK, "--set", "backend=torch", "--out", str(run)]
    own.ok(*command, "--set", "preprocessing.decoding=1")
    assert "decoding" not in (run / "config.yaml").read_text()
    before = {name: (run / name).read_bytes() for name in ("model.safetensors", "config.yaml", "spec.json")}
    for name in ("spec.json", "metrics.json"):
        (run / name).unlink()
    assert own.visor(*command).returncode == 0
    assert {name: (run / name).read_bytes() for name in before} == before
    assert "is finished" in own.visor(*command).stderr
    newer = own.visor(*command, "--fresh")
    assert newer.returncode == 0
    assert json.loads((run / "spec.json").read_text())["preprocessing"]["decoding"] == 2

"""A finished run becomes a signed .mar that says where it came from; half archives and strangers are refused."""

import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from handlers.backends import OpenVINOBackend, OpenVINOInt8Backend
from handlers.errors import ArchiveBroken
from handlers.networks import build as build_network
from handlers.spec import Spec
from training import archive, signing
from training.errors import ArchiveRefused, KeyFileError
from training.export import Graph
from training.lineage import Lineage

LINEAGE = Lineage(
    created=datetime(2026, 1, 2, tzinfo=UTC),
    git_commit="0123abc",
    git_dirty=False,
    archive_git_commit="0123abc",
    archive_git_dirty=False,
    dataset_digest="d" * 64,
    config_digest="c" * 64,
    weights_digest="w" * 64,
    mlflow_run_id="run-7",
    tracking_uri="sqlite:///mlflow.db",
    versions={"torch": "2"},
    metrics={"accuracy": 0.5},
)
SPEC = {
    "name": "tiny",
    "version": "1",
    "network": "small_cnn",
    "labels": ["damaged", "intact"],
    "preprocessing": {"height": 16, "width": 16, "mean": [0.5] * 3, "std": [0.5] * 3},
    "feature_map": [128, 2, 2],
    "temperature": 1,
    "decision": {"positive": ["damaged"], "threshold": 0.5, "cost": [[0, 1], [1, 0]]},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(build_network("small_cnn", 2).state_dict(), folder / "model.safetensors")
    (folder / "spec.json").write_text(Spec.parse(json.dumps(SPEC), "test").model_dump_json())
    np.savez(folder / "reference.npz", features=np.zeros((2, 128), np.float16))
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return signing.make_keys(tmp_path / "keys")


def test_an_archive_holds_what_it_should_and_nothing_else(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    path = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert path == tmp_path / "store/tiny/1/tiny.mar"
    assert sorted(p.name for p in path.parent.iterdir()) == ["tiny.mar", "tiny.mar.sig"]
    with zipfile.ZipFile(path) as mar:
        names = set(mar.namelist())
        manifest = json.loads(mar.read("MAR-INF/MANIFEST.json"))
    roots = {"entry.py", "lineage.json", "model.safetensors", "reference.npz", "spec.json", "MAR-INF/MANIFEST.json"}
    modules = {"__init__", "archive", "backends", "decision", "decode", "errors", "gradcam", "networks", "predictor", "spec"}
    assert names == roots | {f"handlers/{module}.py" for module in modules}
    assert (manifest["model"]["modelName"], manifest["model"]["modelVersion"]) == ("tiny", "1")


def test_a_runs_model_card_travels_along(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    for name in ("model-card.md", "model-card.html"):
        (run / name).write_text(f"the card: {name}")
    with zipfile.ZipFile(archive.build(run, tmp_path / "store", LINEAGE, keys[0])) as mar:
        assert mar.read("model-card.md").decode() == "the card: model-card.md"
        assert "model-card.html" in mar.namelist()


def test_what_is_read_is_what_was_packed(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    path = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    contents = archive.read_verified(path, keys[1])
    assert contents.spec == Spec.parse(json.dumps(SPEC), "test")
    assert contents.lineage == LINEAGE
    assert contents.size == path.stat().st_size
    with archive.unpacked(path) as folder:
        packed, original = load_file(folder / "model.safetensors"), load_file(run / "model.safetensors")
        assert packed.keys() == original.keys()
        assert all(torch.equal(packed[name], original[name]) for name in original)
    assert not folder.exists()


def test_exports_are_held_and_the_first_one_is_served(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    graphs = {
        "openvino-int8": Graph(OpenVINOInt8Backend, b"<int8/>", b"int8"),
        "openvino": Graph(OpenVINOBackend, b"<fp32/>", b"fp32"),
    }
    path = archive.build(run, tmp_path / "store", LINEAGE, keys[0], graphs)
    assert archive.read(path).spec.backend == "openvino-int8"
    with zipfile.ZipFile(path) as mar:
        files = {name: mar.read(name) for name in mar.namelist()}
    assert (files["model-int8.xml"], files["model-int8.bin"]) == (b"<int8/>", b"int8")
    assert (files["model.xml"], files["model.bin"]) == (b"<fp32/>", b"fp32")
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()


def test_each_archive_is_a_version_of_its_own(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    first = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    before = first.read_bytes()
    second = archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert second == tmp_path / "store/tiny/2/tiny.mar"
    assert archive.read(second).spec.version == "2"
    assert first.read_bytes() == before


def test_a_build_that_fails_leaves_nothing(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    store = tmp_path / "store"
    with pytest.raises(KeyFileError):
        archive.build(run, store, LINEAGE, keys[1])  # a public key cannot sign
    assert list((store / "tiny").iterdir()) == []


def test_what_a_killed_build_left_is_swept_away_in_time(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    old, fresh = tmp_path / "store/tiny/.building-old", tmp_path / "store/tiny/.building-fresh"
    for left in (old, fresh):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert sorted(p.name for p in (tmp_path / "store/tiny").iterdir()) == [".building-fresh", "1"]


def test_an_archive_that_is_too_large_is_refused(run: Path, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, archive.MAX_BYTES, dtype=np.uint8)
    (run / "reference.npz").write_bytes(noise.tobytes())
    with pytest.raises(ArchiveBroken, match="over 120 MB"):
        archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert list((tmp_path / "store/tiny").iterdir()) == []


def test_a_folder_of_the_same_name_in_the_temporary_directory_survives(
    run: Path, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "temporary" / "tiny" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    archive.build(run, tmp_path / "store", LINEAGE, keys[0])
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("what", ["no zip", "no spec", "no lineage", "missing"])
def test_what_is_no_archive_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.mar"
    if what == "no zip":
        path.write_bytes(b"no zip")
    elif what != "missing":
        with zipfile.ZipFile(path, "w") as mar:
            if what == "no lineage":
                mar.writestr("spec.json", json.dumps(SPEC))
    with pytest.raises(ArchiveBroken, match=r"x\.mar is not a visor archive"):
        archive.read(path)


def test_a_member_that_would_land_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("../outside.txt", "x")
    with pytest.raises(ArchiveRefused, match=r"\.\./outside\.txt"), archive.unpacked(path):
        pass
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_broken_zip_cannot_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.mar"
    path.write_bytes(b"no zip")
    with pytest.raises(ArchiveBroken, match="cannot be unpacked"), archive.unpacked(path):
        pass

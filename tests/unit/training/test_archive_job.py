"""`visor archive`, the job: OpenVINO where it answers as torch does, else torch, and no secret made of either."""

import dataclasses
import hashlib
import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.backends import TorchBackend, load_backend
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec
from tests.unit.networks import random_network, write_weights
from training import archive as archives
from training import export, runs, signing
from training.data.manifest import Manifest, Sample
from training.errors import DataChanged, DataError, ParityFailed
from training.jobs.archive import archive

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


def make_manifest(root: Path) -> Manifest:
    """Six pictures of noise, four of them of the test split."""
    rng, samples = np.random.default_rng(0), []
    for n in range(6):
        label = SPEC["labels"][n % 2]
        path = root / label / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        samples.append(Sample(f"{label}/{n}.png", len(content), digest, label, "train" if n < 2 else "test"))
    return Manifest(("damaged", "intact"), tuple(sorted(samples, key=lambda sample: sample.path)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run; its images are in `data` beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_weights(folder, random_network("small_cnn", 2, 16, 16))
    (folder / "spec.json").write_text(Spec.parse(json.dumps(SPEC), "test").model_dump_json())
    (folder / "metrics.json").write_text('{"accuracy": 0.5}')
    for name in ("reference.npz", "report.html"):
        (folder / name).write_text("of no matter here")
    manifest = make_manifest(tmp_path / "data")
    manifest.write(folder / "manifest.json")
    record = runs.Record(
        mlflow_run_id="abc",
        tracking_uri="http://mlflow:5000",
        dataset_root=tmp_path / "data",
        dataset_digest=manifest.digest,
        config_digest="c" * 64,
        git_commit="1" * 40,
        git_dirty=False,
        versions={"torch": "2.0"},
        weights_digest=runs.sha256(folder / "model.safetensors"),
        model_version="1",
    )
    runs.write_record(folder, record)
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return signing.make_keys(tmp_path / "keys")[0]


@pytest.fixture
def wrong_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export whose ReLUs are gone: it loads, and answers otherwise."""
    convert = export.convert

    def convert_wrongly(run: Path, spec: Spec) -> export.Graph:
        graph = convert(run, spec)
        return dataclasses.replace(graph, xml=graph.xml.replace(b'type="ReLU"', b'type="Abs"'))

    monkeypatch.setattr(export, "convert", convert_wrongly)


def members(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as mar:
        return {name for name in mar.namelist() if "/" not in name}


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_an_archive_on_openvino_answers_as_the_run_does(
    run: Path, tmp_path: Path, key: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        path = archive(run, tmp_path / "store", key, backend)
    contents = archives.read(path)
    assert contents.spec.backend == "openvino"
    assert {"model.safetensors", "model.xml", "model.bin"} < members(path)
    assert contents.lineage.parity is not None
    assert (contents.lineage.parity.holds, contents.lineage.parity.images) == (True, 4)
    assert "decisions agree on 100.0% of 4 test images" in caplog.text
    items = [Item(picture.read_bytes(), explain=True) for picture in sorted((tmp_path / "data").rglob("*.png"))]
    with archives.unpacked(path) as folder:
        served = predict(items, contents.spec, load_backend(folder, contents.spec))
    for ours, theirs in zip(served, predict(items, contents.spec, TorchBackend(run, contents.spec)), strict=True):
        assert isinstance(ours, Answer)
        assert isinstance(theirs, Answer)
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
        np.testing.assert_allclose(ours.heatmap, theirs.heatmap, atol=1e-3)


def test_an_archive_on_torch_needs_neither_export_nor_images(run: Path, tmp_path: Path, key: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    path = archive(run, tmp_path / "store", key, "torch")
    contents = archives.read(path)
    assert (contents.spec.backend, contents.lineage.parity) == ("torch", None)
    assert not {"model.xml", "model.bin"} & members(path)


def test_twice_the_same_run_is_twice_the_same_graph(run: Path, tmp_path: Path, key: Path) -> None:
    first, second = (archive(run, tmp_path / "store", key) for _ in range(2))
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        for name in ("model.safetensors", "model.xml", "model.bin"):
            assert one.read(name) == other.read(name), name
        lineages = [json.loads(mar.read("lineage.json")) for mar in (one, other)]
    assert lineages[0]["parity"] == lineages[1]["parity"]


@pytest.mark.usefixtures("wrong_export")
def test_without_parity_the_archive_runs_on_torch_and_says_why(
    run: Path, tmp_path: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = archive(run, tmp_path / "store", key)
    contents = archives.read(path)
    assert contents.spec.backend == "torch"
    assert not {"model.xml", "model.bin"} & members(path)
    assert contents.lineage.parity is not None
    assert not contents.lineage.parity.holds
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert contents.lineage.parity.describe() in warning


@pytest.mark.usefixtures("wrong_export")
def test_openvino_asked_for_without_parity_is_an_error_and_no_archive(run: Path, tmp_path: Path, key: Path) -> None:
    with pytest.raises(ParityFailed, match=r"archive\.parity: .*--backend torch"):
        archive(run, tmp_path / "store", key, "openvino")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_images_that_are_gone_or_changed_are_named_with_the_way_out(run: Path, tmp_path: Path, key: Path, what: str) -> None:
    picture = tmp_path / "data" / "damaged" / "2.png"
    if what == "gone":
        picture.unlink()
    else:
        picture.write_bytes(b"another")
    with pytest.raises(DataChanged, match=r"^data\.changed: damaged/2\.png .*--backend torch"):
        archive(run, tmp_path / "store", key)
    assert not (tmp_path / "store").exists()


def test_a_run_without_its_manifest_is_an_error(run: Path, tmp_path: Path, key: Path) -> None:
    (run / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"manifest\.json cannot be read.*--backend torch"):
        archive(run, tmp_path / "store", key)

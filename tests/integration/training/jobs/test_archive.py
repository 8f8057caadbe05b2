"""`visor archive`, the job: the fastest export that answers as torch does, else torch, and no secret made of any of it."""

import dataclasses
import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archives import files, signing
from archives.contents import read, unpacked
from handlers.backends import TorchBackend, load_backend
from handlers.predictor import Answer, Item, predict
from tests.integration.exports import Exports, write_picture
from tests.unit.networks import random_network, write_weights
from tests.unit.runs import make_record
from tests.unit.specs import TINY
from training import runs
from training.data.manifest import Manifest
from training.errors import DataChanged, DataError, ParityFailed
from training.jobs.archive import Choice, archive
from training.packing import export, parity


def make_manifest(root: Path) -> Manifest:
    """Twelve pictures of noise, eight of them to calibrate quantisations with and four of the test split."""
    rng, samples = np.random.default_rng(0), []
    for n in range(12):
        label, pixels = TINY.labels[n % 2], rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        samples.append(write_picture(root, f"{label}/{n}.png", pixels, label, "test" if n < 4 else "calibration"))
    return Manifest(TINY.labels, tuple(sorted(samples, key=lambda sample: sample.path)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run; its images are in `data` beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    network = random_network("small_cnn", 2, 16, 16)
    network.head.weight.data.abs_()  # evidence everywhere: next to none, scaled to 1, is a heat map of noise
    write_weights(folder, network)
    (folder / "spec.json").write_text(TINY.model_dump_json())
    (folder / "metrics.json").write_text('{"accuracy": 0.5}')
    for name in ("reference.npz", "report.html"):
        (folder / name).write_text("of no matter here")
    manifest = make_manifest(tmp_path / "data")
    manifest.write(folder / "manifest.json")
    record = make_record(
        dataset_root=tmp_path / "data",
        dataset_digest=manifest.digest,
        weights_digest=files.sha256(folder / "model.safetensors"),
        model_version="1",
    )
    runs.write_record(folder, record)
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return signing.make_keys(tmp_path / "keys")[0]


@pytest.fixture
def made_once(monkeypatch: pytest.MonkeyPatch, exports: Exports) -> None:
    """The runs of these tests are all of the same weights and pictures, whose exports are made once."""
    for name in ("convert", "convert_int8"):
        monkeypatch.setattr(export, name, getattr(exports, name))


@pytest.fixture
def wrong_export(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Exports whose ReLUs are gone: they load, and answer otherwise. The parameter names which, of `training.packing.export`."""
    for name in request.param:
        convert = getattr(export, name)

        def convert_wrongly(*given: Any, convert: Callable[..., export.Graph] = convert) -> export.Graph:
            graph = convert(*given)
            return dataclasses.replace(graph, xml=graph.xml.replace(b'type="ReLU"', b'type="Abs"'))

        monkeypatch.setattr(export, name, convert_wrongly)


FP32, INT8 = {"model.xml", "model.bin"}, {"model-int8.xml", "model-int8.bin"}


def members(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as mar:
        return {name for name in mar.namelist() if "/" not in name}


@pytest.mark.parametrize(
    ("choice", "backend", "held"),
    [
        ("auto", "openvino-int8", FP32 | INT8),
        ("openvino-int8", "openvino-int8", INT8),
        ("openvino", "openvino", FP32),
    ],
)
@pytest.mark.usefixtures("made_once")
def test_an_archive_on_openvino_answers_as_the_run_does(
    run: Path, tmp_path: Path, key: Path, choice: Choice, backend: str, held: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        path = archive(run, tmp_path / "store", key, choice)
    contents = read(path)
    assert contents.spec.backend == backend
    assert members(path) & (FP32 | INT8) == held
    assert "model.safetensors" in members(path)
    found = contents.lineage.parity[backend]
    assert (found.holds, found.images) == (True, 4)
    assert found.calibration_images == (8 if backend == "openvino-int8" else None)
    assert found.heatmap_correlation is not None
    assert found.heatmap_correlation > 0.99
    assert f"{backend} answers as torch does: {found.describe()}" in caplog.text
    atol = 0.05 if backend == "openvino-int8" else 1e-5
    items = [Item(picture.read_bytes(), explain=True) for picture in sorted((tmp_path / "data").rglob("*.png"))]
    with unpacked(path) as folder:
        served = predict(items, contents.spec, load_backend(folder, contents.spec))
    for ours, theirs in zip(served, predict(items, contents.spec, TorchBackend(run, contents.spec)), strict=True):
        assert isinstance(ours, Answer)
        assert isinstance(theirs, Answer)
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=atol)
        np.testing.assert_allclose(ours.heatmap, theirs.heatmap, atol=0.05 if backend == "openvino-int8" else 1e-3)


def test_an_archive_on_torch_needs_neither_export_nor_images(run: Path, tmp_path: Path, key: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    path = archive(run, tmp_path / "store", key, "torch")
    contents = read(path)
    assert (contents.spec.backend, contents.lineage.parity) == ("torch", {})
    assert not (FP32 | INT8) & members(path)


def test_twice_the_same_run_is_twice_the_same_graphs(run: Path, tmp_path: Path, key: Path) -> None:
    first, second = (archive(run, tmp_path / "store", key) for _ in range(2))
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        for name in ("model.safetensors", *sorted(FP32 | INT8)):
            assert one.read(name) == other.read(name), name
        lineages = [json.loads(mar.read("lineage.json")) for mar in (one, other)]
    assert lineages[0]["parity"] == lineages[1]["parity"]


@pytest.mark.parametrize(
    ("wrong_export", "backend", "held"),
    [(["convert_int8"], "openvino", FP32), (["convert_int8", "convert"], "torch", set())],
    indirect=["wrong_export"],
)
@pytest.mark.usefixtures("made_once", "wrong_export")
def test_without_parity_the_archive_runs_on_the_next_fastest_and_says_why(
    run: Path, tmp_path: Path, key: Path, backend: str, held: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = archive(run, tmp_path / "store", key)
    contents = read(path)
    assert contents.spec.backend == backend
    assert members(path) & (FP32 | INT8) == held
    found = contents.lineage.parity
    assert [name for name, one in found.items() if one.holds] == ([backend] if held else [])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        f"{name} is left out, as it does not answer as torch does: {one.describe()}"
        for name, one in found.items()
        if not one.holds
    ]


@pytest.mark.usefixtures("made_once")
def test_bounds_that_eight_bits_cannot_keep_leave_single_precision(
    run: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "openvino-int8", parity.BOUNDS["openvino"])
    contents = read(archive(run, tmp_path / "store", key))
    assert contents.spec.backend == "openvino"
    assert contents.lineage.parity["openvino-int8"].max_probability_difference > 1e-3
    assert not contents.lineage.parity["openvino-int8"].holds


@pytest.mark.parametrize(
    ("wrong_export", "backend"),
    [(["convert"], "openvino"), (["convert_int8"], "openvino-int8")],
    indirect=["wrong_export"],
)
@pytest.mark.usefixtures("made_once", "wrong_export")
def test_an_export_asked_for_without_parity_is_an_error_and_no_archive(
    run: Path, tmp_path: Path, key: Path, backend: Choice
) -> None:
    with pytest.raises(ParityFailed, match=rf"archive\.parity: {backend} does not .*--backend auto"):
        archive(run, tmp_path / "store", key, backend)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_images_that_are_gone_or_changed_are_named_with_the_way_out(run: Path, tmp_path: Path, key: Path, what: str) -> None:
    picture = tmp_path / "data" / "damaged" / "2.png"
    if what == "gone":
        picture.unlink()
    else:
        picture.write_bytes(b"another")
    with pytest.raises(DataChanged, match=r"^data\.changed: .*damaged/2\.png .*--backend torch"):
        archive(run, tmp_path / "store", key)
    assert not (tmp_path / "store").exists()


def test_a_run_without_its_manifest_is_an_error(run: Path, tmp_path: Path, key: Path) -> None:
    (run / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"manifest\.json cannot be read.*--backend torch"):
        archive(run, tmp_path / "store", key)

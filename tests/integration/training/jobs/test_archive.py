"""`visor archive`, the job, and what it packs: the fastest export that answers as torch does, with a decision of its own."""

import dataclasses
import json
import logging
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archives import files, signing
from archives.contents import read, unpacked
from archives.errors import KeyFileError
from handlers.backends import Backend, TorchBackend, load_backend
from handlers.decision import calibrated
from handlers.decode import decode, to_batch
from handlers.predictor import Answer, Item, predict
from handlers.spec import BackendName, Spec
from tests.integration.exports import Exports, write_picture
from tests.unit.configs import make_config
from tests.unit.networks import random_network, write_weights
from tests.unit.runs import make_record
from tests.unit.specs import TINY
from training import runs
from training.config import BackendChoice
from training.data.manifest import Manifest
from training.errors import ConfigError, DataChanged, DataError, FolderError, ParityFailed
from training.jobs.archive import archive
from training.jobs.evaluate import evaluate_run
from training.packing import export, parity


def make_manifest(root: Path) -> Manifest:
    """Thirty-six pictures of noise: twelve of the calibration split, eight of each other one."""
    rng, samples = np.random.default_rng(0), []
    splits = ("train", "val", "test", "calibration", "train", "val", "test", "calibration", "calibration")
    for n in range(36):
        label, pixels = TINY.labels[n % 2], rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        samples.append(write_picture(root, f"{label}/{n}.png", pixels, label, splits[n // 2 % 9]))
    return Manifest(TINY.labels, tuple(sorted(samples, key=lambda sample: sample.path)))


CONFIG = make_config(
    name="tiny",
    data={"source": "imagefolder", "path": "unused"},
    decision={"positive": ("damaged",), "max_fnr": 0.3},
    explanation_images=0,
    backend="auto",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run as versions before 0.3 left it, calibrated on torch's answers; its images are in `data` beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    network = random_network("small_cnn", 2, 16, 16)
    network.head.weight.data.abs_()  # evidence everywhere: next to none, scaled to 1, is a heat map of noise
    write_weights(folder, network)
    (folder / "spec.json").write_text(TINY.model_dump_json())
    (folder / "metrics.json").write_text('{"accuracy": 0.5}')
    for name in ("reference.npz", "report.html"):
        (folder / name).write_text("of no matter here")
    runs.write_config(folder, CONFIG)
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
        (None, "openvino-int8", INT8),
        ("auto", "openvino-int8", INT8),
        ("openvino-int8", "openvino-int8", INT8),
        ("openvino", "openvino", FP32),
    ],
)
@pytest.mark.usefixtures("made_once")
def test_an_archive_on_openvino_answers_as_torch_does_and_decides_by_its_own_answers(
    run: Path,
    tmp_path: Path,
    key: Path,
    choice: BackendChoice | None,
    backend: BackendName,
    held: set[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        path = archive(run, tmp_path / "store", key, choice)
    contents = read(path)
    assert contents.spec.backend == backend
    assert members(path) & (FP32 | INT8) == held
    assert "model.safetensors" in members(path)
    found = contents.lineage.parity[backend]
    assert (found.holds, found.images) == (True, 8)
    assert found.quantisation_images == (8 if backend == "openvino-int8" else None)
    assert found.heatmap_correlation is not None
    assert found.heatmap_correlation > 0.99
    assert f"{backend} answers as torch does: {found.describe()}" in caplog.text
    assert f"{run} was calibrated on the answers of torch; it is exported, calibrated and evaluated again" in caplog.text
    assert contents.lineage.metrics["backend"] == backend
    assert contents.spec == Spec.read(run / "spec.json")
    atol = 0.05 if backend == "openvino-int8" else 1e-5
    items = [Item(picture.read_bytes(), explain=True) for picture in sorted((tmp_path / "data").rglob("*.png"))]
    with unpacked(path) as folder:
        loaded = load_backend(folder, contents.spec)
        served = predict(items, contents.spec, loaded)
        expect_fitted_on(loaded, run, contents.spec, tmp_path / "data")
    alike = 0
    for ours, theirs in zip(served, predict(items, contents.spec, TorchBackend(run, contents.spec)), strict=True):
        assert isinstance(ours, Answer)
        assert isinstance(theirs, Answer)
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=atol)
        assert ours.heatmap is not None
        assert theirs.heatmap is not None
        if ours.heatmap_label == theirs.heatmap_label:  # a score at the very threshold may fall to either side
            alike += 1
            np.testing.assert_allclose(ours.heatmap, theirs.heatmap, atol=0.05 if backend == "openvino-int8" else 1e-3)
    assert alike >= len(items) - 2


def expect_fitted_on(backend: Backend, run: Path, spec: Spec, root: Path) -> None:
    """The run's saved answers are the backend's, and the bound is the largest score that spares enough of its positives."""
    samples = Manifest.read(run / "manifest.json").samples_of("calibration")
    pixels = [decode((root / sample.path).read_bytes(), spec.preprocessing, spec.limits) for sample in samples]
    logits, _ = backend.infer(to_batch(pixels, spec.preprocessing))
    with np.load(run / "predictions.npz") as saved:
        np.testing.assert_allclose(saved["calibration_logits"], logits, rtol=0, atol=1e-6)
    scores = np.sort(calibrated(logits, spec)[[sample.label == "damaged" for sample in samples], 0])
    assert spec.decision.fnr_bound is not None
    # Six positives, of which floor(0.3 (6 + 1)) - 1 = 1 may be missed: the second lowest score (conformal risk control).
    assert spec.decision.fnr_bound.threshold == pytest.approx(scores[1], abs=1e-6)


def test_a_store_with_commas_and_blanks_in_its_path_holds_archives(run: Path, tmp_path: Path, key: Path) -> None:
    path = archive(run, tmp_path / "a, b,c" / "störe", key, "torch")
    assert signing.verify(path, key.with_suffix(".pub"))
    assert read(path).spec.name == "tiny"


def test_the_key_and_the_store_are_tried_before_anything_is_exported(run: Path, tmp_path: Path, key: Path) -> None:
    before = {path.name for path in run.iterdir()}
    with pytest.raises(KeyFileError, match=r"nokey cannot be read .*make a pair with `visor keys`"):
        archive(run, tmp_path / "store", tmp_path / "nokey", "openvino")
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=rf"{tmp_path}/file/store cannot be made"):
        archive(run, tmp_path / "file" / "store", key, "openvino")
    assert {path.name for path in run.iterdir()} == before


def test_an_archive_on_torch_needs_neither_export_nor_images(run: Path, tmp_path: Path, key: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    path = archive(run, tmp_path / "store", key, "torch")
    contents = read(path)
    assert (contents.spec.backend, contents.lineage.parity) == ("torch", {})
    assert not (FP32 | INT8) & members(path)


@pytest.mark.usefixtures("made_once")
def test_what_serves_is_packed_again_without_images_and_another_backend_calibrates_again(
    run: Path, tmp_path: Path, key: Path
) -> None:
    first = read(archive(run, tmp_path / "store", key))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    for choice in (None, "auto", "openvino-int8"):
        assert read(archive(run, tmp_path / "store", key, choice)).spec.decision == first.spec.decision
    with pytest.raises(DataChanged, match=r"--backend openvino-int8 packs the run as it is"):
        archive(run, tmp_path / "store", key, "torch")
    assert Spec.read(run / "spec.json").backend == "openvino-int8"
    (tmp_path / "elsewhere").rename(tmp_path / "data")
    path = archive(run, tmp_path / "store", key, "torch")
    contents = read(path)
    assert (contents.spec.backend, contents.lineage.metrics["backend"], contents.lineage.parity) == ("torch", "torch", {})
    assert not INT8 & {file.name for file in run.iterdir()}
    expect_fitted_on(TorchBackend(run, contents.spec), run, contents.spec, tmp_path / "data")
    assert contents.spec.decision.threshold != first.spec.decision.threshold
    # And the choice stays what it is, until another one is made.
    assert read(archive(run, tmp_path / "store", key)).spec.backend == "torch"


def test_an_old_run_is_evaluated_on_what_will_serve_it(run: Path) -> None:
    metrics = evaluate_run(run)
    assert metrics["backend"] == Spec.read(run / "spec.json").backend == "openvino-int8"
    assert {file.name for file in run.iterdir()} >= INT8 | {"exports.json"}
    card = (run / "model-card.md").read_text()
    assert "answers by openvino" in card
    assert "quantised by 8 images of the training split" in card
    assert "openvino-int8" in (run / "report.html").read_text()
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    assert evaluate_run(run) == metrics
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


@pytest.mark.usefixtures("made_once")
def test_quantisation_sees_training_images_and_parity_validation_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither may see what calibrates or tests: each picture that reaches them is one of the split's."""
    config, manifest, root = runs.read_config(run), Manifest.read(run / "manifest.json"), runs.read_record(run).dataset_root
    shown: dict[str, list[Any]] = {}
    convert, ask = export.convert_int8, parity.ask

    def converting(run: Path, spec: Spec, pictures: Any) -> export.Graph:
        shown["train"] = list(pictures)
        return convert(run, spec, pictures)

    def asking(backend: Backend, pictures: Any, *given: Any) -> parity.Shown:
        shown["val"] = list(pictures)
        return ask(backend, pictures, *given)

    monkeypatch.setattr(export, "convert_int8", converting)
    monkeypatch.setattr(parity, "ask", asking)
    evaluate_run(run)
    for split in ("train", "val"):
        samples = manifest.samples_of(split)
        expected = [decode((root / sample.path).read_bytes(), config.preprocessing, config.limits) for sample in samples]
        np.testing.assert_array_equal(np.stack(shown[split]), np.stack(expected))


@pytest.mark.parametrize(
    ("hidden", "backend", "told"),
    [
        (("openvino", "nncf"), "torch", ["openvino-int8", "openvino"]),
        (("nncf",), "openvino", ["openvino-int8"]),
    ],
)
@pytest.mark.usefixtures("made_once")
def test_without_openvino_or_nncf_the_next_one_serves_with_a_warning(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hidden: tuple[str, ...],
    backend: str,
    told: list[str],
) -> None:
    for package in hidden:
        monkeypatch.setitem(sys.modules, package, None)
    assert evaluate_run(run)["backend"] == backend
    warnings = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert warnings == [
        f"{name} is left out, as {' and '.join(p for p in ('openvino', 'nncf') if p in hidden)} is not installed"
        if name == "openvino-int8"
        else f"{name} is left out, as openvino is not installed"
        for name in told
    ]
    with pytest.raises(ConfigError, match=r"backend openvino-int8 needs .*nncf, which is not installed"):
        evaluate_run(run, "openvino-int8")


def test_twice_the_same_run_is_twice_the_same_graphs(run: Path, tmp_path: Path, key: Path) -> None:
    again = shutil.copytree(run, tmp_path / "again")
    first, second = (archive(one, tmp_path / "store", key) for one in (run, again))
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        for name in ("model.safetensors", *sorted(INT8)):
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
    warnings = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    left_out = {name: one for name, one in found.items() if not one.holds}
    for warning, (name, one) in zip(warnings, left_out.items(), strict=True):
        assert warning.startswith(f"{name} is left out, as it does not answer as torch does: {one.describe()}: ")
        assert re.search(
            r"(may|may be|must by [0-9.]+), chance aside|and [0-9.]+ is allowed", warning
        )  # the bound that it breaks


@pytest.mark.usefixtures("made_once")
def test_bounds_that_eight_bits_cannot_keep_leave_single_precision(
    run: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "openvino-int8", parity.Bounds(logit_difference=1e-4))
    contents = read(archive(run, tmp_path / "store", key))
    assert re.search(r"openvino-int8 is left out, .*: a logit differs by [0-9.e-]+, and 0\.0001 is allowed", caplog.text)
    assert contents.spec.backend == "openvino"
    assert contents.lineage.parity["openvino-int8"].max_logit_difference > 1e-4
    assert not contents.lineage.parity["openvino-int8"].holds


@pytest.mark.parametrize(
    ("wrong_export", "backend"),
    [(["convert"], "openvino"), (["convert_int8"], "openvino-int8")],
    indirect=["wrong_export"],
)
@pytest.mark.usefixtures("made_once", "wrong_export")
def test_an_export_asked_for_without_parity_is_an_error_and_no_archive(
    run: Path, tmp_path: Path, key: Path, backend: BackendChoice
) -> None:
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    with pytest.raises(ParityFailed, match=rf"archive\.parity: {backend} does not .*; backend auto takes what does"):
        archive(run, tmp_path / "store", key, backend)
    assert not (tmp_path / "store").exists()
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_images_that_are_gone_or_changed_are_named_with_the_way_out(run: Path, tmp_path: Path, key: Path, what: str) -> None:
    picture = tmp_path / "data" / "damaged" / "0.png"
    if what == "gone":
        picture.unlink()
    else:
        picture.write_bytes(b"another")
    with pytest.raises(DataChanged, match=r"^data\.changed: .*damaged/0\.png .*--backend torch"):
        archive(run, tmp_path / "store", key)
    assert not (tmp_path / "store").exists()


def test_a_run_without_its_manifest_is_an_error(run: Path, tmp_path: Path, key: Path) -> None:
    (run / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"manifest\.json is not there.*--backend torch"):
        archive(run, tmp_path / "store", key)

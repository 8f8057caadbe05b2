"""The whole job on a run made here: a network that measures redness, pictures, masks where they are red."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from archives import files
from handlers.backends import TorchBackend
from handlers.decision import calibrated, probabilities
from handlers.decode import decode, to_batch
from handlers.drift import Reference
from handlers.networks import build
from handlers.predictor import Item, predict
from handlers.spec import FnrBound, Spec
from tests.unit import configs
from tests.unit.runs import make_record
from training import runs
from training.config import Config
from training.data import pixels as stored
from training.data.manifest import Manifest, Sample
from training.data.pixels import cache
from training.decisions.scaling import fit
from training.errors import ConfigError, DataChanged, DataError, DataUnreadable, RunError
from training.jobs import evaluate as evaluating
from training.jobs.evaluate import evaluate, evaluate_run

LABELS = ("calm", "red")
SPLITS = (*("train", "calibration", "calibration", "test", "test") * 6, *("val",) * 6)


def make_config(**decision) -> Config:
    return configs.make_config(name="tiny", data={"source": "imagefolder", "path": "unused"}, decision=decision)


# A temperature, as it leaves the answered labels as they are, of which some are wrong here; a bias puts them all right.
RED = make_config(positive=("red",), false_negative=3.0, review_cost=0.25, calibration="temperature")


def write(root: Path, name: str, pixels: np.ndarray) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return name


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Manifest]:
    """Grey noise; the red half of it has a red square of varied strength, and its mask."""
    root, rng, samples = tmp_path_factory.mktemp("data"), np.random.default_rng(0), []
    for n in range(72):
        pixels = rng.integers(60, 196, (24, 24, 1)).repeat(3, axis=2).astype(np.uint8)
        label, mask = LABELS[n % 2], None
        if label == "red":
            y, x = rng.integers(0, 14, 2)
            pixels[y : y + 10, x : x + 10] = (rng.integers(100, 255), 40, 40)
            shape = np.zeros((24, 24), dtype=np.uint8)
            shape[y : y + 10, x : x + 10] = 255
            mask = write(root, f"masks/red/{n:02}.png", shape)
        path = write(root, f"{label}/{n:02}.png", pixels)
        content = (root / path).read_bytes()
        sha = hashlib.sha256(content).hexdigest()
        samples.append(Sample(path, len(content), sha, label, SPLITS[n // 2], mask=mask))
    return root, Manifest(LABELS, tuple(sorted(samples, key=lambda sample: sample.path)))


def make_run(run: Path, root: Path, manifest: Manifest) -> Path:
    """Random features under a head of least squares on the twelve training pictures: good, and not perfect."""
    torch.manual_seed(0)
    model = build("small_cnn", classes=2).eval()
    train, given = manifest.samples_of("train"), RED.preprocessing
    pixels = [decode((root / sample.path).read_bytes(), given, RED.limits) for sample in train]
    with torch.inference_mode():
        features = model.features(torch.from_numpy(to_batch(pixels, given))).mean(dim=(2, 3)).numpy()
    wanted = np.array([1.0 if sample.label == "red" else -1.0 for sample in train])
    centre = features.mean(axis=0)
    weight = np.linalg.lstsq(features - centre, wanted, rcond=1e-2)[0]
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(np.stack([-weight, weight])))
        model.head.bias.copy_(torch.tensor([weight @ centre, -weight @ centre]))
    run.mkdir()
    save_file(model.state_dict(), run / runs.WEIGHTS)
    return run


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "tiny", *data)
    root, manifest = data
    evaluate(run, RED, root, manifest)
    return run


def test_everything_is_written_and_nothing_else(run):
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    drawn = ("confusion_matrix", "reliability", "precision_recall", "roc", "risk_coverage", "threshold_cost")
    plots = {f"plots/{name}.png" for name in drawn}
    files = {"model.safetensors", "spec.json", "reference.npz", "reference-rows.json", "predictions.npz", "metrics.json"}
    assert names == files | plots | {"exports.json", "report.html", "model-card.md", "model-card.html"}


def test_metrics_are_those_of_the_served_answers(run, data):
    root, manifest = data
    spec = Spec.read(run / "spec.json")
    metrics = json.loads((run / "metrics.json").read_text())
    test = manifest.samples_of("test")
    answers = predict([Item((root / sample.path).read_bytes()) for sample in test], spec, TorchBackend(run, spec))
    right = [answer.label == sample.label for answer, sample in zip(answers, test, strict=True)]
    assert metrics["images"] == len(test) == 24
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-6)
    assert 0.6 < metrics["accuracy"] < 1.0  # the run is made to err, so that what follows has something to show
    counts = {outcome: sum(answer.decision == outcome for answer in answers) for outcome in ("pass", "flag", "review")}
    assert metrics["decision"]["outcomes"] == counts
    assert metrics["pointing_game"]["images"] == 12


def test_the_spec_is_the_configs_and_the_calibrations(run):
    spec = Spec.read(run / "spec.json")
    assert (spec.name, spec.version, spec.labels, spec.feature_map) == ("tiny", "1", LABELS, (128, 2, 2))
    assert spec.preprocessing == RED.preprocessing
    assert spec.decision.positive == ("red",)
    assert spec.decision.cost == ((0.0, 1.0), (3.0, 0.0))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["calibration"]["temperature"] == pytest.approx(spec.temperature, abs=1e-6)


def test_the_reference_is_of_the_calibration_split(run, data):
    root, manifest = data
    reference = np.load(run / "reference.npz")
    split = manifest.samples_of("calibration")
    assert reference["features"].shape == (24, 128)
    assert reference["features"].dtype == np.float16
    assert reference["labels"].tolist() == [LABELS.index(sample.label) for sample in split]
    assert reference["rows"].tolist() == list(range(24))
    assert json.loads((run / "reference-rows.json").read_text()) == [sample.sha256 for sample in split]
    spec = Spec.read(run / "spec.json")
    answers = predict([Item((root / sample.path).read_bytes()) for sample in split], spec, TorchBackend(run, spec))
    np.testing.assert_allclose(reference["probabilities"], [answer.probabilities for answer in answers], atol=1e-6)


def test_the_reference_has_axes_of_training_and_bins_of_calibration_images(run, data):
    root, manifest = data
    reference, spec = Reference.read(run / "reference.npz"), Spec.read(run / "spec.json")
    backend = TorchBackend(run, spec)
    train, calibration = (manifest.samples_of(split) for split in ("train", "calibration"))
    pixels = [decode((root / one.path).read_bytes(), spec.preprocessing, spec.limits) for one in train]
    features = backend.infer(to_batch(pixels, spec.preprocessing))[1].mean(axis=(2, 3))
    np.testing.assert_allclose(reference.centre, features.mean(axis=0), atol=1e-5)
    assert reference.axes.shape == (11, 128)  # of twelve images no more than eleven directions vary
    # What serves counts the calibration images into bins one by one; so many are they, and of the same classes.
    answers = [predict([Item((root / one.path).read_bytes())], spec, backend, reference=reference)[0] for one in calibration]
    truth = np.array([LABELS.index(one.label) for one in calibration])
    for n, figure in enumerate(reference.figures):
        bins = np.array([answer.drift[n] for answer in answers])
        assert [np.sum(bins == b) for b in range(len(reference.counts[n]))] == reference.counts[n].tolist(), figure
        for k in range(2):
            counted = reference.class_counts[n][k]
            assert [np.sum(bins[truth == k] == b) for b in range(len(counted))] == counted.tolist(), figure
    assert reference.counts[reference.figures.index("width")].tolist() == [0, 24, 0]
    assert reference.images == 24
    drift = json.loads((run / "metrics.json").read_text())["drift"]
    assert (drift["figures"], drift["images"], drift["validation_images"]) == (18, 24, 12)
    assert drift["figure"] in reference.figures
    assert 0 <= drift["psi"] < drift["limit"]


class Leaning:
    """A backend that favours one label: torch's logits and a constant."""

    def __init__(self, run, spec, lean):
        self._backend, self._lean = TorchBackend(run, spec), np.array([0.0, lean], dtype=np.float32)
        self.head = self._backend.head

    def infer(self, batch):
        logits, maps = self._backend.infer(batch)
        return logits + self._lean, maps


def test_what_answers_otherwise_gets_a_threshold_and_a_bound_of_its_own(data, tmp_path, monkeypatch):
    config, found = make_config(positive=("red",), max_fnr=0.2), {}
    for lean in (0.0, -0.5):
        monkeypatch.setattr(evaluating, "load_backend", lambda run, spec, lean=lean: Leaning(run, spec, lean))
        run = make_run(tmp_path / f"run{lean}", *data)
        evaluate(run, config, *data)
        spec, saved = Spec.read(run / "spec.json"), np.load(run / runs.PREDICTIONS)
        found[lean] = spec.decision, saved
        red = np.sort(calibrated(saved["calibration_logits"], spec)[saved["calibration_truth"] == 1, 1])
        # Twelve positives, of which floor(0.2 (12 + 1)) - 1 = 1 may be missed: the second lowest score.
        assert spec.decision.fnr_bound.threshold == pytest.approx(red[1], abs=1e-6)
    for split in ("calibration", "test"):
        difference = found[-0.5][1][f"{split}_logits"] - found[0.0][1][f"{split}_logits"]
        np.testing.assert_allclose(difference, [[0.0, -0.5]] * 24, atol=1e-5)
    assert found[-0.5][0].fnr_bound.threshold != pytest.approx(found[0.0][0].fnr_bound.threshold, abs=1e-3)


def test_an_answer_that_is_no_number_is_an_error(data, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluating, "load_backend", lambda run, spec: Leaning(run, spec, np.nan))
    with pytest.raises(RunError, match="answers with NaN or infinity on torch: the fit diverged"):
        evaluate(make_run(tmp_path / "run", *data), RED, *data)


def test_pictures_come_from_the_cache_where_there_is_one(run, data, tmp_path, monkeypatch):
    root, manifest = data
    pixels = cache(root, manifest, RED.preprocessing, RED.limits, tmp_path / "cache")
    again = make_run(tmp_path / "run", root, manifest)
    calls = []
    monkeypatch.setattr(stored, "decode_good", lambda *given: calls.append(given))
    evaluate(again, RED, root, manifest, pixels)
    assert not calls
    for name in ("spec.json", "reference.npz", "predictions.npz", "metrics.json"):
        assert (again / name).read_bytes() == (run / name).read_bytes(), name


def fitted(run, data, folder, **recorded):
    """A folder of what a run has after its fit."""
    root, manifest = data
    folder.mkdir()
    shutil.copy(run / runs.WEIGHTS, folder)
    runs.write_config(folder, RED)
    manifest.write(folder / runs.MANIFEST)
    digests = {"dataset_digest": manifest.digest, "config_digest": RED.digest}
    runs.write_record(folder, make_record(dataset_root=root, **digests, **recorded))
    return folder


def test_the_runs_folder_is_enough_to_make_the_same_bytes_again(run, data, tmp_path):
    again = fitted(run, data, tmp_path / "again")
    assert evaluate_run(again) == json.loads((run / "metrics.json").read_text())
    for path in run.rglob("*"):
        if path.is_file():
            assert (again / path.relative_to(run)).read_bytes() == path.read_bytes(), path.name


def test_report_and_card_begin_with_the_images_that_the_record_says_were_met(run, data, tmp_path):
    again = fitted(run, data, tmp_path / "again", leaks=runs.Leaks(near={"test": 3, "calibration": 0}))
    tests = len(data[1].samples_of("test"))
    assert evaluate_run(again)["leaks"]["test"] == {"images": tests, "near": 3, "copies": 0, "pretrained": 0}
    said = f"3 of the {tests} test images are near-duplicates of what training or calibration had met"
    assert said in re.search('class="note">(.*?)<', (again / "report.html").read_text(), re.DOTALL)[1]
    assert said in (again / "model-card.md").read_text().split("an image classifier")[0]
    assert said in (again / "model-card.html").read_text().split("an image classifier")[0]


def test_the_report_names_errors_and_digests(run, data):
    text = (run / "report.html").read_text()
    assert data[1].digest in text
    assert RED.digest in text
    assert files.sha256(run / "model.safetensors") in text
    assert "Worst false negatives" in text
    assert "Pointing game" in text
    assert str(run) not in text


def test_the_saved_predictions_lead_to_the_served_answers(run, data):
    saved, spec = np.load(run / runs.PREDICTIONS), Spec.read(run / "spec.json")
    for split in ("calibration", "test"):
        samples = data[1].samples_of(split)
        assert saved[f"{split}_paths"].tolist() == [sample.path for sample in samples]
        assert saved[f"{split}_truth"].tolist() == [LABELS.index(sample.label) for sample in samples]
        answers = predict([Item((data[0] / sample.path).read_bytes()) for sample in samples], spec, TorchBackend(run, spec))
        expected = [answer.probabilities for answer in answers]
        np.testing.assert_allclose(probabilities(saved[f"{split}_logits"], spec.temperature), expected, atol=1e-6)


def test_heat_maps_are_tried_against_masks_and_against_shuffled_weights(run):
    found = json.loads((run / "metrics.json").read_text())["explanations"]
    assert found["images"] == 12  # of the test split, those with a mask
    assert found["pointing_served"] == json.loads((run / "metrics.json").read_text())["pointing_game"]["score"]
    assert found["energy_inside_mask"] > found["mask_share"]
    assert found["served"]["deletion_auc"] < found["shuffled"]["deletion_auc"]
    assert abs(found["rank_correlation_all"]) < 0.9
    assert 0 < found["pointing_chance"] < 1
    assert found["pointing_elsewhere"] < found["pointing_served"]


def test_no_images_to_explain_is_no_explanations(data, tmp_path):
    run = make_run(tmp_path / "run", *data)
    none = RED.model_copy(update={"explanation_images": 0})
    assert evaluate(run, none, *data)["explanations"] is None


def test_subgroups_are_told_apart_and_a_broken_bound_is_warned_of(data, tmp_path, caplog):
    root, manifest = data
    hard = [sample.path for sample in manifest.samples_of("test") if sample.label == "calm"][:2]  # which now are to be found red
    samples = tuple(dataclasses.replace(s, label="red") if s.path in hard else s for s in manifest.samples)
    lines = [f"{sample.path},{'hard' if sample.path in hard else 'easy'}" for sample in samples]
    (tmp_path / "groups.csv").write_text("path,kind\n" + "\n".join(lines) + "\n")
    groups = {"metadata": str(tmp_path / "groups.csv")}
    config = make_config(positive=("red",), max_fnr=0.1, subgroups=groups)
    run, manifest = make_run(tmp_path / "run", *data), Manifest(LABELS, samples)
    table = evaluate(run, config, root, manifest)["subgroups"]["kind"]
    assert (table["hard"]["images"], table["easy"]["images"]) == (2, 22)
    assert table["hard"]["fnr"] == 1.0
    assert table["hard"]["breaks_bound"] == "yes"  # 0.1 ** 2 is its p-value, and twice that among two groups
    assert "Subgroup kind = hard breaks the bound" in caplog.text
    assert "By kind" in (run / "report.html").read_text()
    (tmp_path / "groups.csv").write_text("path,kind\n")
    with pytest.raises(DataError, match="no row for 48 images"):
        evaluate(run, config, tmp_path / "nowhere", manifest)


def test_learning_curves_are_drawn_where_there_is_a_history(data, tmp_path):
    run = make_run(tmp_path / "run", *data)
    runs.write_history(run, [{"epoch": 1, "phase": 1, "train_loss": 1.0, "val_loss": 0.9, "val_accuracy": 0.5}])
    evaluate(run, RED, *data)
    assert (run / "plots/learning_curves.png").is_file()
    assert "Loss and accuracy of training and validation over 1 epoch" in (run / "report.html").read_text()


def test_a_bound_is_found_stated_and_kept(data, tmp_path):
    config = make_config(positive=("red",), max_fnr=0.1, set_coverage=0.9, set_method="aps")
    run = make_run(tmp_path / "run", *data)
    metrics = evaluate(run, config, *data)
    spec, saved = Spec.read(run / "spec.json"), np.load(run / runs.PREDICTIONS)
    reds = probabilities(saved["calibration_logits"], spec.temperature)[saved["calibration_truth"] == 1, 1]
    # 12 red pictures in the calibration split: (misses + 1) / 13 <= 0.1 allows none
    cap = np.sort(reds.astype(np.float64))[0]
    assert spec.decision.fnr_bound == FnrBound(level=0.1, threshold=cap, positives=12)
    assert spec.decision.threshold <= cap
    assert metrics["decision"]["fnr_bound"] == {"level": 0.1, "threshold": pytest.approx(cap, abs=1e-6), "positives": 12}
    assert metrics["prediction_sets"]["images"] == 24
    assert spec.prediction_sets.limit >= 0
    assert "at most 10.0% of the images labelled red are missed" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"positive": ("red",), "max_fnr": 0.05}, "at least 19 positive calibration images.*there are 12"),
        ({"set_coverage": 0.99}, "at least 99 calibration images.*there are 24"),
        # slopes and bias are fitted on one half, the sets found with the other
        ({"set_coverage": 0.95, "calibration": "vector"}, "at least 19 calibration images.*there are 12"),
    ],
)
def test_too_few_images_for_a_bound_are_said_before_any_is_read(data, tmp_path, decision, words):
    with pytest.raises(DataError, match=words):
        evaluate(make_run(tmp_path / "run", *data), make_config(**decision), tmp_path / "nowhere", data[1])


def test_scaling_is_served_as_it_was_fitted(data, tmp_path):
    run = make_run(tmp_path / "run", *data)
    metrics = evaluate(run, make_config(positive=("red",)), *data)
    spec, saved = Spec.read(run / "spec.json"), np.load(run / runs.PREDICTIONS)
    fitted = fit(saved["calibration_logits"], saved["calibration_truth"], "vector", np.zeros(2))  # even shares
    np.testing.assert_allclose(spec.scaling.slope, fitted.slope)
    answers = predict([Item((data[0] / s.path).read_bytes()) for s in data[1].samples_of("test")], spec, TorchBackend(run, spec))
    p = probabilities(saved["test_logits"], 1.0).astype(np.float64)  # beta calibration by its formula
    odds = fitted.slope[0] * np.log(p[:, 1]) - fitted.slope[1] * np.log(p[:, 0]) + fitted.bias[1] - fitted.bias[0]
    expected = np.stack([1 / (1 + np.exp(odds)), 1 / (1 + np.exp(-odds))], axis=1)
    np.testing.assert_allclose([answer.probabilities for answer in answers], expected, atol=1e-6)
    assert metrics["calibration"]["slope_status"] == fitted.status
    assert metrics["calibration"]["slope"] == pytest.approx(fitted.slope.tolist(), abs=1e-6)
    assert "slopes, weights and biases" in (run / "report.html").read_text()
    assert "few images of" in (run / "report.html").read_text()  # 12 of each label


def test_a_mix_that_is_none_is_refused_before_any_image_is_read(data, tmp_path):
    config = make_config(positive=("red",), prevalence={"red": 0.2, "blue": 0.8})
    with pytest.raises(ConfigError, match="each label its share"):
        evaluate(make_run(tmp_path / "run", *data), config, tmp_path / "nowhere", data[1])


def test_a_stated_mix_moves_probabilities_and_is_reported(data, tmp_path):
    given = {"positive": ("red",), "review_cost": 0.3}
    plain = make_run(tmp_path / "plain", *data)
    evaluate(plain, make_config(**given), *data)
    run = make_run(tmp_path / "run", *data)
    metrics = evaluate(run, make_config(**given, prevalence={"calm": 0.9, "red": 0.1}), *data)
    spec, saved = Spec.read(run / "spec.json"), np.load(run / runs.PREDICTIONS)
    assert spec.decision.prevalence == (0.9, 0.1)
    before = calibrated(saved["test_logits"], Spec.read(plain / "spec.json")).astype(float)
    after = before * [0.9, 0.1] / 0.5  # half of the calibration split has each label
    np.testing.assert_allclose(calibrated(saved["test_logits"], spec), after / after.sum(axis=1, keepdims=True), atol=1e-6)
    rules = metrics["prevalence"]["rules"]
    assert rules["stated"]["mean_score"] < rules["calibration split"]["mean_score"]
    text = (run / "report.html").read_text()
    assert "The mix to come" in text
    assert "Probabilities, threshold, review band, costs and calibration are for the mix" in text
    assert 1 < len(spec.decision.curve) <= 100


def test_without_positive_labels_and_masks(data, tmp_path):
    root, manifest = data
    bare = Manifest(LABELS, tuple(dataclasses.replace(sample, mask=None) for sample in manifest.samples))
    run = make_run(tmp_path / "run", *data)
    metrics = evaluate(run, make_config(review_cost=0.2, calibration="temperature"), root, bare)
    assert metrics["pointing_game"] is None
    assert metrics["decision"]["recall"] is None
    assert metrics["decision"]["outcomes"]["flag"] == 0
    text = (run / "report.html").read_text()
    wrong = [label for label in LABELS if metrics["per_class"][label]["recall"] < 1]
    assert wrong
    assert all(f"Worst errors: {label}" in text for label in wrong)


def test_a_perfect_calibration_split_is_said_to_be(run, data, tmp_path, caplog):
    root, manifest = data
    split, spec = manifest.samples_of("calibration"), Spec.read(run / "spec.json")
    answers = predict([Item((root / sample.path).read_bytes()) for sample in split], spec, TorchBackend(run, spec))
    right = [sample for sample, answer in zip(split, answers, strict=True) if sample.label == answer.label]
    assert len(right) < len(split)
    rest = [sample for sample in manifest.samples if sample.split != "calibration"]
    metrics = evaluate(make_run(tmp_path / "run", *data), RED, root, Manifest(LABELS, tuple(right + rest)))
    assert metrics["calibration"]["temperature_status"] == "apart"
    said = "So few errors do not say how sure answers may be"
    assert said in caplog.text
    assert said in (tmp_path / "run" / "report.html").read_text()


def test_an_empty_split_is_named(data, tmp_path):
    root, manifest = data
    training = Manifest(LABELS, tuple(sample for sample in manifest.samples if sample.split != "test"))
    with pytest.raises(DataError, match=r"test split has no image.*data\.splits\.test"):
        evaluate(make_run(tmp_path / "run", *data), RED, root, training)


def test_a_run_without_weights_is_named(data, tmp_path):
    with pytest.raises(RunError, match=r"model\.safetensors.*visor train"):
        evaluate(tmp_path, RED, *data)


def test_a_fit_that_diverged_is_named(data, tmp_path):
    run = make_run(tmp_path / "run", *data)
    weights = load_file(run / runs.WEIGHTS)
    save_file(weights | {"head.bias": torch.tensor([float("nan"), 0.0])}, run / runs.WEIGHTS)
    with pytest.raises(RunError, match="diverged; lower"):
        evaluate(run, RED, *data)


def test_a_contradicting_config_is_named_before_any_image_is_read(data, tmp_path):
    with pytest.raises(ConfigError, match="blue"):
        evaluate(make_run(tmp_path / "run", *data), make_config(positive=("blue",)), tmp_path / "nowhere", data[1])


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_a_changed_and_a_missing_file_are_named(data, tmp_path, split):
    root, manifest = data
    run = make_run(tmp_path / "run", *data)
    sample = manifest.samples_of(split)[3]
    others = tuple(s for s in manifest.samples if s != sample)
    with pytest.raises(DataChanged, match=sample.path):
        evaluate(run, RED, root, Manifest(LABELS, (*others, dataclasses.replace(sample, sha256="0" * 64))))
    with pytest.raises(DataChanged, match=r"red/gone\.png cannot be read"):
        evaluate(run, RED, root, Manifest(LABELS, (*others, dataclasses.replace(sample, path="red/gone.png"))))
    assert [path.name for path in run.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_images_that_cannot_be_read_are_all_named(data, tmp_path, split):
    root, manifest = data
    (root / "broken.png").write_bytes(b"no image")
    sha = hashlib.sha256(b"no image").hexdigest()
    broken = tuple(Sample("broken.png", 8, sha, "red", split) for _ in range(2))
    with pytest.raises(DataUnreadable, match=r"(?s)2 (files|images) that cannot be .*broken\.png.*broken\.png"):
        evaluate(make_run(tmp_path / "run", *data), RED, root, Manifest(LABELS, manifest.samples + broken))


def test_a_mask_that_cannot_be_read_is_named(data, tmp_path):
    root, manifest = data
    (root / "broken-mask.png").write_bytes(b"no image")
    sample = dataclasses.replace(manifest.samples_of("test")[0], mask="broken-mask.png")
    with pytest.raises(DataUnreadable, match=r"broken-mask\.png"):
        evaluate(make_run(tmp_path / "run", *data), RED, root, Manifest(LABELS, (*manifest.samples_of("calibration"), sample)))

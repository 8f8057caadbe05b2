"""All runs answer the audits, each as it serves, and are set beside the champion; none of them may have learnt from one."""

import json

import numpy as np
import pytest
from PIL import Image

from handlers.backends import TorchBackend
from handlers.predictor import Item, predict
from tests.unit.configs import make_config
from tests.unit.networks import random_network, write_weights
from tests.unit.specs import TINY
from training import runs
from training.data.manifest import Manifest, Sample, hash_file
from training.errors import CompareError
from training.jobs.audits import answer_audits
from training.reports.comparison import summary, to_json
from training.selection.comparison import Candidate, Comparison, Row, Rule

LABELS = ("damaged", "intact")


@pytest.fixture
def data(tmp_path):
    """Four pictures for testing, eight audits, and a sealed one that is none."""
    root, rng, samples = tmp_path / "data", np.random.default_rng(0), []
    splits = ["train"] * 2 + ["test"] * 4 + ["audits"] * 8 + ["sealed"]
    for n, split in enumerate(splits):
        path = f"{LABELS[n % 2]}/{'audits/' if split == 'audits' else ''}{n:02}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / path)
        samples.append(Sample(path, *hash_file(root, path), LABELS[n % 2], "sealed" if split == "audits" else split))
    return root, Manifest(LABELS, tuple(sorted(samples, key=lambda sample: sample.path)))


def without_audits(manifest, *, learnt=False):
    """The data set before it had them, or one that has learnt from one of them."""
    kept = [one for one in manifest.samples if one.split != "sealed"]
    kept += [Sample(one.path, one.size, one.sha256, one.label, "train") for one in manifest.samples if "audits/06" in one.path]
    return Manifest(LABELS, tuple(sorted(kept if learnt else kept[:6], key=lambda sample: sample.path)))


def run_of(folder, root, manifest, seed):
    folder.mkdir()
    write_weights(folder, random_network("small_cnn", 2, 16, 16, seed))
    manifest.write(folder / runs.MANIFEST)
    digests = {"dataset_digest": manifest.digest, "config_digest": make_config().digest, "weights_digest": "w"}
    known = {"mlflow_run_id": folder.name, "tracking_uri": "x", "git_commit": "unknown", "git_dirty": None, "versions": {}}
    runs.write_record(folder, runs.Record(dataset_root=root, **known, **digests))
    test = manifest.samples_of("test")
    truth = np.array([LABELS.index(sample.label) for sample in test])
    paths = tuple(sample.path for sample in test)
    return Candidate(folder.name, folder.name, TINY, paths, truth, np.full((len(test), 2), 0.5, np.float32), {}, folder=folder)


def compared(*candidates, champion=None):
    return Comparison(Rule(), [Row(one, {}, None, []) for one in candidates], champion, None, 0, 50)


def test_all_runs_answer_the_audits_as_they_serve(tmp_path, data):
    root, manifest = data
    old, new = run_of(tmp_path / "old", root, without_audits(manifest), 1), run_of(tmp_path / "new", root, manifest, 2)
    found = answer_audits(compared(new, old, champion="old"))
    audits = [sample for sample in manifest.samples if "/audits/" in sample.path]
    items = [Item((root / sample.path).read_bytes()) for sample in audits]
    right = {}
    for name in ("old", "new"):
        answers = predict(items, TINY, TorchBackend(tmp_path / name, TINY))
        right[name] = np.array([answer.label == sample.label for answer, sample in zip(answers, audits, strict=True)])
        assert found.figures[name]["accuracy"].value == pytest.approx(right[name].mean())
    assert (found.images, found.reference, list(found.versus), found.not_asked) == (8, "old", ["new"], ())
    versus = found.versus["new"]
    assert versus.only_it == (right["new"] & ~right["old"]).sum()
    assert versus.only_champion == (right["old"] & ~right["new"]).sum()


def test_what_they_answer_is_written(tmp_path, data):
    root, manifest = data
    old, new = run_of(tmp_path / "old", root, without_audits(manifest), 1), run_of(tmp_path / "new", root, manifest, 2)
    known = Candidate("far", "far", TINY, old.paths, old.truth, old.probabilities, {})
    made = compared(old, new, known, champion="far")
    found = answer_audits(made)
    assert (found.reference, found.not_asked) == ("old", ("far",))
    made = Comparison(Rule(), [], None, None, 0, 50, audits=found)
    written = json.loads(json.dumps(to_json(made)))["audits"]
    assert written["figures"]["new"]["accuracy"]["value"] == pytest.approx(found.figures["new"]["accuracy"].value, abs=1e-6)
    assert written["versus"]["new"]["cost"]["value"] == pytest.approx(found.versus["new"].cost.value, abs=1e-6)
    said = " ".join(summary(Comparison(Rule(), [Row(old, {}, None, [])], None, None, 0, 50, audits=found)))
    assert "On 8 audits, drawn at random of what a server was asked and learnt from by none, new has: accuracy" in said
    assert f"beside old, new alone is right on {found.versus['new'].only_it}" in said
    assert "far was not asked, as it is known from MLflow alone" in said


def test_what_cannot_be_asked_is_said(tmp_path, data):
    root, manifest = data
    old = run_of(tmp_path / "old", root, without_audits(manifest), 1)
    with pytest.raises(CompareError, match="no run that is compared was trained on a data set with audits"):
        answer_audits(compared(old))
    new = run_of(tmp_path / "new", root, manifest, 2)
    cheat = run_of(tmp_path / "cheat", root, without_audits(manifest, learnt=True), 3)
    with pytest.raises(CompareError, match=r"cheat has audits of .*new in its train split, such as damaged/audits/06\.png"):
        answer_audits(compared(new, cheat))

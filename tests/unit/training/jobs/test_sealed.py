"""The sealed split is answered by the chosen run alone, as its backend serves, and opening it is remembered."""

import json
from dataclasses import replace

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
from training.errors import CompareError, DataChanged
from training.jobs.sealed import open_sealed
from training.selection.comparison import Candidate, Comparison, Row, Rule

LABELS = ("damaged", "intact")


@pytest.fixture
def data(tmp_path):
    """Four pictures for testing and ten sealed ones, in pairs."""
    root, rng, samples = tmp_path / "data", np.random.default_rng(0), []
    for n, split in enumerate(["train"] * 2 + ["test"] * 4 + ["sealed"] * 10):
        path = f"{LABELS[n % 2]}/{n:02}.png"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / path)
        samples.append(Sample(path, *hash_file(root, path), LABELS[n % 2], split, f"g{n // 2}"))
    return root, Manifest(LABELS, tuple(sorted(samples, key=lambda sample: sample.path)))


def run_of(folder, data, name, seed=0):
    """A run's folder as far as it is read here, and what is compared of it."""
    root, manifest = data
    folder.mkdir()
    write_weights(folder, random_network("small_cnn", 2, 16, 16, seed))
    manifest.write(folder / runs.MANIFEST)
    digests = {"dataset_digest": manifest.digest, "config_digest": make_config().digest, "weights_digest": "w"}
    known = {"mlflow_run_id": name, "tracking_uri": "x", "git_commit": "unknown", "git_dirty": None, "versions": {}}
    runs.write_record(folder, runs.Record(dataset_root=root, **known, **digests))
    test = manifest.samples_of("test")
    probabilities = np.full((len(test), 2), 0.5, np.float32)
    truth = np.array([LABELS.index(sample.label) for sample in test])
    return Candidate(name, name, TINY, tuple(s.path for s in test), truth, probabilities, {}, folder=folder)


def compared(*candidates, chosen):
    return Comparison(Rule(), [Row(one, {}, None, []) for one in candidates], None, chosen, 0, 50)


def test_the_chosen_run_answers_the_sealed_images_as_it_serves(tmp_path, data):
    root, manifest = data
    first, second = (run_of(tmp_path / name, data, name, seed) for seed, name in enumerate("ab"))
    found = open_sealed(compared(first, second, chosen="b"))
    sealed = manifest.samples_of("sealed")
    items = [Item((root / sample.path).read_bytes()) for sample in sealed]
    answers = predict(items, TINY, TorchBackend(tmp_path / "b", TINY))
    right = np.mean([answer.label == sample.label for answer, sample in zip(answers, sealed, strict=True)])
    assert found.figures["accuracy"].value == pytest.approx(right)
    assert (found.images, found.backend, found.before) == (10, "torch", ())
    written = json.loads((tmp_path / "b" / runs.SEALED).read_text())
    assert written["among"] == ["a", "b"]
    assert written["dataset_digest"] == manifest.digest
    assert written["figures"]["accuracy"][0] == pytest.approx(right)
    assert written["figures"]["ece"][1] is None
    assert not (tmp_path / "a" / runs.SEALED).exists()
    again = open_sealed(compared(first, second, chosen="a"))  # whoever chooses anew has seen it
    assert again.before == ("b",)


def test_what_cannot_be_opened_is_said(tmp_path, data):
    root, manifest = data
    one = run_of(tmp_path / "a", data, "a")
    with pytest.raises(CompareError, match="no run keeps"):
        open_sealed(compared(one, chosen=None))
    with pytest.raises(CompareError, match="name the run's folder"):
        open_sealed(compared(replace(one, folder=None), chosen="a"))
    (root / manifest.samples_of("sealed")[0].path).write_bytes(b"other")
    with pytest.raises(DataChanged):
        open_sealed(compared(one, chosen="a"))
    without = replace(manifest, samples=tuple(s for s in manifest.samples if s.split != "sealed"))
    without.write(tmp_path / "a" / runs.MANIFEST)
    with pytest.raises(CompareError, match=r"data\.splits\.sealed before a training"):
        open_sealed(compared(one, chosen="a"))

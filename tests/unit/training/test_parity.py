"""The figures of parity, by hand; and what is asked, of real exports, to find them."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from handlers.errors import ArchiveBroken
from handlers.predictor import Answer
from handlers.spec import Spec
from tests.unit.networks import random_network, write_weights
from training import parity as parities
from training.data.manifest import Sample
from training.export import Graph, convert, convert_int8
from training.parity import ask_torch, compare, measure

SPEC = Spec.parse(
    json.dumps(
        {
            "name": "tiny",
            "version": "1",
            "network": "small_cnn",
            "labels": ["damaged", "intact"],
            "preprocessing": {"height": 16, "width": 16, "mean": [0.5] * 3, "std": [0.5] * 3},
            "feature_map": [128, 2, 2],
            "temperature": 1,
            "decision": {"positive": ["damaged"], "threshold": 0.5, "cost": [[0, 1], [1, 0]]},
        }
    ),
    "test",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run"), random_network("small_cnn", 2, 16, 16))


@pytest.fixture(scope="module")
def graph(run) -> Graph:
    return convert(run, SPEC)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, list[Sample]]:
    """Ten pictures of noise, every other one called damaged."""
    root, rng, samples = tmp_path_factory.mktemp("data"), np.random.default_rng(0), []
    for n in range(10):
        path = root / f"{n}.png"
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        samples.append(Sample(path.name, len(content), digest, SPEC.labels[n % 2], "test"))
    return root, samples


def shifted(graph: Graph) -> Graph:
    """A graph that is wrong: its first convolution reads its weights one number too far."""
    root = ElementTree.fromstring(graph.xml)
    constant = root.find("./layers/layer[@type='Const']/data")
    assert constant is not None
    constant.attrib["offset"] = str(int(constant.attrib["offset"]) + 4)
    return dataclasses.replace(graph, xml=ElementTree.tostring(root))


def test_an_export_answers_the_images_as_torch_does(run, graph, data):
    root, samples = data
    parity = measure(run, graph, "openvino", SPEC, ask_torch(run, SPEC, samples, root), root)
    assert parity.holds
    assert parity.calibration_images is None
    assert (parity.images, parity.decision_agreement) == (10, 1.0)
    assert parity.max_logit_difference < 1e-5
    assert parity.max_probability_difference < 1e-5
    assert parity.max_heatmap_difference < 1e-3
    assert parity.heatmap_correlation == parity.heatmap_iou == 1.0
    assert parity.accuracy["torch"] == parity.accuracy["openvino"]
    assert parity.fnr is not None
    assert parity.fnr["torch"] == parity.fnr["openvino"]


def test_eight_bits_are_measured_against_torch_too(run, data):
    root, samples = data
    graph = convert_int8(run, SPEC, samples, root)
    parity = measure(run, graph, "openvino-int8", SPEC, ask_torch(run, SPEC, samples, root), root)
    # Rounded, and no more than that; maps of 2 x 2 with next to no evidence are the hardest there are.
    assert 1e-5 < parity.max_probability_difference < 0.05
    assert parity.heatmap_correlation is not None
    assert parity.heatmap_correlation > 0.8
    assert parity.calibration_images == 10
    assert set(parity.accuracy) == {"torch", "openvino-int8"}


def test_a_wrong_graph_is_found_out(run, graph, data):
    root, samples = data
    parity = measure(run, shifted(graph), "openvino", SPEC, ask_torch(run, SPEC, samples, root), root)
    assert not parity.holds
    assert parity.max_probability_difference > 0.01


def test_a_graph_that_does_not_load_is_an_error(run, graph, data):
    root, samples = data
    broken, reference = dataclasses.replace(graph, xml=b"<net/>"), ask_torch(run, SPEC, samples, root)
    with pytest.raises(ArchiveBroken, match=r"model\.xml"):
        measure(run, broken, "openvino", SPEC, reference, root)


def test_of_many_images_some_are_asked_evenly_spaced(run, data, monkeypatch):
    root, samples = data
    monkeypatch.setattr(parities, "IMAGES", 4)
    reference = ask_torch(run, SPEC, samples, root)
    assert [sample.path for sample in reference.samples] == ["0.png", "3.png", "6.png", "9.png"]
    assert len(reference.answered[1]) == len(reference.answered[0]) == 4


def answers(damaged: list[float], heatmap: list[float] | None = None) -> tuple[np.ndarray, list[Answer]]:
    """Answers of these probabilities of `damaged`; the logits are their logarithms, the maps (1, 2) and explained alike."""
    probs = np.array([[p, 1 - p] for p in damaged], dtype=np.float32)
    maps = np.array([heatmap or [0.0, 1.0]], dtype=np.float32)
    return np.log(probs), [
        Answer(
            label=SPEC.labels[int(row.argmax())],
            confidence=float(row.max()),
            probabilities=row,
            decision="flag" if row[0] >= 0.5 else "pass",
            threshold=0.5,
            heatmap=maps,
            heatmap_label="damaged" if row[0] >= 0.5 else "intact",
        )
        for row in probs
    ]


TRUTH = np.array([0, 0, 1, 1])


def test_the_figures_by_hand():
    parity = compare(answers([0.75, 0.25, 0.25, 0.5]), answers([0.75, 0.5, 0.25, 0.5], [0.25, 1.0]), TRUTH, SPEC)
    # The second picture, damaged, is missed by torch alone; both flag the fourth, intact.
    assert (parity.images, parity.decision_agreement, parity.holds) == (4, 0.75, False)
    assert parity.max_probability_difference == 0.25
    assert parity.max_logit_difference == pytest.approx(math.log(2), abs=1e-3)
    assert parity.max_heatmap_difference == 0.25
    assert parity.accuracy == {"torch": 0.5, "openvino": 0.75}
    assert parity.fnr == {"torch": 0.5, "openvino": 0.0}
    assert parity.describe() == (
        "decisions agree on 75.0% of 4 test images, accuracy 75.0% (torch 50.0%), probabilities differ by at most 0.25, "
        "heat maps correlate by 1.000, 0.0% of the positives missed (torch 50.0%)"
    )


def test_without_positive_images_there_is_no_fnr():
    parity = compare(answers([0.25]), answers([0.25]), np.array([1]), SPEC)
    assert parity.fnr is None
    assert parity.holds


def test_heat_maps_of_different_labels_are_not_compared():
    assert compare(answers([0.25]), answers([0.75], [1.0, 0.0]), np.array([1]), SPEC).max_heatmap_difference == 0.0


@pytest.mark.parametrize(
    ("reference", "exported", "truth", "holds"),
    [
        ([0.5] * 200, [0.5] * 200, 1, True),
        ([0.5] * 200, [0.5] * 199 + [0.4999], 1, True),  # one of 200: 99.5 %
        ([0.5] * 200, [0.5] * 198 + [0.4999] * 2, 1, False),
        ([0.5] * 200, [0.5] * 199 + [0.4999], 0, False),  # one more damaged roof missed
        ([0.4999] * 200, [0.4999] * 199 + [0.5], 0, True),  # one fewer
        ([0.3] * 200, [0.3] * 199 + [0.3009], 1, True),
        ([0.3] * 200, [0.3] * 199 + [0.3011], 1, False),
        ([0.3] * 200, [0.3] * 199 + [math.nan], 1, False),
    ],
)
def test_when_parity_holds(reference, exported, truth, holds):
    parity = compare(answers(reference), answers(exported), np.full(200, truth), SPEC)
    assert parity.holds is holds
    assert type(parity).model_validate_json(parity.model_dump_json()) == parity


@pytest.mark.parametrize(
    ("exported", "truth", "holds"),
    [
        ([0.25] * 200, 1, True),  # 0.05 in probability is of no matter in 8 bits, what is decided is
        ([0.3] * 199 + [0.5], 1, True),  # one of 200 is decided otherwise and wrong: 99.5 % agree, accuracy is 0.5 % less
        ([0.3] * 198 + [0.5] * 2, 1, False),
    ],
)
def test_when_parity_of_eight_bits_holds(exported, truth, holds):
    parity = compare(answers([0.3] * 200), answers(exported), np.full(200, truth), SPEC, "openvino-int8")
    assert parity.holds is holds


@pytest.mark.parametrize(
    ("theirs", "ours", "correlation", "iou", "holds"),
    [
        ([0.0, 1.0], [0.0, 1.0], 1.0, 1.0, True),
        ([0.0, 1.0], [1.0, 0.0], -1.0, 0.0, False),
        ([0.0, 1.0], [0.75, 1.0], 1.0, 0.5, True),  # the first place counts as lit in one map only
        ([0.0, 1.0], [0.0, 0.0], 0.0, 0.0, False),  # evidence that one of both does not see
        ([0.0, 0.0], [0.0, 0.0], None, None, True),
    ],
)
def test_heat_maps_by_hand(theirs, ours, correlation, iou, holds):
    parity = compare(answers([0.25], theirs), answers([0.25], ours), np.array([1]), SPEC, "openvino-int8")
    assert parity.heatmap_correlation == (None if correlation is None else pytest.approx(correlation))
    assert parity.heatmap_iou == iou
    assert parity.holds is holds

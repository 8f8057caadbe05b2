"""What parity is asked of real exports, and found of one that is wrong; tests/unit/training has the figures by hand."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from handlers.errors import ArchiveBroken
from tests.integration.exports import Exports, write_picture
from tests.unit.specs import TINY
from training.data.manifest import Sample
from training.packing import parity as parities
from training.packing.export import Graph
from training.packing.parity import ask_torch, measure


@pytest.fixture(scope="module")
def graph(exports: Exports, tiny: Path) -> Graph:
    return exports.convert(tiny, TINY)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, list[Sample]]:
    """Ten pictures of noise, every other one called damaged."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20, 20, 3), dtype=np.uint8) for _ in range(10)]
    return root, [write_picture(root, f"{n}.png", pixels, TINY.labels[n % 2], "test") for n, pixels in enumerate(pictures)]


def shifted(graph: Graph) -> Graph:
    """A graph that is wrong: its first convolution reads its weights one number too far."""
    root = ElementTree.fromstring(graph.xml)
    constant = root.find("./layers/layer[@type='Const']/data")
    assert constant is not None
    constant.attrib["offset"] = str(int(constant.attrib["offset"]) + 4)
    return dataclasses.replace(graph, xml=ElementTree.tostring(root))


def test_an_export_answers_the_images_as_torch_does(tiny, graph, data):
    root, samples = data
    parity = measure(tiny, graph, "openvino", TINY, ask_torch(tiny, TINY, samples, root), root)
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


def test_eight_bits_are_measured_against_torch_too(tiny, data, exports):
    root, samples = data
    graph = exports.convert_int8(tiny, TINY, samples, root)
    parity = measure(tiny, graph, "openvino-int8", TINY, ask_torch(tiny, TINY, samples, root), root)
    # Rounded, and no more than that; maps of 2 x 2 with next to no evidence are the hardest there are.
    assert 1e-5 < parity.max_probability_difference < 0.05
    assert parity.heatmap_correlation is not None
    assert parity.heatmap_correlation > 0.8
    assert parity.calibration_images == 10
    assert set(parity.accuracy) == {"torch", "openvino-int8"}


def test_a_wrong_graph_is_found_out(tiny, graph, data):
    root, samples = data
    parity = measure(tiny, shifted(graph), "openvino", TINY, ask_torch(tiny, TINY, samples, root), root)
    assert not parity.holds
    assert parity.max_probability_difference > 0.01


def test_a_graph_that_does_not_load_is_an_error(tiny, graph, data):
    root, samples = data
    broken, reference = dataclasses.replace(graph, xml=b"<net/>"), ask_torch(tiny, TINY, samples, root)
    with pytest.raises(ArchiveBroken, match=r"model\.xml"):
        measure(tiny, broken, "openvino", TINY, reference, root)


def test_of_many_images_some_are_asked_evenly_spaced(tiny, data, monkeypatch):
    root, samples = data
    monkeypatch.setattr(parities, "IMAGES", 4)
    reference = ask_torch(tiny, TINY, samples, root)
    assert [sample.path for sample in reference.samples] == ["0.png", "3.png", "6.png", "9.png"]
    assert len(reference.answered[1]) == len(reference.answered[0]) == 4

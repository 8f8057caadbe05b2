"""What parity is asked of real exports, and found of one that is wrong; tests/unit/training has the figures by hand."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.torch import load_file

from handlers.arrays import UInt8
from handlers.backends import TorchBackend
from handlers.decode import to_batch
from handlers.errors import ArchiveBroken
from tests.integration.exports import Exports
from tests.unit.specs import TINY
from training.packing.export import Graph
from training.packing.parity import Shown, ask, measure


@pytest.fixture(scope="module")
def graph(exports: Exports, tiny: Path) -> Graph:
    return exports.convert(tiny, TINY)


@pytest.fixture(scope="module")
def pictures() -> list[UInt8]:
    """Ten pictures of noise; every other one is called damaged."""
    return list(np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8))


TRUTH = np.arange(10) % 2


@pytest.fixture(scope="module")
def reference(tiny, pictures) -> Shown:
    return ask(TorchBackend(tiny, TINY), pictures, TINY, "asking torch")


def shifted(graph: Graph) -> Graph:
    """A graph that is wrong: its first convolution reads its weights one number too far."""
    root = ElementTree.fromstring(graph.xml)
    constant = root.find("./layers/layer[@type='Const']/data")
    assert constant is not None
    constant.attrib["offset"] = str(int(constant.attrib["offset"]) + 4)
    return dataclasses.replace(graph, xml=ElementTree.tostring(root))


def test_an_export_answers_the_images_as_torch_does(tiny, graph, reference, pictures):
    parity = measure(tiny, graph, "openvino", TINY, reference, pictures, TRUTH).parity
    assert parity.holds
    assert parity.quantisation_images is None
    assert (parity.images, parity.label_agreement) == (10, 1.0)
    assert parity.max_logit_difference < 1e-5
    assert parity.max_probability_difference < 1e-5
    assert parity.max_heatmap_difference < 1e-3
    assert parity.heatmap_correlation == parity.heatmap_iou == 1.0
    assert parity.accuracy["torch"] == parity.accuracy["openvino"]


def test_heat_maps_are_of_torchs_label(tiny, reference, pictures):
    logits, maps = TorchBackend(tiny, TINY).infer(to_batch(pictures, TINY.preprocessing))
    weight = load_file(tiny / "model.safetensors")["head.weight"].numpy()
    np.testing.assert_allclose(reference.logits, logits, atol=1e-6)
    for row, label in enumerate(logits.argmax(1)):
        raw = np.maximum(np.tensordot(weight[label], maps[row], 1), 0)
        np.testing.assert_allclose(reference.heatmaps[row], raw / max(raw.max(), 1e-30), atol=1e-4)
    other = ask(TorchBackend(tiny, TINY), pictures, TINY, "asking", 1 - logits.argmax(1))
    assert np.abs(other.heatmaps - reference.heatmaps).max() > 0.5


def test_eight_bits_are_measured_against_torch_too(tiny, reference, pictures, exports):
    graph = exports.convert_int8(tiny, TINY, pictures)
    parity = measure(tiny, graph, "openvino-int8", TINY, reference, pictures, TRUTH).parity
    # Rounded, and no more than that; maps of 2 x 2 with next to no evidence are the hardest there are.
    assert 1e-5 < parity.max_probability_difference < 0.05
    assert parity.heatmap_correlation is not None
    assert parity.heatmap_correlation > 0.8
    assert parity.quantisation_images == 10
    assert set(parity.accuracy) == {"torch", "openvino-int8"}


def test_a_wrong_graph_is_found_out(tiny, graph, reference, pictures):
    parity = measure(tiny, shifted(graph), "openvino", TINY, reference, pictures, TRUTH).parity
    assert not parity.holds
    assert parity.max_probability_difference > 0.01


def test_a_graph_that_does_not_load_is_an_error(tiny, graph, reference, pictures):
    broken = dataclasses.replace(graph, xml=b"<net/>")
    with pytest.raises(ArchiveBroken, match=r"model\.xml"):
        measure(tiny, broken, "openvino", TINY, reference, pictures, TRUTH)

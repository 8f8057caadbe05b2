"""The exports: the same bytes each time, no weight twice, nobody told; and ONNX beside torch."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from handlers.backends import TorchBackend
from handlers.errors import ArchiveBroken
from tests.integration.exports import Exports
from tests.unit.networks import random_network, write_weights
from tests.unit.specs import TINY
from training.packing.export import Graph, convert, convert_onnx


@pytest.fixture(scope="module")
def graph(exports: Exports, tiny: Path) -> Graph:
    return exports.convert(tiny, TINY)


def test_the_same_weights_make_the_same_bytes(tiny, graph):
    torch.manual_seed(1)
    assert convert(tiny, TINY) == graph


def test_other_weights_make_the_same_graph(graph, tmp_path):
    # What differs lies in model.safetensors alone.
    assert convert(write_weights(tmp_path, random_network("small_cnn", 2, 16, 16, seed=1)), TINY) == graph


def test_weights_that_cannot_be_loaded_are_an_error(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ArchiveBroken, match=r"model\.safetensors does not fit small_cnn"):
        convert(tmp_path, TINY)


def test_no_weight_is_in_the_archive_twice(tiny, graph):
    weights = (tiny / "model.safetensors").read_bytes()
    names = [layer.attrib["type"] for layer in ElementTree.fromstring(graph.xml).iterfind("./layers/layer")]
    assert names.count("Convolution") == 6
    # Left over: two axes and a shape or so, 8 bytes each, next to a megabyte of weights.
    assert len(graph.constants) < 100 < len(weights) / 10_000


def test_nobody_is_told_of_the_export(tiny):
    """OpenVINO has a stand-in of its own for the package that would tell; tests/integration/test_telemetry.py looks further."""
    convert(tiny, TINY)
    assert sys.modules["openvino_telemetry"] is None
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_nobody_is_told_of_a_quantisation():
    # NNCF itself leaves its telemetry out under pytest, so another process is asked.
    code = (
        "from training import settings; settings.prepare_nncf(); from nncf.telemetry.wrapper import NNCFTelemetry, telemetry; "
        "print(isinstance(telemetry, NNCFTelemetry))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_onnx_answers_as_torch_does_for_any_number_of_images(tiny):
    content = convert_onnx(tiny, TINY)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["images"]
    assert [one.name for one in session.get_outputs()] == ["logits", "maps"]
    reference = TorchBackend(tiny, TINY)
    for images in (1, 3):  # it was traced with two
        batch = np.random.default_rng(0).normal(size=(images, 3, 16, 16)).astype(np.float32)
        logits, maps = session.run(None, {"images": batch})
        their_logits, their_maps = reference.infer(batch)
        np.testing.assert_allclose(logits, their_logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(maps, their_maps, rtol=0, atol=1e-3 * their_maps.max())

"""The exports: the same bytes each time, no weight twice, nobody told; and ONNX beside torch."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import openvino_telemetry
import pytest
import torch

from handlers.backends import OpenVINOInt8Backend, TorchBackend
from handlers.decode import to_batch
from handlers.errors import ArchiveBroken
from handlers.spec import Spec
from tests.unit.handlers.test_backends import write_noise
from tests.unit.networks import random_network, write_weights
from training.answers import decode_all
from training.export import Graph, convert, convert_int8, convert_onnx

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


def test_the_same_weights_make_the_same_bytes(run, graph):
    torch.manual_seed(1)
    assert convert(run, SPEC) == graph


def test_other_weights_make_the_same_graph(graph, tmp_path):
    # What differs lies in model.safetensors alone.
    assert convert(write_weights(tmp_path, random_network("small_cnn", 2, 16, 16, seed=1)), SPEC) == graph


def test_weights_that_cannot_be_loaded_are_an_error(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ArchiveBroken, match=r"model\.safetensors does not fit small_cnn"):
        convert(tmp_path, SPEC)


def test_no_weight_is_in_the_archive_twice(run, graph):
    weights = (run / "model.safetensors").read_bytes()
    names = [layer.attrib["type"] for layer in ElementTree.fromstring(graph.xml).iterfind("./layers/layer")]
    assert names.count("Convolution") == 6
    # Left over: two axes and a shape or so, 8 bytes each, next to a megabyte of weights.
    assert len(graph.constants) < 100 < len(weights) / 10_000


def test_nobody_is_told_of_the_export(run, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("telemetry")

    monkeypatch.setattr(openvino_telemetry.Telemetry, "init", refuse)
    monkeypatch.setattr(openvino_telemetry.Telemetry, "send_event", refuse)
    convert(run, SPEC)


def test_nobody_is_told_of_a_quantisation():
    # NNCF itself leaves its telemetry out under pytest, so another process is asked.
    code = (
        "from training import settings; settings.prepare_nncf(); from nncf.telemetry.wrapper import NNCFTelemetry, telemetry; "
        "print(isinstance(telemetry, NNCFTelemetry))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("network", "feature_map"),
    [("mobilenet_v3_small", (576, 2, 2)), ("vit_tiny_patch16", (192, 4, 4))],
)
def test_networks_with_signed_activations_answer_in_eight_bits_and_in_onnx_as_in_torch(tmp_path, network, feature_map):
    preprocessing = SPEC.preprocessing.model_copy(update={"height": 64, "width": 64})
    spec = SPEC.model_copy(update={"network": network, "feature_map": feature_map, "preprocessing": preprocessing})
    write_weights(tmp_path, random_network(network, 2, 64, 64))
    samples = write_noise(tmp_path, spec)
    graph = convert_int8(tmp_path, spec, samples, tmp_path)
    graph.write(tmp_path)
    batch = to_batch(decode_all(samples, spec, tmp_path, "reading"), preprocessing)
    logits, maps = TorchBackend(tmp_path, spec).infer(batch)
    eight, eight_maps = OpenVINOInt8Backend(tmp_path, spec).infer(batch)
    # Random layers blow roundings up; trained ones are held to far less (`training.parity`).
    assert np.corrcoef(maps.ravel(), eight_maps.ravel())[0, 1] > 0.8
    assert 0 < np.abs(eight - logits).max() < 0.25
    # Most weights, and none of the head's, have become 8 bits: less than half the size.
    assert len(graph.constants) < 0.5 * (tmp_path / "model.safetensors").stat().st_size
    session = onnxruntime.InferenceSession(convert_onnx(tmp_path, spec), providers=["CPUExecutionProvider"])
    for part in (batch, batch[:1]):  # it was traced with two
        onnx_logits, onnx_maps = session.run(None, {"images": part})
        np.testing.assert_allclose(onnx_logits, logits[: len(part)], rtol=0, atol=1e-4)
        np.testing.assert_allclose(onnx_maps, maps[: len(part)], rtol=0, atol=1e-3 * maps.max())


def test_onnx_answers_as_torch_does_for_any_number_of_images(run):
    content = convert_onnx(run, SPEC)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["images"]
    assert [one.name for one in session.get_outputs()] == ["logits", "maps"]
    reference = TorchBackend(run, SPEC)
    for images in (1, 3):  # it was traced with two
        batch = np.random.default_rng(0).normal(size=(images, 3, 16, 16)).astype(np.float32)
        logits, maps = session.run(None, {"images": batch})
        their_logits, their_maps = reference.infer(batch)
        np.testing.assert_allclose(logits, their_logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(maps, their_maps, rtol=0, atol=1e-3 * their_maps.max())

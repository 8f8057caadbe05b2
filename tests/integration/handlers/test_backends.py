"""Both backends run the archive's weights, alike, or say that they do not fit; OpenVINO does without torch."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from handlers.arrays import UInt8
from handlers.backends import OpenVINOBackend, OpenVINOInt8Backend, TorchBackend, load_backend
from handlers.decode import to_batch
from handlers.errors import ArchiveBroken
from handlers.spec import Network, Spec
from tests.integration.exports import Exports, write_noise
from tests.unit import specs
from tests.unit.networks import random_network, write_weights
from tests.volume import SOAK
from training.data.pixels import decode_good
from training.packing.export import convert_onnx

ROOT = Path(__file__).parents[3]


def make_spec(labels: Sequence[str] = ("a", "b", "c"), height: int = 16, width: int = 24, **changes: Any) -> Spec:
    return specs.make_spec(labels, height=height, width=width, **changes)


def noise(images: int, height: int = 16, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(images, 3, height, width)).astype(np.float32)


def pictures(folder: Path, spec: Spec) -> list[UInt8]:
    """To quantise by."""
    return list(decode_good(folder, write_noise(folder, spec), spec.preprocessing, spec.limits))


def fill(folder: Path, network: Network, spec: Spec, exports: Exports) -> torch.nn.Module:
    """What an archive on OpenVINO holds, in single precision and in 8 bits, as far as a backend reads it."""
    model = random_network(network, 3, spec.preprocessing.height, spec.preprocessing.width)
    exports.convert(write_weights(folder, model), spec).write(folder)
    if spec.backend == "openvino-int8":
        exports.convert_int8(folder, spec, pictures(folder, spec)).write(folder)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, exports: Exports) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    fill(folder, "small_cnn", make_spec(), exports)
    return folder


@pytest.mark.parametrize(("backend", "rounding"), [("torch", 1e-5), ("openvino", 1e-5), ("openvino-int8", 0.05)])
def test_logits_are_the_pooled_maps_times_the_head(tmp_path: Path, exports: Exports, backend: str, rounding: float) -> None:
    spec = make_spec(backend=backend)
    model = fill(tmp_path, "small_cnn", spec, exports)
    loaded = load_backend(tmp_path, spec)
    logits, maps = loaded.infer(noise(4))
    assert maps.shape == (4, *spec.feature_map)
    assert logits.dtype == maps.dtype == loaded.head.dtype == np.float32
    np.testing.assert_array_equal(loaded.head, model.head.weight.detach().numpy())
    expected = maps.mean(axis=(2, 3)) @ loaded.head.T + model.head.bias.detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=rounding, atol=rounding)


SIZES: dict[Network, tuple[int, int, tuple[int, int, int]]] = {
    "small_cnn": (32, 24, (128, 4, 3)),
    "resnet18": (64, 96, (512, 2, 3)),
    "resnet50": (64, 64, (2048, 2, 2)),
    "efficientnet_lite0": (96, 64, (1280, 3, 2)),
    "efficientnet_b0": (64, 64, (1280, 2, 2)),
    "mobilenet_v3_small": (64, 96, (576, 2, 3)),
    "mobilenet_v3_large": (64, 64, (960, 2, 2)),
    "vit_tiny_patch16": (64, 96, (192, 4, 6)),
}
"""Height and width of pictures, and the feature map that they give."""
SMALLER = {"mobilenet_v3_large": "mobilenet_v3_small"}
"""What is made of the same layers as a smaller one, which stands for both but in `make soak`."""


def spec_for(network: Network, **changes: Any) -> Spec:
    height, width, feature_map = SIZES[network]
    return make_spec(network=network, height=height, width=width, feature_map=feature_map, **changes)


@pytest.mark.parametrize("network", [network for network in SIZES if SOAK or network not in SMALLER])
def test_every_network_answers_alike_on_both(network: Network, tmp_path: Path, exports: Exports) -> None:
    spec = spec_for(network)
    fill(tmp_path, network, spec, exports)
    reference, other = TorchBackend(tmp_path, spec), OpenVINOBackend(tmp_path, spec)
    for images in (1, 3):  # the graph was traced with two
        batch = noise(images, spec.preprocessing.height, spec.preprocessing.width)
        (logits, maps), (other_logits, other_maps) = reference.infer(batch), other.infer(batch)
        assert np.ptp(logits) > 0.1
        np.testing.assert_allclose(other_logits, logits, rtol=0, atol=1e-4)
        # Fifty random layers let roundings grow; a thousandth of the peak is not to be seen on a heat map.
        np.testing.assert_allclose(other_maps, maps, rtol=0, atol=1e-3 * maps.max())


@pytest.mark.parametrize("network", ["mobilenet_v3_small", "vit_tiny_patch16"] if SOAK else ["mobilenet_v3_small"])
def test_networks_with_signed_activations_answer_in_eight_bits_and_in_onnx_as_in_torch(
    network: Network, tmp_path: Path, exports: Exports
) -> None:
    spec = spec_for(network, backend="openvino-int8")
    fill(tmp_path, network, spec, exports)
    batch = to_batch(pictures(tmp_path, spec), spec.preprocessing)
    logits, maps = TorchBackend(tmp_path, spec).infer(batch)
    eight, eight_maps = OpenVINOInt8Backend(tmp_path, spec).infer(batch)
    # Random layers blow roundings up; trained ones are held to far less (`training.packing.parity`).
    assert np.corrcoef(maps.ravel(), eight_maps.ravel())[0, 1] > 0.8
    assert 0 < np.abs(eight - logits).max() < 0.25
    # Most weights, and none of the head's, have become 8 bits: less than half the size.
    assert (tmp_path / "model-int8.bin").stat().st_size < 0.5 * (tmp_path / "model.safetensors").stat().st_size
    session = onnxruntime.InferenceSession(convert_onnx(tmp_path, spec), providers=["CPUExecutionProvider"])
    for part in (batch, batch[:1]):  # it was traced with two
        onnx_logits, onnx_maps = session.run(None, {"images": part})
        np.testing.assert_allclose(onnx_logits, logits[: len(part)], rtol=0, atol=1e-4)
        np.testing.assert_allclose(onnx_maps, maps[: len(part)], rtol=0, atol=1e-3 * maps.max())


def test_an_answer_stays_as_it_is_when_the_next_one_comes(exported: Path) -> None:
    backend = OpenVINOBackend(exported, make_spec())
    logits, maps = backend.infer(noise(1))
    before = logits.copy(), maps.copy()
    backend.infer(-noise(1))
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(maps, before[1])


def test_workers_are_not_pinned_to_one_core_and_keep_to_one_thread(exported: Path) -> None:
    model = OpenVINOBackend(exported, make_spec())._model
    assert model.get_property("INFERENCE_NUM_THREADS") == model.get_property("NUM_STREAMS") == 1
    assert model.get_property("ENABLE_CPU_PINNING") is False
    assert model.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.parametrize("member", ["model.safetensors", "model.xml", "model.bin"])
@pytest.mark.parametrize("what", ["missing", "empty", "cut", "nonsense"])
def test_a_damaged_export_is_named(exported: Path, tmp_path: Path, member: str, what: str) -> None:
    for path in exported.iterdir():
        content = path.read_bytes()
        if path.name == member:
            content = {"cut": content[: len(content) // 2], "nonsense": b"nonsense"}.get(what, b"")
        if path.name != member or what != "missing":
            (tmp_path / path.name).write_bytes(content)
    with pytest.raises(ArchiveBroken, match=r"model\.xml does not fit small_cnn with 3 labels"):
        load_backend(tmp_path, make_spec(backend="openvino"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ("a", "b")}, r"answers \(3,\) logits .* the spec says \(2,\)"),
        ({"feature_map": (128, 3, 2)}, r"\(128, 2, 3\) maps .* \(128, 3, 2\)"),
        ({"height": 32, "feature_map": (128, 2, 3)}, "does not fit"),
    ],
)
def test_an_export_for_another_spec_is_named(exported: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArchiveBroken, match=words):
        load_backend(exported, make_spec(backend="openvino", **changes))


WITHOUT_TORCH = """
import importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "training"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from handlers.entry import VisorHandler

class Context:
    system_properties = {"model_dir": sys.argv[1]}
    get_all_request_header = lambda self, n: {"x-visor-explain": "true"}
    set_response_content_type = lambda self, n, kind: None

handler = VisorHandler()
handler.initialize(Context())
print(handler.handle([{"body": sys.stdin.buffer.read()}], Context())[0])
"""


def test_the_handler_answers_where_torch_is_not_installed(exported: Path) -> None:
    (exported / "spec.json").write_text(make_spec(backend="openvino").model_dump_json())
    png = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(png, "PNG")
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(exported)]
    done = subprocess.run(command, cwd=ROOT, input=png.getvalue(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer = json.loads(done.stdout)
    assert answer["label"] in ("a", "b", "c")
    assert np.array(answer["heatmap"]).shape == (2, 3)
    assert sum(answer["probabilities"]) == pytest.approx(1)

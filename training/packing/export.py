"""A run's weights → the networks that an archive carries beside them: OpenVINO graphs in single precision and in 8 bits, ONNX."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

from archives.files import naming
from handlers.arrays import UInt8
from handlers.backends import WEIGHTS, OpenVINOBackend, OpenVINOInt8Backend, load_network
from handlers.spec import Spec
from training.packing.quantisation import quantise

INPUT, OUTPUTS = "images", ("logits", "maps")
ANY_NUMBER = ({0: torch.export.Dim("n", min=1)},)
QUANTISATION_IMAGES = 300
"""Of the training split, at most, evenly spaced: NNCF's own default."""


@dataclass(frozen=True)
class Graph:
    """The files of an OpenVINO backend: the graph, and the constants that lie in no other file of the archive.

    `quantisation_images`: how many images a quantisation saw.
    """

    kind: type[OpenVINOBackend]
    xml: bytes
    constants: bytes
    quantisation_images: int | None = None

    def write(self, folder: Path) -> None:
        """Write both files, under the names that the backend reads."""
        (folder / self.kind.graph).write_bytes(self.xml)
        (folder / self.kind.constants[-1]).write_bytes(self.constants)


def convert(run: Path, spec: Spec) -> Graph:
    """Convert the network to an OpenVINO graph: images (N, 3, H, W) → `logits` (N, K) and `maps` (N, C, h, w), for any N.

    It refers to the run's `model.safetensors`. The same weights, spec and versions make the same bytes. Raises ArchiveBroken.
    """
    xml, constants = _save(_translate(run, spec), spec)
    return _share(xml, constants, (run / WEIGHTS).read_bytes())


def convert_int8(run: Path, spec: Spec, pictures: Sequence[UInt8]) -> Graph:
    """Convert the network and quantise it by pictures that it learnt from, (H, W, 3) uint8 each.

    It stands for itself, as its weights are rounded ones. The same weights, images, spec and versions make the same bytes on
    machines of one kind; activations' ranges are measured, so that another CPU's rounding can move their last digits.
    Raises ArchiveBroken.
    """
    return Graph(OpenVINOInt8Backend, *_save(quantise(_translate(run, spec), pictures, spec), spec), len(pictures))


def convert_onnx(run: Path, spec: Spec) -> bytes:
    """Convert the network to ONNX, weights included, with the inputs and outputs of `convert`, for other runtimes.

    Raises ArchiveBroken.
    """
    model = load_network(run, spec)
    with tempfile.TemporaryDirectory(prefix="visor-onnx-") as folder, naming(Path(folder)):
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            model,
            (_example(spec),),
            file,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=ANY_NUMBER,
        )
        return file.read_bytes()


def _example(spec: Spec) -> torch.Tensor:
    """(2, 3, H, W): with one image the tracer would take the 1 for a constant."""
    return torch.zeros(2, 3, spec.preprocessing.height, spec.preprocessing.width)


def _translate(run: Path, spec: Spec) -> Any:
    """The network as an `openvino.Model` of named outputs and a free N."""
    traced = torch.export.export(load_network(run, spec), (_example(spec),), dynamic_shapes=ANY_NUMBER).run_decompositions()
    decoder = TorchFXPythonDecoder(traced.module(), dynamic_shapes=True)  # named: `load` alone would not keep it alive
    # Not openvino.convert_model, which reports each use to Google Analytics.
    frontend = FrontEndManager().load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    graph.reshape({0: openvino.PartialShape([-1, 3, spec.preprocessing.height, spec.preprocessing.width])})
    for output, name in zip(graph.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    return graph


def _save(graph: Any, spec: Spec) -> tuple[bytes, bytes]:
    """The contents of OpenVINO's two files. Names given by OpenVINO count what the process made before; these do not."""
    graph.set_friendly_name(spec.network)
    for number, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    with tempfile.TemporaryDirectory(prefix="visor-export-") as folder, naming(Path(folder)):
        file = Path(folder) / "model.xml"
        openvino.save_model(graph, file, compress_to_fp16=False)
        return file.read_bytes(), file.with_suffix(".bin").read_bytes()


def _share(xml: bytes, constants: bytes, weights: bytes) -> Graph:
    """Have the graph take from the weights' file what lies there already; else an archive would hold all weights twice.

    Offsets then count through `weights` and, after it, through the constants that are left over.
    """
    start = 8 + int.from_bytes(weights[:8], "little")  # safetensors: the header's length, the header, the tensors
    header = json.loads(weights[8:start])
    header.pop("__metadata__", None)
    places: dict[bytes, int] = {}
    for entry in header.values():
        first, end = (start + offset for offset in entry["data_offsets"])
        places.setdefault(weights[first:end], first)
    left = bytearray()
    root = ElementTree.fromstring(xml)
    for data in root.iterfind("./layers/layer[@type='Const']/data"):
        first = int(data.attrib["offset"])
        content = constants[first : first + int(data.attrib["size"])]
        if content not in places:
            places[content] = len(weights) + len(left)
            left += content
        data.attrib["offset"] = str(places[content])
    return Graph(OpenVINOBackend, ElementTree.tostring(root), bytes(left))

"""A run's weights → an OpenVINO graph in single precision, and the measure of whether it answers as torch does."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

from handlers import decision
from handlers.backends import CONSTANTS, GRAPH, WEIGHTS, OpenVINOBackend, TorchBackend, load_network
from handlers.predictor import Answer
from handlers.spec import BackendName, Spec
from training.answers import Float32, Int64, answer_all, classes_of
from training.data.manifest import Sample
from training.lineage import Parity

# Evenly spaced over the test split. With that many, one decision that differs is still within the bound, a second one not.
IMAGES = 200
MIN_AGREEMENT = 0.995
# Rounding alone [8e-7 on `digits`] stays far below, anything that is wrong far above.
MAX_PROBABILITY_DIFFERENCE = 1e-3
HUGE = 1e30


@dataclass(frozen=True)
class Graph:
    """What an archive holds for OpenVINO beside the weights: the contents of `model.xml` and `model.bin`."""

    xml: bytes
    constants: bytes

    def write(self, folder: Path) -> None:
        """Write both files."""
        (folder / GRAPH).write_bytes(self.xml)
        (folder / CONSTANTS).write_bytes(self.constants)


def convert(run: Path, spec: Spec) -> Graph:
    """The network as an OpenVINO graph: images (N, 3, H, W) → `logits` (N, K) and `maps` (N, C, h, w), for any N.

    It refers to the run's `model.safetensors`. The same weights, spec and versions make the same bytes. Raises ArchiveBroken.
    """
    model = load_network(run, spec)
    height, width = spec.preprocessing.height, spec.preprocessing.width
    # Traced with two images: nothing in these networks depends on how many there are.
    traced = torch.export.export(model, (torch.zeros(2, 3, height, width),)).run_decompositions()
    decoder = TorchFXPythonDecoder(traced.module(), dynamic_shapes=True)  # named: `load` alone would not keep it alive
    # Not openvino.convert_model, which reports each use to Google Analytics.
    frontend = FrontEndManager().load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    graph.reshape({0: openvino.PartialShape([-1, 3, height, width])})
    for output, name in zip(graph.outputs, ("logits", "maps"), strict=True):
        output.get_tensor().set_names({name})
    # Names given by OpenVINO count what the process made before.
    graph.set_friendly_name(spec.network)
    for number, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    with tempfile.TemporaryDirectory(prefix="visor-export-") as folder:
        openvino.save_model(graph, Path(folder) / GRAPH, compress_to_fp16=False)
        xml, constants = (Path(folder, name).read_bytes() for name in (GRAPH, CONSTANTS))
    return _share(xml, constants, (run / WEIGHTS).read_bytes())


def measure(run: Path, graph: Graph, spec: Spec, samples: Sequence[Sample], root: Path) -> Parity:
    """Ask the graph and torch about the same images, by the code that serves, and compare. `root`: the data set's.

    samples: of the test split; IMAGES of them are asked. Raises ArchiveBroken (the graph does not load), DataChanged,
    DataUnreadable.
    """
    rows = np.unique(np.linspace(0, len(samples) - 1, min(IMAGES, len(samples))).round().astype(int))
    asked = [samples[row] for row in rows]
    with tempfile.TemporaryDirectory(prefix="visor-parity-") as folder:
        (Path(folder) / WEIGHTS).symlink_to((run / WEIGHTS).resolve())
        graph.write(Path(folder))
        exported = answer_all(asked, spec, OpenVINOBackend(Path(folder), spec), root, "asking OpenVINO")
    reference = answer_all(asked, spec, TorchBackend(run, spec), root, "asking torch")
    return compare(reference, exported, classes_of(asked, spec.labels), spec)


Answered = tuple[Float32, list[Answer]]
"""Logits (N, K) and the answers, as `training.answers.answer_all` gives them."""


def compare(reference: Answered, exported: Answered, truth: Int64, spec: Spec) -> Parity:
    """The figures, and whether parity holds.

    It does when at least MIN_AGREEMENT of the decisions agree, no probability differs by more than
    MAX_PROBABILITY_DIFFERENCE, and the export misses no more positive images than torch. truth: (N,), classes.
    """
    theirs, ours = (np.stack([one.probabilities for one in side[1]]) for side in (reference, exported))  # (N, K)
    pairs = list(zip(reference[1], exported[1], strict=True))
    heatmaps = [
        one.heatmap - other.heatmap
        for one, other in pairs
        if one.heatmap is not None and other.heatmap is not None and one.heatmap_label == other.heatmap_label
    ]
    positive = np.isin(truth, spec.positive_index)

    def missed(probabilities: Float32) -> float:
        return float((decision.scores(probabilities, spec)[positive] < spec.decision.threshold).mean())

    agreement = sum(one.decision == other.decision for one, other in pairs) / len(pairs)
    probability = _largest([ours - theirs])
    fnr: dict[BackendName, float] | None = {"torch": missed(theirs), "openvino": missed(ours)} if positive.any() else None
    misses_more = fnr is not None and fnr["openvino"] > fnr["torch"]
    return Parity(
        holds=agreement >= MIN_AGREEMENT and probability <= MAX_PROBABILITY_DIFFERENCE and not misses_more,
        images=len(pairs),
        decision_agreement=agreement,
        max_logit_difference=_largest([exported[0] - reference[0]]),
        max_probability_difference=probability,
        max_heatmap_difference=_largest(heatmaps),
        accuracy={"torch": float((theirs.argmax(1) == truth).mean()), "openvino": float((ours.argmax(1) == truth).mean())},
        fnr=fnr,
        openvino=openvino.__version__,
    )


def _largest(differences: Sequence[Float32]) -> float:
    """The largest in size, to three digits, and 0 of none; a number that no bound allows where one is NaN or infinite."""
    largest = max((float(np.nan_to_num(np.abs(one).max(), nan=HUGE, posinf=HUGE)) for one in differences), default=0.0)
    return float(f"{largest:.3g}")


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
    return Graph(ElementTree.tostring(root), bytes(left))

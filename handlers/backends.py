"""What runs the network: a table from the spec's `backend` to a loader. Torch is the reference, OpenVINO what is served,
with weights and maps of 8 bits inside where its answers stay those of the reference.

Each backend imports its library itself: an archive must be served where the other one is not installed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from handlers.arrays import Float32
from handlers.errors import ArchiveBroken
from handlers.spec import BackendName, Spec

if TYPE_CHECKING:
    from handlers.networks import Classifier

WEIGHTS = "model.safetensors"
OPENVINO_SETTINGS = {
    # Elsewhere than on x86-64 the default is half precision; parity was measured in single. What is quantised stays so.
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 1,
    # Pinned, as is the default, every worker's one thread sits on the same core [two workers on two cores: 25 ms instead of 13].
    "ENABLE_CPU_PINNING": False,
}


class Backend(Protocol):
    """A loaded network. `head`: (K, C) float32, the weight of the linear layer, what Grad-CAM needs beside the maps."""

    head: Float32

    def infer(self, batch: Float32) -> tuple[Float32, Float32]:
        """Run the network. batch: (N, 3, H, W) float32, normalised → logits (N, K) and maps (N, C, h, w), float32."""
        ...


class TorchBackend:
    """PyTorch, eager, on the CPU; threads are the caller's to set."""

    def __init__(self, directory: Path, spec: Spec) -> None:
        import torch

        self._torch = torch
        # A pixel's channels side by side, which CPU convolutions prefer [1 thread, EfficientNet-Lite0: 37 → 31 ms].
        self._model = load_network(directory, spec).to(memory_format=torch.channels_last)
        self.head: Float32 = self._model.head.weight.detach().numpy()

    def infer(self, batch: Float32) -> tuple[Float32, Float32]:
        """See Backend.infer."""
        with self._torch.inference_mode():
            images = self._torch.from_numpy(batch).contiguous(memory_format=self._torch.channels_last)
            logits, maps = self._model(images)
        return logits.numpy(), maps.numpy()


def load_network(directory: Path, spec: Spec) -> "Classifier":
    """Load the network in torch, with the weights of a run or an unpacked archive. Raises ArchiveBroken."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from handlers.networks import build

    model = build(spec.network, len(spec.labels))
    try:
        model.load_state_dict(load_file(directory / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as err:
        raise ArchiveBroken(f"{WEIGHTS} does not fit {spec.network} with {len(spec.labels)} labels: {err}") from err
    return model.eval()


class OpenVINOBackend:
    """OpenVINO on the CPU in single precision, one thread; it needs no torch.

    `graph` is the network. Its weights are the ones of `model.safetensors`, which the torch backend runs too, and
    `model.bin` holds the few constants that are no weights: the graph's offsets count through `constants`, in this order.
    """

    graph: ClassVar = "model.xml"
    constants: ClassVar[tuple[str, ...]] = (WEIGHTS, "model.bin")

    def __init__(self, directory: Path, spec: Spec) -> None:
        import openvino
        from safetensors import SafetensorError, safe_open

        wanted = (len(spec.labels), *spec.feature_map)
        try:
            with safe_open(directory / WEIGHTS, framework="numpy") as weights:
                self.head: Float32 = weights.get_tensor("head.weight")
            constants = np.concatenate([np.fromfile(directory / name, dtype=np.uint8) for name in self.constants])
            core = openvino.Core()
            graph = core.read_model((directory / self.graph).read_text(), openvino.Tensor(constants))
            self._model = core.compile_model(graph, "CPU", OPENVINO_SETTINGS)
            # The first call makes the kernels [EfficientNet-Lite0: 27 ms more than the others]; better now than for a client.
            logits, maps = self.infer(np.zeros((1, 3, spec.preprocessing.height, spec.preprocessing.width), np.float32))
        except (OSError, SafetensorError, RuntimeError) as err:
            raise ArchiveBroken(f"{self.graph} does not fit {spec.network} with {len(spec.labels)} labels: {err}") from err
        if (*logits.shape[1:], *maps.shape[1:]) != wanted or self.head.shape != wanted[:2]:
            raise ArchiveBroken(
                f"{self.graph} answers {logits.shape[1:]} logits and {maps.shape[1:]} maps under a head of {self.head.shape}; "
                f"the spec says {wanted[:1]} and {wanted[1:]}"
            )

    def infer(self, batch: Float32) -> tuple[Float32, Float32]:
        """See Backend.infer."""
        outputs = self._model(batch)
        return outputs["logits"], outputs["maps"]


class OpenVINOInt8Backend(OpenVINOBackend):
    """OpenVINO on the CPU with a graph that computes in 8 bits where it can, its quantised weights in a file of their own.

    What goes in and comes out is float32 all the same, and `head` is the one of `model.safetensors`, which is not quantised.
    """

    graph = "model-int8.xml"
    constants = ("model-int8.bin",)


BACKENDS: dict[BackendName, Callable[[Path, Spec], Backend]] = {
    "torch": TorchBackend,
    "openvino": OpenVINOBackend,
    "openvino-int8": OpenVINOInt8Backend,
}


def load_backend(directory: Path, spec: Spec) -> Backend:
    """Load the spec's backend from an unpacked archive. Raises ArchiveBroken."""
    return BACKENDS[spec.backend](directory, spec)

"""What runs the network: a table from the spec's `backend` to a loader. Torch is the reference."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from handlers.errors import ArchiveBroken
from handlers.spec import Spec

Float32 = npt.NDArray[np.float32]
WEIGHTS = "model.safetensors"


class Backend(Protocol):
    """A loaded network. `head`: (K, C) float32, the weight of the linear layer, what Grad-CAM needs beside the maps."""

    head: Float32

    def infer(self, batch: Float32) -> tuple[Float32, Float32]:
        """batch: (N, 3, H, W) float32, normalised → logits (N, K) and maps (N, C, h, w), float32."""
        ...


class TorchBackend:
    """PyTorch, eager, on the CPU; threads are the caller's to set."""

    def __init__(self, directory: Path, spec: Spec) -> None:
        # Imported here, because an archive on another backend must be served without torch.
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from handlers.networks import build

        self._torch = torch
        model = build(spec.network, len(spec.labels))
        try:
            model.load_state_dict(load_file(directory / WEIGHTS))
        except (OSError, SafetensorError, RuntimeError) as err:
            raise ArchiveBroken(f"{WEIGHTS} does not fit {spec.network} with {len(spec.labels)} labels: {err}") from err
        # A pixel's channels side by side, which CPU convolutions prefer [1 thread, EfficientNet-Lite0: 37 → 31 ms].
        self._model = model.eval().to(memory_format=torch.channels_last)
        self.head: Float32 = model.head.weight.detach().numpy()

    def infer(self, batch: Float32) -> tuple[Float32, Float32]:
        """See Backend.infer."""
        with self._torch.inference_mode():
            images = self._torch.from_numpy(batch).contiguous(memory_format=self._torch.channels_last)
            logits, maps = self._model(images)
        return logits.numpy(), maps.numpy()


BACKENDS: dict[str, Callable[[Path, Spec], Backend]] = {"torch": TorchBackend}


def load_backend(directory: Path, spec: Spec) -> Backend:
    """Load the spec's backend from an unpacked archive. Raises ArchiveBroken."""
    return BACKENDS[spec.backend](directory, spec)

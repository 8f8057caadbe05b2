"""The .mar's model file, of one class as TorchServe asks: the archive's network, which answers with logits alone."""

from pathlib import Path

import torch

from handlers.networks import build
from handlers.spec import Spec


class Network(torch.nn.Module):
    """Made without arguments, then given the serialized file's state."""

    def __init__(self) -> None:
        super().__init__()
        spec = Spec.read(Path(__file__).with_name("spec.json"))
        self.network = build(spec.network, len(spec.labels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: (N, 3, 224, 224) float32 → logits (N, K)."""
        logits: torch.Tensor = self.network(images)[0]
        return logits

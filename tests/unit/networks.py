"""Networks with random weights whose numbers are of the size that a trained network's are."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from handlers.networks import Classifier, build
from handlers.spec import Network


def random_network(network: Network, classes: int, height: int, width: int, seed: int = 0) -> Classifier:
    """Random weights, and BatchNorm statistics of noise of this size; untrained ones would let numbers grow layer by layer."""
    torch.manual_seed(seed)
    model = build(network, classes)
    torch.nn.init.normal_(model.head.weight, std=model.head.in_features**-0.5)
    torch.nn.init.normal_(model.head.bias)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches seen: here one
    with torch.no_grad():
        model.train().features(torch.randn(8, 3, height, width))
    return model.eval()


def write_weights(folder: Path, model: Classifier) -> Path:
    """Write `model.safetensors` into a folder and return the folder."""
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder

"""The networks that visor trains and serves, every one of them features → global average pooling → one linear layer.

That shape is what makes Grad-CAM a weighted sum of the last feature maps, and so free (`handlers.gradcam`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from handlers.spec import Network


class Classifier(nn.Module):
    """`stages` run in order and make the feature maps; phase two of fine-tuning unfreezes some of them from the end."""

    def __init__(self, stages: Sequence[nn.Module], channels: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, classes)
        # Zero: the first gradient comes from the images alone, and two classes stay each other's mirror image.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W) float32, normalised → (N, C, h, w) float32, the maps that Grad-CAM weighs."""
        maps = images
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def classify(self, maps: Tensor) -> Tensor:
        """maps: (N, C, h, w) → logits (N, K)."""
        logits: Tensor = self.head(self.dropout(maps.mean(dim=(2, 3))))
        return logits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: (N, 3, H, W) → logits (N, K) and maps (N, C, h, w), both from the one pass."""
        maps = self.features(images)
        return self.classify(maps), maps


def _resnet(make: Callable[..., torchvision.models.ResNet]) -> tuple[list[nn.Module], int]:
    net = make(weights=None)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return [stem, net.layer1, net.layer2, net.layer3, net.layer4], net.fc.in_features


def _efficientnet_lite0() -> tuple[list[nn.Module], int]:
    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stem = nn.Sequential(net.conv_stem, net.bn1)
    last = nn.Sequential(net.conv_head, net.bn2)  # timm's bn2 holds the activation too
    return [stem, *net.blocks, last], int(net.num_features)


def _small_cnn() -> tuple[list[nn.Module], int]:
    """A baseline of 0.3 million parameters for small pictures; three halvings, so 32 x 32 leaves maps of 4 x 4."""

    def stage(inputs: int, outputs: int) -> nn.Module:
        def conv(n: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(n, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

        return nn.Sequential(*conv(inputs, 2), *conv(outputs, 1))

    return [stage(3, 32), stage(32, 64), stage(64, 128)], 128


NETWORKS: dict[Network, Callable[[], tuple[list[nn.Module], int]]] = {
    "resnet18": lambda: _resnet(torchvision.models.resnet18),
    "resnet50": lambda: _resnet(torchvision.models.resnet50),
    "efficientnet_lite0": _efficientnet_lite0,
    "small_cnn": _small_cnn,
}


def build(network: Network, classes: int, dropout: float = 0.0) -> Classifier:
    """The network with random features and a zero head; weights come from `training.pretrained` or the archive."""
    stages, channels = NETWORKS[network]()
    return Classifier(stages, channels, classes, dropout)


def map_size(model: Classifier, height: int, width: int) -> tuple[int, int, int]:
    """(C, h, w) of the feature maps for an input of (3, height, width), found by running it once."""
    training = model.training
    with torch.no_grad():
        maps = model.eval().features(torch.zeros(1, 3, height, width))
    model.train(training)
    return int(maps.shape[1]), int(maps.shape[2]), int(maps.shape[3])

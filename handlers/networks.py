"""The networks that visor trains and serves, every one of them features → global average pooling → one linear layer.

That shape is what makes Grad-CAM a weighted sum of the last feature maps, and so free (`handlers.gradcam`). ResNets and
EfficientNets are so by themselves. MobileNetV3's own head has a hidden layer between pooling and classes (Howard et al.
2019, section 5.1); it is left out, and classes are read off the last convolution's maps. Of a vision transformer the maps
are the patches' tokens after the last block and its norm, as they lie in the picture: `_vision_transformer` says more.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
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
        """Compute the maps that Grad-CAM weighs. images: (N, 3, H, W) float32, normalised → (N, C, h, w) float32."""
        maps = images
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def classify(self, maps: Tensor) -> Tensor:
        """Classify by the feature maps. maps: (N, C, h, w) → logits (N, K)."""
        logits: Tensor = self.head(self.dropout(maps.mean(dim=(2, 3))))
        return logits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (N, K) and maps (N, C, h, w) in one pass. images: (N, 3, H, W)."""
        maps = self.features(images)
        return self.classify(maps), maps


# Both libraries load torch's compiler, 3 s of a CPU, and are therefore loaded for a network of theirs alone.
def _of_torchvision(name: str) -> Any:
    from torchvision import models

    return getattr(models, name)(weights=None)


def _of_timm(name: str, **options: Any) -> Any:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def _resnet(name: str) -> tuple[list[nn.Module], int]:
    net = _of_torchvision(name)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return [stem, net.layer1, net.layer2, net.layer3, net.layer4], net.fc.in_features


def _efficientnet_lite0() -> tuple[list[nn.Module], int]:
    net = _of_timm("tf_efficientnet_lite0")
    stem = nn.Sequential(net.conv_stem, net.bn1)
    last = nn.Sequential(net.conv_head, net.bn2)  # timm's bn2 holds the activation too
    return [stem, *net.blocks, last], int(net.num_features)


def _torchvision(name: str) -> tuple[list[nn.Module], int]:
    """torchvision's EfficientNets and MobileNets: `features` without what follows the pooling."""
    stages = list(_of_torchvision(name).features)
    return stages, int(stages[-1].out_channels)


class Tokens(NamedTuple):
    """values: (N, 1 + h w, C), the class token and then the patches, row by row."""

    values: Tensor
    height: int
    width: int


class Patches(nn.Module):
    """A vision transformer's first stage: squares of the picture as vectors, with their places added (Dosovitskiy et al. 2021).

    Places were learnt for 14 x 14 patches, and are interpolated for others (section 3.2). That is written as two products of
    matrices, because neither OpenVINO nor ONNX knows PyTorch's own operation.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.proj, self.grid = net.patch_embed.proj, net.patch_embed.grid_size
        self.cls_token, self.pos_embed = net.cls_token, net.pos_embed

    def forward(self, images: Tensor) -> Tokens:
        """images: (N, 3, H, W), H and W multiples of the patch's side."""
        maps = self.proj(images)
        height, width = maps.shape[2:]
        places = self.pos_embed  # (1, 1 + h w, C)
        if (height, width) != self.grid:
            rows, columns = (torch.tensor(bicubic(new, old)) for new, old in zip((height, width), self.grid, strict=True))
            patches = torch.einsum("hr,wc,brcd->bhwd", rows, columns, places[:, 1:].unflatten(1, self.grid))
            places = torch.cat([places[:, :1], patches.flatten(1, 2)], dim=1)
        class_token = self.cls_token + places[:, :1]
        # A row of zeros that the class token is added to, so that nothing here is made for a certain N.
        tokens = nn.functional.pad(maps.flatten(2).transpose(1, 2), (0, 0, 1, 0))
        return Tokens(tokens + torch.cat([class_token, places[:, 1:]], dim=1), height, width)


def bicubic(new: int, old: int) -> list[list[float]]:
    """(new, old): what each of `new` values takes from each of `old`, as in PyTorch's bicubic interpolation with antialiasing.

    Keys 1981, eq. 8 with a = -1/2; the kernel grows with the step where values become fewer.
    """
    places = (np.arange(new)[:, None] + 0.5) * old / new
    distance = np.abs(np.arange(old) + 0.5 - places) / max(old / new, 1.0)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    shares: list[list[float]] = (weights / weights.sum(axis=1, keepdims=True)).tolist()
    return shares


class Block(nn.Module):
    """One of timm's transformer blocks over Tokens."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tokens) -> Tokens:
        """The same shape."""
        return tokens._replace(values=self.block(tokens.values))


class PatchMaps(nn.Module):
    """The last stage: norm, then the patches' tokens as maps (N, C, h, w), without the class token."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tokens) -> Tensor:
        """(N, C, h, w)."""
        maps: Tensor = self.norm(tokens.values)[:, 1:].transpose(1, 2).unflatten(2, (tokens.height, tokens.width))
        return maps


def _vision_transformer(name: str) -> tuple[list[nn.Module], int]:
    """timm's, with the mean over the patches' tokens, after the norm, in the place of the class token for the classes.

    That is `gap` of Zhai et al. 2022 (section 2.3) and of Beyer et al. 2022, "Better plain ViT baselines", which found it no
    worse than the class token. The head is then linear in the tokens' mean, so that Grad-CAM of those tokens has the same
    closed form as a convolution's. What a token says comes from its patch and, by attention, from others: the map shows
    where the network has gathered its evidence. The class token still takes part in attention, as in the published weights.
    """
    net = _of_timm(name, global_pool="avg", fc_norm=False)
    return [Patches(net), *(Block(block) for block in net.blocks), PatchMaps(net.norm)], int(net.num_features)


def _small_cnn() -> tuple[list[nn.Module], int]:
    """A baseline of 0.3 million parameters for small pictures; three halvings, so 32 x 32 leaves maps of 4 x 4."""

    def stage(inputs: int, outputs: int) -> nn.Module:
        def conv(n: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(n, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

        return nn.Sequential(*conv(inputs, 2), *conv(outputs, 1))

    return [stage(3, 32), stage(32, 64), stage(64, 128)], 128


NETWORKS: dict[Network, Callable[[], tuple[list[nn.Module], int]]] = {
    "resnet18": lambda: _resnet("resnet18"),
    "resnet34": lambda: _resnet("resnet34"),
    "resnet50": lambda: _resnet("resnet50"),
    "efficientnet_lite0": _efficientnet_lite0,
    "efficientnet_b0": lambda: _torchvision("efficientnet_b0"),
    "mobilenet_v3_small": lambda: _torchvision("mobilenet_v3_small"),
    "mobilenet_v3_large": lambda: _torchvision("mobilenet_v3_large"),
    "vit_tiny_patch16": lambda: _vision_transformer("vit_tiny_patch16_224"),
    "small_cnn": _small_cnn,
}


def build(network: Network, classes: int, dropout: float = 0.0) -> Classifier:
    """Build the network with random features and a zero head; weights come from `training.fitting.pretrained` or the archive."""
    stages, channels = NETWORKS[network]()
    return Classifier(stages, channels, classes, dropout)


def map_size(model: Classifier, height: int, width: int) -> tuple[int, int, int]:
    """Return (C, h, w) of the feature maps for an input of (3, height, width), found by running it once."""
    training = model.training
    with torch.no_grad():
        maps = model.eval().features(torch.zeros(1, 3, height, width))
    model.train(training)
    return int(maps.shape[1]), int(maps.shape[2]), int(maps.shape[3])

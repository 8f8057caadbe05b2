"""Random changes of training images: one affine map of the plane and one of the colours for each image.

A flip, turn, zoom or shift is a 2 x 3 matrix over positions; brightness, contrast and saturation together are a 3 x 3
matrix and an offset over colours. So an image is sampled once and recoloured once, however many changes are on
[1.0 ms for 192 x 192 on one thread].
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from handlers.arrays import Float64, UInt8
from training.config import AugmentConfig

LUMA = np.array([0.299, 0.587, 0.114])
"""What grey is, Rec. 601, as in Pillow and torchvision."""

DRAWS = 10
"""Random numbers an image takes, used or not: switching one change on leaves the others as they were."""

GREY = [128, 128, 128]
"""What RandAugment moves in from outside, as its authors' implementation does."""

CHUNK = 8
"""Images at a time, so that the floats stay in the cache [32 at a time take twice as long]."""


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Make the random generator of one image in one epoch, whatever the order, the batch or the worker."""
    return np.random.default_rng([seed, epoch, index])


def augment(images: UInt8, config: AugmentConfig, generators: Sequence[np.random.Generator]) -> UInt8:
    """Change each image by its own generator; with nothing enabled they come back as they are.

    images: (N, H, W, 3) uint8, not written to → the same shape. Positions outside the picture are filled by reflection.
    """
    if not config.rand_augment and _still(config):
        return images
    draws = np.stack([rng.random(DRAWS) for rng in generators])
    changed = images.copy()
    for start in range(0, 0 if _still(config) else len(images), CHUNK):
        part = slice(start, start + CHUNK)
        changed[part] = _change(images[part], config, draws[part])
    return _rand_augment(changed, config, generators) if config.rand_augment else changed


def _still(config: AugmentConfig) -> bool:
    """Whether the plane and the colours stay as they are."""
    others = {"rand_augment", "rand_augment_magnitude", "mixup", "cutmix"}
    return config.model_dump(exclude=others) == AugmentConfig().model_dump(exclude=others)


def _rand_augment(images: UInt8, config: AugmentConfig, generators: Sequence[np.random.Generator]) -> UInt8:
    """torchvision's, each image by its own generator. images: (N, H, W, 3)."""
    from torchvision.transforms import InterpolationMode, v2  # loads torch's compiler, 3 s of a CPU

    change = v2.RandAugment(
        config.rand_augment, config.rand_augment_magnitude, interpolation=InterpolationMode.BILINEAR, fill=GREY
    )
    with torch.random.fork_rng(devices=[]):
        for number, rng in enumerate(generators):
            torch.manual_seed(int(rng.integers(2**63)))
            images[number] = change(torch.from_numpy(images[number]).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    return images


def _change(images: UInt8, config: AugmentConfig, draws: Float64) -> UInt8:
    """images: (N, H, W, 3); draws: (N, DRAWS) in [0, 1)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous()  # (N, 3, H, W)
    pixels = _recolour(_move(pixels, _places(draws, config, *images.shape[1:3])), _factors(draws, config))
    # Adding a half and cutting off rounds; the transposition comes last, on a quarter of the bytes.
    rounded = pixels.clamp_(0, 255).add_(0.5).to(torch.uint8)
    return rounded.permute(0, 2, 3, 1).contiguous().numpy()


def _places(draws: Float64, config: AugmentConfig, height: int, width: int) -> Float64:
    """(N, 2, 3): the position in the picture that each position of the result is taken from, both in [-1, 1]."""
    quarter = np.floor(4 * draws[:, 2]) if height == width else 2 * np.floor(2 * draws[:, 2])  # others would not fit
    angle = np.radians(config.rotate_degrees * _around_zero(draws[:, 3])) + np.pi / 2 * quarter * config.quarter_turns
    scale = 1 + config.zoom * _around_zero(draws[:, 4])
    mirror_x = np.where((draws[:, 0] < 0.5) & config.flip_horizontal, -1.0, 1.0)
    mirror_y = np.where((draws[:, 1] < 0.5) & config.flip_vertical, -1.0, 1.0)
    aspect = height / width  # a turn is one of pixels, while positions count each side as 2
    places = np.empty((len(draws), 2, 3))
    places[:, 0, 0] = np.cos(angle) * mirror_x / scale
    places[:, 0, 1] = -np.sin(angle) * mirror_y / scale * aspect
    places[:, 1, 0] = np.sin(angle) * mirror_x / scale / aspect
    places[:, 1, 1] = np.cos(angle) * mirror_y / scale
    places[:, :, 2] = 2 * config.shift * _around_zero(draws[:, 5:7])
    return places


def _move(pixels: Tensor, places: Float64) -> Tensor:
    """Sample each picture, bilinear, at its own places. pixels: (N, 3, H, W) float32; places: (N, 2, 3)."""
    height, width = pixels.shape[2:]
    x = ((torch.arange(width) * 2 + 1) / width - 1).view(1, 1, width, 1)  # pixel centres
    y = ((torch.arange(height) * 2 + 1) / height - 1).view(1, height, 1, 1)
    matrix = torch.from_numpy(places).float()[:, None, None]  # (N, 1, 1, 2, 3)
    grid = matrix[..., 0] * x + (matrix[..., 1] * y + matrix[..., 2])  # (N, H, W, 2); affine_grid takes four times as long
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _factors(draws: Float64, config: AugmentConfig) -> Float64:
    """(N, 3): the factors of brightness, contrast and saturation; 1 changes nothing."""
    return 1 + np.array([config.brightness, config.contrast, config.saturation]) * _around_zero(draws[:, 7:10])


def _recolour(pixels: Tensor, factors: Float64) -> Tensor:
    """Brightness b scales the colours, contrast c their distance from the mean grey g, saturation s that from their own grey.

    For a colour v that is c b S v + (1 - c) b g with S = s I + (1 - s) 1 lumaᵀ. pixels: (N, 3, H, W); factors: (N, 3).
    """
    brightness, contrast, saturation = factors.T[:, :, None, None]  # each (N, 1, 1)
    mixing = saturation * np.eye(3) + (1 - saturation) * LUMA  # (N, 3, 3)
    grey = (pixels.mean(dim=(2, 3)).double().numpy() @ LUMA)[:, None, None]  # (N, 1, 1)
    matrix = torch.from_numpy(contrast * brightness * mixing).float()
    offset = torch.from_numpy((1 - contrast) * brightness * grey).float()
    return torch.baddbmm(offset, matrix, pixels.flatten(2)).view_as(pixels)


def _around_zero(draws: Float64) -> Float64:
    """[0, 1) → [-1, 1)."""
    return 2 * draws - 1

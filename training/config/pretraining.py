"""The config's keys of pretraining without labels."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from handlers.spec import Probability
from training.config.section import LARGEST_BATCH, Section


class ViewsConfig(Section):
    """Random changes that make two views of one image for SimCLR. Milder than the paper's, so that small or pale objects stay."""

    crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Smallest share of an image's area that a view keeps. The paper's is 0.08, which cuts small damage out of most views."""
    flip_horizontal: bool = True
    """Whether half of the views, by chance, are mirrored left to right."""
    flip_vertical: bool = False
    """Whether half of the views, by chance, are mirrored top to bottom."""
    quarter_turns: bool = False
    """Whether views are turned by a random multiple of 90 degrees (of 180 where height and width differ)."""
    jitter: Probability = 0.8
    """Probability with which a view's brightness, contrast, saturation and hue are changed. The default is the paper's."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Largest relative change of brightness: 0.4 draws factors from 0.6 to 1.4."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Largest relative change of contrast: 0.4 draws factors from 0.6 to 1.4."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Largest relative change of saturation: 0.4 draws factors from 0.6 to 1.4."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest change of hue, in turns of the colour wheel, to either side."""
    grayscale: Probability = 0.2
    """Probability with which a view loses its colours. The default is the paper's."""
    blur: Probability = 0.3
    """Probability with which a view is blurred by a Gaussian."""
    blur_sigma: Annotated[float, Field(gt=0, le=0.1)] = 0.015
    """Largest standard deviation of the blur, as a fraction of the image's shorter side."""


class PretrainConfig(Section):
    """Pretraining without labels by `visor pretrain`: SimCLR (Chen et al. 2020) with AdamW, a linear warm-up and a cosine."""

    epochs: int = Field(default=100, ge=1, le=10000)
    """Number of passes over the training split's images."""
    warmup_epochs: int = Field(default=5, ge=0)
    """Number of epochs over which the learning rate rises linearly before the cosine begins."""
    batch_size: int = Field(default=256, ge=2, le=LARGEST_BATCH)
    """Number N of images in a batch; each view is compared with 2 (N - 1) negatives."""
    learning_rate: float = Field(default=0.002, gt=0)
    """Highest learning rate, from which a cosine falls to 0."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of AdamW (Loshchilov & Hutter 2019)."""
    temperature: Annotated[float, Field(gt=0)] = 0.5
    """Temperature of the NT-Xent loss. A lower one gives the most similar negatives more weight."""
    projection: int = Field(default=128, ge=2)
    """Number of dimensions in which the loss compares views; the layers behind it are not kept. The default is the paper's."""
    probe_every: int = Field(default=10, ge=1)
    """Number of epochs from one linear probe, a measure of the features, to the next. The last epoch is always probed."""
    views: ViewsConfig = ViewsConfig()
    """Random changes that make two views of one image."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs}")
        return self

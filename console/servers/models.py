"""What a server says of a model, what is asked about a picture, and what was answered: pydantic, ready for JSON."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from handlers.arrays import Float32

Decision = Literal["pass", "flag", "review", ""]
"""What becomes of a picture; "" where it could not be answered and the archive decides nothing about such pictures."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)


class Rule(_Frozen):
    """A rule: a score at or above `review_to` is `flag`, one below `review_from` is `pass`, between them `review`."""

    threshold: float
    review_from: float
    review_to: float


class Group(Rule):
    """A group of pictures, by COLUMN=VALUE, with a rule of its own."""

    name: str


class Bound(_Frozen):
    """The archive's bound on missed pictures: at most `level` of the positive ones, up to `threshold`, by so many positives."""

    level: float
    threshold: float
    positives: int


class CurvePoint(_Frozen):
    """What a threshold would do, on the calibration split: the share of positives missed and of others flagged."""

    threshold: float
    missed: float
    false_alarms: float


class Model(_Frozen):
    """A model, as its server tells of it.

    `labels`: in the order of the probabilities. `positive`: the labels that are flagged, empty where doubtful pictures are
    reviewed and others pass. `digest`: SHA-256 of the archive. `dashboard`: address of a page about it, if any.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    positive: tuple[str, ...] = ()
    rule: Rule | None = None
    bound: Bound | None = None
    curve: tuple[CurvePoint, ...] = ()
    groups: tuple[Group, ...] = ()
    prediction_sets: dict[str, Any] | None = None
    on_error: Decision = ""
    digest: str = ""
    platform: str = ""
    dashboard: str | None = None


class Question(BaseModel):
    """What is asked about each picture. `threshold`: in the place of the archive's; `group`: whose threshold decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    explain: bool = False
    threshold: float | None = Field(default=None, ge=0, le=1)
    group: str | None = Field(default=None, max_length=200)


class ItemError(_Frozen):
    """Why a picture could not be answered: a stable code, and a sentence."""

    code: str
    message: str


def _rows(values: Float32 | None) -> list[list[float]] | None:
    """A heat map as lists, with three digits: more than the 256 steps that a screen shows."""
    return None if values is None else np.asarray(values, dtype=np.float64).round(3).tolist()


HeatMapValues = Annotated[
    Any,  # Float32: pydantic cannot check an array's element type
    PlainSerializer(_rows, return_type=list[list[float]] | None),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}},
                {"type": "null"},
            ]
        }
    ),
]


class Answer(_Frozen):
    """One picture's answer, or its `error`, beside which an archive's `on_error` may have a decision.

    `confidence`: of the label, calibrated, in [0, 1]. `score` was compared with the rule: `threshold`, and the band from
    `review_from` up to `review_to`. `promise`: "held" or "overridden", "" of an archive without a bound. `heatmap`: (h, w) in
    [0, 1], of the part `heatmap_box` of the upright picture (x, y, width, height as shares of its sides); `heatmap_peak`: the
    evidence in logits where it is 1. `digest`: SHA-256 of the archive that answered; `track`: stable or canary.
    """

    model: str = ""
    version: str = ""
    digest: str = ""
    track: str = ""
    label: str = ""
    confidence: float | None = None
    probabilities: dict[str, float] = Field(default_factory=dict)
    decision: Decision = ""
    score: float | None = None
    threshold: float | None = None
    threshold_overridden: bool = False
    review_from: float | None = None
    review_to: float | None = None
    positive: tuple[str, ...] = ()
    group: str = ""
    promise: Literal["held", "overridden", ""] = ""
    prediction_set: tuple[str, ...] | None = None
    heatmap: HeatMapValues = None
    heatmap_label: str = ""
    heatmap_box: tuple[float, float, float, float] | None = None
    heatmap_peak: float | None = None
    error: ItemError | None = None

"""The handler's answer to one image, which the edge reads off the wire that `handlers.entry` describes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import lt
from typing import Any, Self, get_args

import numpy as np

from handlers.arrays import Float32
from handlers.decision import Outcome
from handlers.errors import ImageUnanswerable, VisorError
from handlers.spec import WHOLE, Spec
from transformer.errors import UpstreamFailed, show


@dataclass(frozen=True)
class ImageAnswer:
    """The answer to one image. `probabilities`: (K,) float32; `heatmap`: (h, w) float32, zeros unless asked for.

    `heatmap_peak`, `heatmap_box`: None unless asked for, and where the worker is of an archive before 0.3 and does not say.
    `seconds`: the time that each of the handler's stages took. `drift`: the bin of each figure of the archive's drift reference,
    in its order; None where the archive has no reference.
    """

    label: str
    confidence: float
    probabilities: Float32
    decision: str
    heatmap: Float32
    heatmap_label: str
    seconds: Mapping[str, float]
    heatmap_peak: float | None = None
    heatmap_box: tuple[float, ...] | None = None
    drift: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, answer: Any, spec: Spec, bins: Sequence[int] = ()) -> Self:
        """Read the handler's JSON. Raises UpstreamFailed where it is not what the handler promises for this spec.

        `bins`: how many each figure of the archive's drift reference has; none without a reference.

        Raises ImageUnanswerable for probabilities that are no numbers, which workers of archives before 0.3 answer with.
        """
        try:
            heatmap = answer["heatmap"]
            parsed = cls(
                label=_text(answer["label"]),
                confidence=float(answer["confidence"]),
                probabilities=np.array(answer["probabilities"], dtype=np.float32),
                decision=_text(answer["decision"]),
                heatmap=_no_heatmap(spec.feature_map[1:]) if heatmap is None else np.array(heatmap, dtype=np.float32),
                heatmap_label=_text(answer["heatmap_label"] or ""),
                heatmap_peak=_peak(answer),
                heatmap_box=_box(answer, spec),
                seconds={stage: float(seconds) for stage, seconds in answer["seconds"].items()},
                drift=_drift(answer, bins),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise UpstreamFailed(f"the handler's answer cannot be read ({type(err).__name__}: {err}): {show(answer)}") from err
        if parsed.probabilities.shape != (len(spec.labels),) or parsed.heatmap.shape != spec.feature_map[1:]:
            raise UpstreamFailed(
                f"the handler answered probabilities of {parsed.probabilities.shape} and a heat map of {parsed.heatmap.shape}, "
                f"not ({len(spec.labels)},) and {spec.feature_map[1:]}; TorchServe serves another archive than this edge"
            )
        if parsed.label not in spec.labels or parsed.decision not in _OUTCOMES:
            raise UpstreamFailed(
                f"the handler answered the label {show(parsed.label)} and the decision {show(parsed.decision)}, not some of this "
                "spec; TorchServe serves another archive than this edge"
            )
        if not math.isfinite(parsed.confidence):
            raise ImageUnanswerable("the network answers NaN or infinity to this image, of which nothing follows")
        return parsed

    @classmethod
    def blank(cls, spec: Spec) -> Self:
        """Make the empty answer that fills the row of an image with an error."""
        nothing = np.zeros(len(spec.labels), np.float32)
        return cls("", 0.0, nothing, "", _no_heatmap(spec.feature_map[1:]), "", {}, 0.0, (0.0,) * 4)


Result = ImageAnswer | VisorError
_OUTCOMES = get_args(Outcome)


@cache
def _no_heatmap(shape: tuple[int, ...]) -> Float32:
    zeros = np.zeros(shape, np.float32)
    zeros.flags.writeable = False  # there is one for all
    return zeros


def _peak(answer: Any) -> float | None:
    peak = answer.get("heatmap_peak")
    return None if peak is None else float(peak)


def _box(answer: Any, spec: Spec) -> tuple[float, ...] | None:
    box = answer.get("heatmap_box")
    if box is None:
        return WHOLE if spec.preprocessing.fit == "stretch" else None
    left, top, width, height = box
    return float(left), float(top), float(width), float(height)


def _drift(answer: Any, bins: Sequence[int]) -> tuple[int, ...] | None:
    drift = answer.get("drift")
    if drift is None and not bins:
        return None
    # As bytes, since that is the quickest check that they are integers and none of them negative.
    found = bytes(drift) if isinstance(drift, list) else b""
    if len(found) != len(bins) or not all(map(lt, found, bins)):
        raise ValueError(f"drift bins {show(drift)}, where the archive's figures have {list(bins)}")
    return tuple(found)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return value

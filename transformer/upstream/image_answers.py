"""The handler's answer to one image, which the edge reads off the wire that `handlers.entry` describes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np

from handlers.arrays import Float32
from handlers.errors import VisorError
from handlers.spec import Spec
from transformer.errors import UpstreamFailed, show


@dataclass(frozen=True)
class ImageAnswer:
    """The answer to one image. `probabilities`: (K,) float32; `heatmap`: (h, w) float32, zeros unless asked for.

    `seconds`: the time that each of the handler's stages took.
    """

    label: str
    confidence: float
    probabilities: Float32
    decision: str
    heatmap: Float32
    heatmap_label: str
    seconds: Mapping[str, float]

    @classmethod
    def parse(cls, answer: Any, spec: Spec) -> Self:
        """Read the handler's JSON. Raises UpstreamFailed where it is not what the handler promises for this spec."""
        try:
            heatmap = answer["heatmap"]
            parsed = cls(
                label=_text(answer["label"]),
                confidence=float(answer["confidence"]),
                probabilities=np.array(answer["probabilities"], dtype=np.float32),
                decision=_text(answer["decision"]),
                heatmap=_no_heatmap(spec.feature_map[1:]) if heatmap is None else np.array(heatmap, dtype=np.float32),
                heatmap_label=_text(answer["heatmap_label"] or ""),
                seconds={stage: float(seconds) for stage, seconds in answer["seconds"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise UpstreamFailed(f"the handler's answer cannot be read ({type(err).__name__}: {err}): {show(answer)}") from err
        if parsed.probabilities.shape != (len(spec.labels),) or parsed.heatmap.shape != spec.feature_map[1:]:
            raise UpstreamFailed(
                f"the handler answered probabilities of {parsed.probabilities.shape} and a heat map of {parsed.heatmap.shape}, "
                f"not ({len(spec.labels)},) and {spec.feature_map[1:]}; TorchServe serves another archive than this edge"
            )
        return parsed

    @classmethod
    def blank(cls, spec: Spec) -> Self:
        """Make the empty answer that fills the row of an image with an error."""
        return cls("", 0.0, np.zeros(len(spec.labels), np.float32), "", _no_heatmap(spec.feature_map[1:]), "", {})


Result = ImageAnswer | VisorError


@cache
def _no_heatmap(shape: tuple[int, ...]) -> Float32:
    zeros = np.zeros(shape, np.float32)
    zeros.flags.writeable = False  # there is one for all
    return zeros


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    return value

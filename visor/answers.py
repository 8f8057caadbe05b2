"""What was answered about one picture, by an archive in this process or by a server, in one form."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, overload

import numpy as np

from drawing.heatmap import HeatMap
from handlers.errors import OptionError, VisorError
from handlers.spec import DECODING, DecodingRule
from visor.pictures import Picture, is_one

if TYPE_CHECKING:
    from PIL import Image

Decision: TypeAlias = Literal["pass", "flag", "review", ""]
"""What becomes of a picture; "" where it could not be answered, and the archive decides nothing about such pictures."""


@dataclass(frozen=True)
class Answer:
    """One picture's answer, or its `error`, beside which an archive's `on_error` may have a decision.

    `confidence`: of the label, the most probable one, calibrated, in [0, 1]; `probabilities`: of each label, in the model's
    order. `score` was compared with the rule: `threshold`, and the band from `review_from` up to `review_to`. `promise`: "held"
    or "overridden", "" of an archive without a bound. `prediction_set`: its labels, None of an archive without sets.
    `heatmap`: None unless it was asked for. `digest`: SHA-256 of the archive that answered, of `version` of `model`.
    `source`: the picture that was asked about; `decoding`: the rule by which the archive decodes it, that of today for a
    server, which does not say. Of a server older than these, they are None or empty.
    """

    label: str = ""
    confidence: float = 0.0
    probabilities: Mapping[str, float] = field(default_factory=dict)
    decision: Decision = ""
    score: float | None = None
    threshold: float | None = None
    review_from: float | None = None
    review_to: float | None = None
    group: str = ""
    promise: str = ""
    prediction_set: tuple[str, ...] | None = None
    heatmap: HeatMap | None = None
    digest: str = ""
    model: str = ""
    version: str = ""
    error: VisorError | None = None
    source: Picture = field(default=b"", repr=False, compare=False)
    decoding: DecodingRule = field(default=DECODING, repr=False, compare=False)

    def overlay(self) -> "Image.Image":
        """Draw the picture, as the network was shown it, with its heat map, what was answered and a legend.

        A picture that was given by its path is read again. Raises the answer's `error`, NoHeatMap without `explain`, and what
        reading the picture raises.
        """
        from visor.drawing import draw_answer  # which itself imports this module

        return draw_answer(self)


@dataclass(frozen=True)
class Question:
    """What is asked about each picture. `threshold`: in the place of the archive's; `group`: whose threshold decides."""

    explain: bool = False
    threshold: float | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        """Raise OptionError for what is none of these; a numpy number is kept as Python's."""
        if not isinstance(self.explain, bool | np.bool_):
            raise OptionError(f"explain must be True or False, got {self.explain!r}")
        object.__setattr__(self, "explain", bool(self.explain))
        if self.threshold is not None:
            real = isinstance(self.threshold, Real) and not isinstance(self.threshold, bool)
            if not real or not 0 <= self.threshold <= 1:  # NaN fails this too
                raise OptionError(f"threshold must be a number from 0 to 1, got {self.threshold!r}")
            object.__setattr__(self, "threshold", float(self.threshold))
        if self.group is not None and not isinstance(self.group, str):
            raise OptionError(f"group must be COLUMN=VALUE as text, got {self.group!r}")


class Answering:
    """Whatever answers about pictures; a subclass has `ask`."""

    def ask(self, pictures: Iterable[Picture], question: Question) -> Iterable[Answer]:
        """Answer about each picture, in their order; one that cannot be answered has its error in its answer."""
        raise NotImplementedError

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is one picture's path, and not one path a letter
        self, images: Picture, *, explain: bool = False, threshold: float | None = None, group: str | None = None
    ) -> Answer: ...

    @overload
    def predict(
        self, images: Iterable[Picture], *, explain: bool = False, threshold: float | None = None, group: str | None = None
    ) -> list[Answer]: ...

    def predict(
        self,
        images: "Picture | Iterable[Picture]",
        *,
        explain: bool = False,
        threshold: float | None = None,
        group: str | None = None,
    ) -> Answer | list[Answer]:
        """Answer about one picture, or about each of several: paths, encoded bytes, files opened "rb", PIL images, or arrays
        (h, w, 3) uint8.

        `explain`: with heat maps. `threshold`: decides in the place of the archive's. `group`: the archive's group whose
        threshold decides. Of several pictures, one that cannot be answered has its `error` in its answer; of a single one it is
        raised, unless the archive decides about such pictures. Raises OptionError, and of a server ClientError.
        """
        question = Question(explain, threshold, group)
        if not is_one(images):
            return list(self.ask(cast(Iterable[Picture], images), question))
        [answer] = self.ask([images], question)
        if answer.error and not answer.decision:
            raise answer.error
        return answer

"""Check every answer as a client that relies on it would: a wrong answer is a failed request, whatever its status."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

DECISIONS = frozenset({"pass", "flag", "review"})
OUTPUTS = ("label", "confidence", "probabilities", "decision", "error")
# Probabilities are float32 and, in JSON, decimal digits; some hundred of them add up to 1 within this.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Question:
    """Holds one request: a picture, whether a heat map is asked for, and the id that the answer must carry."""

    id: str
    model: str
    picture: bytes
    explain: bool


@dataclass(frozen=True)
class Answer:
    """Holds what came back, by whichever protocol. `outputs`: name → array; texts are object arrays of bytes."""

    id: str
    model: str
    outputs: Mapping[str, npt.NDArray[np.generic] | None]


class AnswerWrong(Exception):
    """An answer is wrong; the code is one of payload.id, .model, .output, .error, .decision, .probability, .heatmap."""

    prefix: ClassVar[str] = "payload"

    def __init__(self, part: str, sentence: str) -> None:
        super().__init__(f"{self.prefix}.{part}: {sentence}")
        self.code = f"{self.prefix}.{part}"


def check(answer: Answer, question: Question) -> None:
    """Check an answer against its question. Raises AnswerWrong for the first thing that is wrong."""
    if answer.id != question.id:
        raise AnswerWrong("id", f"{answer.id!r} came back for {question.id!r}")
    if answer.model != question.model:
        raise AnswerWrong("model", f"{answer.model!r} answered for {question.model!r}")
    # The item's own error first: where there is one, its other outputs are blank.
    if error := _text(answer, "error"):
        raise AnswerWrong("error", error)
    _text(answer, "label")
    decision = _text(answer, "decision")
    if decision not in DECISIONS:
        raise AnswerWrong("decision", f"{decision!r} is none of {', '.join(sorted(DECISIONS))}")
    _check_probabilities(_numbers(answer, "probabilities", 2), _numbers(answer, "confidence", 1))
    if question.explain:
        heatmap = _numbers(answer, "heatmap", 3)
        if not (heatmap.size and heatmap.min() >= 0 and heatmap.max() <= 1):  # false for NaN, too
            raise AnswerWrong("heatmap", f"shape {heatmap.shape}, values not all within 0 and 1")
    elif answer.outputs.get("heatmap") is not None:
        raise AnswerWrong("heatmap", "one came back that nobody asked for")


def _check_probabilities(probabilities: npt.NDArray[np.float32], confidence: npt.NDArray[np.float32]) -> None:
    total = float(probabilities.sum())
    if probabilities.shape[1] < 2 or not abs(total - 1) <= TOLERANCE or not probabilities.min() >= 0:
        raise AnswerWrong("probability", f"shape {probabilities.shape}, sum {total}")
    if not abs(float(confidence[0] - probabilities.max())) <= TOLERANCE:
        raise AnswerWrong("probability", f"confidence {confidence[0]} is not the largest, {probabilities.max()}")


def _text(answer: Answer, name: str) -> str:
    array = answer.outputs.get(name)
    if array is None or array.shape != (1,) or array.dtype != np.object_:
        raise AnswerWrong("output", f"{name} is {_describe(array)}, not one text")
    value = array[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _numbers(answer: Answer, name: str, dimensions: int) -> npt.NDArray[np.float32]:
    array = answer.outputs.get(name)
    if array is None or array.dtype != np.float32 or array.ndim != dimensions or array.shape[0] != 1:
        raise AnswerWrong("output", f"{name} is {_describe(array)}, not float32 of {dimensions} dimensions for one image")
    return array.astype(np.float32, copy=False)


def _describe(array: npt.NDArray[np.generic] | None) -> str:
    return "missing" if array is None else f"{array.dtype} {array.shape}"

"""The outputs are declared here once: for metadata, for what a request may ask, and for how each is made of image answers."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from handlers.arrays import Float32
from handlers.decision import check_group, prediction_sets, scores_of
from handlers.errors import ImageError, OptionError, VisorError
from handlers.spec import PredictionSets, Spec
from transformer.errors import OutputInvalid, show
from transformer.messages import RequestedOutput
from transformer.tensors import BYTES, OutputTensor
from transformer.upstream.image_answers import ImageAnswer, Result

Column = npt.NDArray[Any] | list[bytes]

# RFC 8259, section 6; the longest whole numbers of the protocol have 20 digits.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?")
_FRACTION = re.compile(r"[.eE]")


@dataclass(frozen=True)
class Options:
    """A request's parameters, checked. `threshold`: None for the group's, or without `group`, a group's name, the archive's.

    `timeout_s`: None for the server's own.
    """

    explain: bool = False
    top_k: int | None = None
    threshold: float | None = None
    timeout_s: float | None = None
    group: str | None = None


@dataclass(frozen=True)
class Rows:
    """A request's results, of which columns are made. `answers` has a blank where `errors` has a code.

    `messages`: the errors' sentences. `positive`: the indices of the positive labels. `sets`: the archive's, None without.
    """

    answers: Sequence[ImageAnswer]
    errors: Sequence[str]
    messages: Sequence[str]
    labels: Sequence[str]
    top_k: int
    positive: tuple[int, ...]
    sets: PredictionSets | None

    @cached_property
    def probabilities(self) -> Float32:
        """Put the probabilities together, (N, K), zeros for an image with an error."""
        return np.array([answer.probabilities for answer in self.answers], dtype=np.float32)

    def best(self, count: int) -> list[npt.NDArray[np.intp]]:
        """Rank the `count` most probable classes of each row, best first; equal ones in the labels' order."""
        return [np.argsort(-answer.probabilities, kind="stable")[:count] for answer in self.answers]


@dataclass(frozen=True)
class Output:
    """One output. `sides`: its shape after the number of images; -1 is any. `needs`: the parameter that adds it to an answer.

    `make`: gives its values, a row an image, None where a worker of an older archive does not say them. `has_classes`: its
    values are one for each label, so that a classification can be asked for. `has`: whether an archive of
    this spec has the output at all.
    """

    datatype: str
    make: Callable[[Rows], Column | None]
    sides: Callable[[Spec], tuple[int, ...]] = lambda _: ()
    needs: Literal["explain", "top_k"] | None = None
    has_classes: bool = False
    has: Callable[[Spec], bool] = lambda _: True


def _text(field: str) -> Callable[[Rows], Column]:
    read: Callable[[ImageAnswer], str] = attrgetter(field)
    return lambda rows: [read(answer).encode() for answer in rows.answers]


def _numbers(field: str) -> Callable[[Rows], Column]:
    read: Callable[[ImageAnswer], Any] = attrgetter(field)
    return lambda rows: np.array([read(answer) for answer in rows.answers], dtype=np.float32)


def _known_numbers(field: str) -> Callable[[Rows], Column | None]:
    """Make a column of numbers that workers of archives before 0.3 do not answer with."""
    read: Callable[[ImageAnswer], Any] = attrgetter(field)

    def make(rows: Rows) -> Column | None:
        values = [read(answer) for answer in rows.answers]
        return None if None in values else np.array(values, dtype=np.float32)

    return make


def _scores(rows: Rows) -> Column:
    return np.asarray(scores_of(rows.probabilities, rows.positive), dtype=np.float32)


def _prediction_sets(rows: Rows) -> Column:
    if rows.sets is None:
        raise TypeError("an archive without prediction sets has no such output")
    answered = np.array([not error for error in rows.errors])
    return np.asarray(prediction_sets(rows.probabilities, rows.sets) & answered[:, None])


def _top_labels(rows: Rows) -> Column:
    ranked = zip(rows.best(rows.top_k), rows.errors, strict=True)
    return [b"" if error else rows.labels[k].encode() for best, error in ranked for k in best]


def _top_probabilities(rows: Rows) -> Column:
    ranked = zip(rows.answers, rows.best(rows.top_k), strict=True)
    return np.array([answer.probabilities[best] for answer, best in ranked])


def _classified(rows: Rows, count: int) -> Column:
    """Write classes as VALUE:INDEX:LABEL, the value with six digits, as Triton's classification extension does."""
    ranked = zip(rows.answers, rows.best(count), rows.errors, strict=True)
    return [
        b"" if error else f"{answer.probabilities[k]:f}:{k}:{rows.labels[k]}".encode()
        for answer, best, error in ranked
        for k in best
    ]


OUTPUTS: dict[str, Output] = {
    "label": Output(BYTES, _text("label")),
    "confidence": Output("FP32", _numbers("confidence")),
    "probabilities": Output("FP32", lambda rows: rows.probabilities, lambda spec: (len(spec.labels),), has_classes=True),
    "decision": Output(BYTES, _text("decision")),
    "score": Output("FP32", _scores),
    "prediction_set": Output(
        "BOOL", _prediction_sets, lambda spec: (len(spec.labels),), has=lambda spec: spec.prediction_sets is not None
    ),
    "heatmap": Output("FP32", _numbers("heatmap"), lambda spec: spec.feature_map[1:], "explain"),
    "heatmap_label": Output(BYTES, _text("heatmap_label"), needs="explain"),
    "heatmap_box": Output("FP32", _known_numbers("heatmap_box"), lambda _: (4,), "explain"),
    "heatmap_peak": Output("FP32", _known_numbers("heatmap_peak"), needs="explain"),
    "top_labels": Output(BYTES, _top_labels, lambda _: (-1,), "top_k"),
    "top_probabilities": Output("FP32", _top_probabilities, lambda _: (-1,), "top_k"),
    "error": Output(BYTES, lambda rows: [error.encode() for error in rows.errors]),
    "error_message": Output(
        BYTES,
        lambda rows: [message.encode() for message in rows.messages],
        has=lambda spec: spec.decision.on_error is not None,  # where no request is answered with an error that has the sentence
    ),
}


def read_options(parameters: Mapping[str, Any], spec: Spec) -> Options:
    """Read the parameters that visor knows; all others are the client's own.

    `timeout` and `priority` are of Triton's schedule policy: microseconds that the request may take, 0 for no limit of the
    client's; and a rank in line, which is checked and not used. A number may come as a string, as KServe's SDK has to send
    fractions over gRPC.

    Raises OptionError, GroupUnknown.
    """
    explain = parameters.get("explain", False)
    if not isinstance(explain, bool):
        raise OptionError(f"explain must be true or false, got {show(explain)}")
    top_k = _number(parameters.get("top_k"))
    if top_k is not None and (not isinstance(top_k, int) or not 1 <= top_k <= len(spec.labels)):
        raise OptionError(
            f"top_k must be an integer from 1 to {len(spec.labels)}, the number of labels; got {show(parameters['top_k'])}"
        )
    threshold = _number(parameters.get("threshold"))
    if threshold is not None and not 0.0 <= threshold <= 1.0:  # NaN fails this too
        raise OptionError(f"threshold must be a number from 0 to 1, got {show(parameters['threshold'])}")
    _whole_number(parameters, "priority")
    timeout_us = _whole_number(parameters, "timeout")
    group = parameters.get("group")
    if group is not None:
        if not isinstance(group, str):
            raise OptionError(f"group must be COLUMN=VALUE as text, got {show(group)}")
        check_group(group, spec)
    return Options(
        explain, top_k, None if threshold is None else float(threshold), timeout_us / 1e6 if timeout_us else None, group
    )


def _whole_number(parameters: Mapping[str, Any], name: str) -> int:
    value = _number(parameters.get(name, 0))
    if not isinstance(value, int) or value < 0:
        raise OptionError(f"{name} must be a whole number, 0 or more; got {show(parameters[name])}")
    return value


def _number(value: object) -> float | None:
    """Read a number, also one that is written in a string as JSON writes it; None for None, NaN for what is no number."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value) if _FRACTION.search(value) else int(value)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    return math.nan


class AnswerOutputs:
    """The outputs of one archive's answers: which a request gets, and how they are made of its results."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._outputs = outputs_of(spec)
        self._positive = spec.positive_index
        self._blank = ImageAnswer.blank(spec)
        self._undecided = replace(self._blank, decision=spec.decision.on_error or "")
        self._unasked = {
            (explain, top_k): tuple(
                RequestedOutput(name)
                for name, output in self._outputs.items()
                if output.needs is None or {"explain": explain, "top_k": top_k}[output.needs]
            )
            for explain in (False, True)
            for top_k in (False, True)
        }

    def choose(self, requested: Sequence[RequestedOutput], options: Options) -> tuple[RequestedOutput, ...]:
        """Choose the outputs of an answer, in order: those that were asked for, or all that the parameters bring.

        Raises OutputInvalid for one that is unknown, repeated or without classes to name; OptionError for a classification
        that is no number of classes.
        """
        if not requested:
            return self._unasked[options.explain, options.top_k is not None]
        seen: set[str] = set()
        for name, count in ((one.name, one.classification) for one in requested):
            if name not in self._outputs:
                raise OutputInvalid(f"the model has no output {show(name)}; it has {', '.join(self._outputs)}")
            if name in seen:
                raise OutputInvalid(f"output {name} is requested twice")
            seen.add(name)
            if count is not None:
                _check_classification(name, count)
        return tuple(requested)

    def explained(self, outputs: Sequence[RequestedOutput]) -> bool:
        """Tell whether one of the outputs is of the heat map."""
        return any(self._outputs[output.name].needs == "explain" for output in outputs)

    def make(self, requested: Sequence[RequestedOutput], results: Sequence[Result], options: Options) -> tuple[OutputTensor, ...]:
        """Make one tensor for each output that is asked for, with a row for each result.

        An image with an error has a blank row, but for its decision where the archive's `on_error` has one. What a worker of an
        older archive does not say is left out.
        """
        rows = Rows(
            answers=[result if isinstance(result, ImageAnswer) else self._blank_for(result) for result in results],
            errors=[result.code if isinstance(result, VisorError) else "" for result in results],
            messages=[str(result) if isinstance(result, VisorError) else "" for result in results],
            labels=self._spec.labels,
            top_k=options.top_k or len(self._spec.labels),  # asked for by its name alone: all of them
            positive=self._positive,
            sets=self._spec.prediction_sets,
        )
        return tuple([tensor for one in requested if (tensor := self._make(one, rows)) is not None])

    def _blank_for(self, error: VisorError) -> ImageAnswer:
        return self._undecided if isinstance(error, ImageError) else self._blank

    def _make(self, requested: RequestedOutput, rows: Rows) -> OutputTensor | None:
        name, output, images = requested.name, self._outputs[requested.name], len(rows.answers)
        if requested.classification:
            count = min(requested.classification, len(rows.labels))  # as Triton does, where more are asked for than there are
            return OutputTensor(name, (images, count), _classified(rows, count))
        sides = (rows.top_k,) if output.needs == "top_k" else output.sides(self._spec)
        column = output.make(rows)
        return None if column is None else OutputTensor(name, (images, *sides), column)


def outputs_of(spec: Spec) -> dict[str, Output]:
    """Choose those of OUTPUTS that an archive of this spec has."""
    return {name: output for name, output in OUTPUTS.items() if output.has(spec)}


def _check_classification(name: str, count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise OptionError(f"classification must be a number of classes, 1 or more; got {show(count)}")
    if not OUTPUTS[name].has_classes:
        having = ", ".join(other for other, output in OUTPUTS.items() if output.has_classes)
        raise OutputInvalid(f"output {name} has no value for each class, of which classification names the highest; {having} has")

"""The outputs are declared here once: for metadata, for what a request may ask, and for how each is made of image answers."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from handlers.errors import OptionError, VisorError
from handlers.spec import Spec
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
    """A request's parameters, checked. `threshold`: None for the archive's own; `timeout_s`: None for the server's own."""

    explain: bool = False
    top_k: int | None = None
    threshold: float | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class Rows:
    """A request's results, of which columns are made. `answers` has a blank where `errors` has a code."""

    answers: Sequence[ImageAnswer]
    errors: Sequence[str]
    labels: Sequence[str]
    top_k: int

    def best(self, count: int) -> list[npt.NDArray[np.intp]]:
        """Rank the `count` most probable classes of each row, best first; equal ones in the labels' order."""
        return [np.argsort(-answer.probabilities, kind="stable")[:count] for answer in self.answers]


@dataclass(frozen=True)
class Output:
    """One output. `sides`: its shape after the number of images; -1 is any. `needs`: the parameter that adds it to an answer.

    `has_classes`: its values are one for each label, so that a classification can be asked for.
    """

    datatype: str
    make: Callable[[Rows], Column]
    sides: Callable[[Spec], tuple[int, ...]] = lambda _: ()
    needs: Literal["explain", "top_k"] | None = None
    has_classes: bool = False


def _text(field: str) -> Callable[[Rows], Column]:
    read: Callable[[ImageAnswer], str] = attrgetter(field)
    return lambda rows: [read(answer).encode() for answer in rows.answers]


def _numbers(field: str) -> Callable[[Rows], Column]:
    read: Callable[[ImageAnswer], Any] = attrgetter(field)
    return lambda rows: np.array([read(answer) for answer in rows.answers], dtype=np.float32)


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
    "probabilities": Output("FP32", _numbers("probabilities"), lambda spec: (len(spec.labels),), has_classes=True),
    "decision": Output(BYTES, _text("decision")),
    "heatmap": Output("FP32", _numbers("heatmap"), lambda spec: spec.feature_map[1:], "explain"),
    "heatmap_label": Output(BYTES, _text("heatmap_label"), needs="explain"),
    "top_labels": Output(BYTES, _top_labels, lambda _: (-1,), "top_k"),
    "top_probabilities": Output("FP32", _top_probabilities, lambda _: (-1,), "top_k"),
    "error": Output(BYTES, lambda rows: [error.encode() for error in rows.errors]),
}


def read_options(parameters: Mapping[str, Any], spec: Spec) -> Options:
    """Read the parameters that visor knows; all others are the client's own.

    `timeout` and `priority` are of Triton's schedule policy: microseconds that the request may take, 0 for no limit of the
    client's; and a rank in line, which is checked and not used. A number may come as a string, as KServe's SDK has to send
    fractions over gRPC.

    Raises OptionError.
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
    return Options(explain, top_k, None if threshold is None else float(threshold), timeout_us / 1e6 if timeout_us else None)


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


def choose_outputs(requested: Sequence[RequestedOutput], options: Options) -> tuple[RequestedOutput, ...]:
    """Choose the outputs of an answer, in order: those that were asked for, or all that the parameters bring.

    Raises OutputInvalid for one that is unknown, repeated or without classes to name; OptionError for a classification
    that is no number of classes.
    """
    if not requested:
        return _unasked(explain=options.explain, top_k=options.top_k is not None)
    seen: set[str] = set()
    for name, count in ((one.name, one.classification) for one in requested):
        if name not in OUTPUTS:
            raise OutputInvalid(f"the model has no output {show(name)}; it has {', '.join(OUTPUTS)}")
        if name in seen:
            raise OutputInvalid(f"output {name} is requested twice")
        seen.add(name)
        if count is not None:
            _check_classification(name, count)
    return tuple(requested)


@cache
def _unasked(**given: bool) -> tuple[RequestedOutput, ...]:
    return tuple(RequestedOutput(name) for name, output in OUTPUTS.items() if output.needs is None or given[output.needs])


def _check_classification(name: str, count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise OptionError(f"classification must be a number of classes, 1 or more; got {show(count)}")
    if not OUTPUTS[name].has_classes:
        having = ", ".join(other for other, output in OUTPUTS.items() if output.has_classes)
        raise OutputInvalid(f"output {name} has no value for each class, of which classification names the highest; {having} has")


def make_outputs(
    requested: Sequence[RequestedOutput], results: Sequence[Result], options: Options, spec: Spec
) -> tuple[OutputTensor, ...]:
    """Make one tensor for each output that is asked for, with a row for each result."""
    rows = Rows(
        answers=[ImageAnswer.blank(spec) if isinstance(result, VisorError) else result for result in results],
        errors=[result.code if isinstance(result, VisorError) else "" for result in results],
        labels=spec.labels,
        top_k=options.top_k or len(spec.labels),  # asked for by its name alone: all of them
    )
    return tuple([_make_output(one, rows, spec) for one in requested])


def _make_output(requested: RequestedOutput, rows: Rows, spec: Spec) -> OutputTensor:
    name, output, images = requested.name, OUTPUTS[requested.name], len(rows.answers)
    if requested.classification:
        count = min(requested.classification, len(spec.labels))  # as Triton does, where more classes are asked for than there are
        return OutputTensor(name, (images, count), _classified(rows, count))
    sides = (rows.top_k,) if output.needs == "top_k" else output.sides(spec)
    return OutputTensor(name, (images, *sides), output.make(rows))

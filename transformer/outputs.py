"""The outputs: declared once, for metadata, for what a request may ask and for how each is made of the handler's answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from handlers.errors import OptionError, VisorError
from handlers.spec import Spec
from transformer.errors import OutputInvalid, show
from transformer.tensors import BYTES, OutputTensor
from transformer.verdicts import Result, Verdict

Column = npt.NDArray[Any] | list[bytes]


@dataclass(frozen=True)
class Options:
    """A request's parameters, checked. `threshold`: None for the archive's own."""

    explain: bool = False
    top_k: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Rows:
    """A request's results, as columns are made of them. `verdicts` has a blank where `errors` has a code."""

    verdicts: Sequence[Verdict]
    errors: Sequence[str]
    labels: Sequence[str]
    top_k: int

    def best(self) -> list[npt.NDArray[np.intp]]:
        """The classes of each row, the most probable `top_k` first; equal ones in the labels' order."""
        return [np.argsort(-verdict.probabilities, kind="stable")[: self.top_k] for verdict in self.verdicts]


@dataclass(frozen=True)
class Output:
    """One output. `sides`: its shape after the images' own; -1 is any. `needs`: the parameter that brings it."""

    datatype: str
    make: Callable[[Rows], Column]
    sides: Callable[[Spec], tuple[int, ...]] = lambda _: ()
    needs: Literal["explain", "top_k"] | None = None


def _text(read: Callable[[Verdict], str]) -> Callable[[Rows], Column]:
    return lambda rows: [read(verdict).encode() for verdict in rows.verdicts]


def _numbers(read: Callable[[Verdict], Any]) -> Callable[[Rows], Column]:
    return lambda rows: np.array([read(verdict) for verdict in rows.verdicts], dtype=np.float32)


def _top_labels(rows: Rows) -> Column:
    ranked = zip(rows.best(), rows.errors, strict=True)
    return [b"" if error else rows.labels[k].encode() for best, error in ranked for k in best]


def _top_probabilities(rows: Rows) -> Column:
    return np.array([verdict.probabilities[best] for verdict, best in zip(rows.verdicts, rows.best(), strict=True)])


OUTPUTS: dict[str, Output] = {
    "label": Output(BYTES, _text(lambda verdict: verdict.label)),
    "confidence": Output("FP32", _numbers(lambda verdict: verdict.confidence)),
    "probabilities": Output("FP32", _numbers(lambda verdict: verdict.probabilities), lambda spec: (len(spec.labels),)),
    "decision": Output(BYTES, _text(lambda verdict: verdict.decision)),
    "heatmap": Output("FP32", _numbers(lambda verdict: verdict.heatmap), lambda spec: spec.feature_map[1:], "explain"),
    "heatmap_label": Output(BYTES, _text(lambda verdict: verdict.heatmap_label), needs="explain"),
    "top_labels": Output(BYTES, _top_labels, lambda _: (-1,), "top_k"),
    "top_probabilities": Output("FP32", _top_probabilities, lambda _: (-1,), "top_k"),
    "error": Output(BYTES, lambda rows: [error.encode() for error in rows.errors]),
}


def read_options(parameters: Mapping[str, Any], spec: Spec) -> Options:
    """Check our three parameters and let the rest be: clients send `timeout`, `priority` and others of their own.

    Raises OptionError.
    """
    explain = parameters.get("explain", False)
    if not isinstance(explain, bool):
        raise OptionError(f"explain must be true or false, got {show(explain)}")
    top_k = parameters.get("top_k")
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or not 1 <= top_k <= len(spec.labels)):
        raise OptionError(f"top_k must be an integer from 1 to {len(spec.labels)}, the number of labels; got {show(top_k)}")
    threshold = parameters.get("threshold")
    if threshold is not None:
        number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if not number or not 0.0 <= threshold <= 1.0:  # NaN fails this too
            raise OptionError(f"threshold must be a number from 0 to 1, got {show(threshold)}")
        threshold = float(threshold)
    return Options(explain, top_k, threshold)


def choose_outputs(names: Sequence[str], options: Options) -> tuple[str, ...]:
    """The outputs of an answer, in order: those that were asked for, or all that the parameters bring.

    Raises OutputInvalid for one that is unknown, repeated, or needs a parameter that is not there.
    """
    given = {None: True, "explain": options.explain, "top_k": options.top_k is not None}
    if not names:
        return tuple(name for name, output in OUTPUTS.items() if given[output.needs])
    for n, name in enumerate(names):
        if name not in OUTPUTS:
            raise OutputInvalid(f"the model has no output {show(name)}; it has {', '.join(OUTPUTS)}")
        if name in names[:n]:
            raise OutputInvalid(f"output {name} is requested twice")
        if not given[needs := OUTPUTS[name].needs]:
            raise OutputInvalid(f"output {name} comes with the parameter {needs}; send it, or leave the output out")
    return tuple(names)


def make_outputs(names: Sequence[str], results: Sequence[Result], options: Options, spec: Spec) -> tuple[OutputTensor, ...]:
    """One tensor for each name, a row for each result."""
    blank = Verdict.blank(spec)
    rows = Rows(
        verdicts=[blank if isinstance(result, VisorError) else result for result in results],
        errors=[result.code if isinstance(result, VisorError) else "" for result in results],
        labels=spec.labels,
        top_k=options.top_k or 0,
    )
    count = len(results)
    return tuple(OutputTensor(name, (count, *_sides(name, options, spec)), OUTPUTS[name].make(rows)) for name in names)


def _sides(name: str, options: Options, spec: Spec) -> tuple[int, ...]:
    output = OUTPUTS[name]
    return (options.top_k or 0,) if output.needs == "top_k" else output.sides(spec)

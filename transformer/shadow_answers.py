"""The stable release's answer to an image beside the canary's: whether they agree, and what each one's decision costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from handlers.decision import Outcome, scores_of
from handlers.errors import ImageError
from handlers.spec import Spec
from transformer.upstream.connection import Reply
from transformer.upstream.image_answers import ImageAnswer

Compared = Literal["agreed", "label", "decision", "error", "timeout", "dropped"]
"""What became of an image that a shadow chose; `transformer.declared` describes each."""

REFUSED = "image."
"""What the codes of errors begin with that lie in the image itself."""

ROUNDED = 0.01
"""By how much probabilities may miss the sum of 1: those of ten thousand labels, in six digits each, do by 0.005 at most."""


@dataclass(frozen=True)
class Row:
    """One release's answer to an image. An image that it refused has no label, and the decision of its `on_error`, "" for none.

    `score`: None of one that was refused. `probabilities`: by label; empty of one that was refused.
    """

    label: str
    decision: str
    score: float | None
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Two answers beside each other. `score_difference`: the canary's minus the stable one, None unless both have a score.

    `costs`: the expected cost of the stable decision and of the canary's, None unless both are known.
    """

    result: Compared
    score_difference: float | None = None
    costs: tuple[float, float] | None = None


def outputs_of(spec: Spec) -> list[dict[str, Any]]:
    """The outputs that a canary is asked for, which `read_row` reads, all of one row. Labels come by name: it may have others,
    and one more of them than the stable archive has says that it has more."""
    classes = {"name": "probabilities", "parameters": {"classification": len(spec.labels) + 1}}
    return [*({"name": name} for name in ("label", "decision", "score", "error")), classes]


def stable_row(result: ImageAnswer | ImageError, spec: Spec) -> Row:
    """Make the row of what this edge has answered."""
    if isinstance(result, ImageError):
        return Row("", spec.decision.on_error or "", None, {})
    score = float(scores_of(result.probabilities[None], spec.positive_index)[0])
    return Row(result.label, result.decision, score, dict(zip(spec.labels, result.probabilities.tolist(), strict=True)))


def read_row(reply: Reply, labels: int) -> Row | None:
    """Read a canary's answer to `outputs_of`, in V2's JSON; None for what is no answer to the image, such as 503.

    Nor is what no archive can answer, as one such figure would spoil a sum for good: texts that are none, another decision, a
    score or probability outside [0, 1], probabilities that do not add up. `labels`: how many the stable archive has.
    """
    try:
        answer = orjson.loads(reply.body)
        if reply.status != 200:
            refused = 400 <= reply.status < 500 and answer["code"].startswith(REFUSED)
            return Row("", "", None, {}) if refused else None
        label, decision, score, error, *classes = [one for output in answer["outputs"] for one in output["data"]]
        if error:
            return Row("", decision, None, {}) if isinstance(error, str) and decision in ("", *get_args(Outcome)) else None
        named = [one.split(":", 2) for one in classes]  # VALUE:INDEX:LABEL
        row = Row(label, decision, float(score), {name: float(value) for value, _, name in named})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return row if _is_possible(row, shown_all=len(named) <= labels) else None


def _is_possible(row: Row, *, shown_all: bool) -> bool:
    """Whether an archive can answer so. `shown_all`: whether it has no more labels than these. NaN is in no range."""
    values = (row.score, *row.probabilities.values())
    total = sum(row.probabilities.values())
    return (
        isinstance(row.label, str)
        and row.label != ""
        and row.decision in get_args(Outcome)
        and all(value is not None and 0 <= value <= 1 + ROUNDED for value in values)
        and (1 - ROUNDED if shown_all else 0) <= total <= 1 + ROUNDED
    )


def compare(stable: Row, canary: Row, spec: Spec) -> Comparison:
    """Compare two answers to one image. `spec`: the stable archive's."""
    result: Compared = "agreed"
    if stable.decision != canary.decision or bool(stable.label) != bool(canary.label):
        result = "decision"
    elif stable.label != canary.label:
        result = "label"
    if stable.score is None or canary.score is None:
        return Comparison(result)
    costs = [expected_cost(row, spec) for row in (stable, canary)]
    known = [cost for cost in costs if cost is not None]
    return Comparison(result, canary.score - stable.score, (known[0], known[1]) if len(known) == 2 else None)


def expected_cost(row: Row, spec: Spec) -> float | None:
    """Compute what a decision costs on average over images of these probabilities, at the costs of `spec`.

    A flagged image stands for its most probable positive label, a passed one for its most probable other, without positive labels
    for its most probable one, as where the decision is fitted: sum over true labels t of p_t cost[t][that label]. A reviewed one
    costs `review_cost`. None where that is not stated, and where the canary has other labels, or flags where the stable archive
    has nothing to flag. Where probabilities are calibrated, the mean over images is that of what comes to pass.
    """
    rule = spec.decision
    if row.decision == "review":
        return rule.review_cost
    if row.probabilities.keys() != set(spec.labels):
        return None
    # Of two labels arrays take ten times as long.
    probs = [row.probabilities[label] for label in spec.labels]
    flags = spec.positive_index
    chosen = flags if row.decision == "flag" else [index for index in range(len(probs)) if index not in flags]
    if not chosen:
        return None
    stands_for = max(chosen, key=probs.__getitem__)
    return sum(prob * costs[stands_for] for prob, costs in zip(probs, rule.cost, strict=True))

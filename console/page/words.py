"""What the page says of an answer, in sentences. Pure functions of what the server told."""

from collections.abc import Sequence

from console.servers.models import Answer, Model
from handlers.decision import Rule

DONE = {"flag": "flagged", "pass": "passed", "review": "for a person", "": "not decided"}
"""What a decision means, as one word or three."""
WOULD = {"flag": "be flagged", "pass": "pass", "review": "go to a person"}
MOST_DIGITS = 9


def number(value: float, *others: float) -> str:
    """Write a number with three digits, or as many more as tell it from 0, from 1, and from `others` that it is compared with."""
    for digits in range(3, MOST_DIGITS):
        text = f"{value:.{digits}g}"
        if float(text) in (0.0, 1.0) and value not in (0.0, 1.0):
            continue
        if all(value == other or text != f"{other:.{digits}g}" for other in others):
            return text
    return f"{value:.{MOST_DIGITS}g}"


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as percent; what is neither nothing nor all is not written as either."""
    if share is None:
        return "-"
    if share in (0, 1):
        return f"{100 * share:g} %"
    least = 10.0**-digits
    shown = 100 * share
    if 0 < shown < least:
        return f"< {least:g} %"
    if 100 - least < shown < 100:
        return f"> {100 - least:g} %"
    return f"{shown:.{digits}f} %"


def plain(share: float) -> str:
    """Write a share that somebody chose, as they would: `5 %`."""
    return f"{100 * share:.4g} %"


def listed(names: Sequence[str], last: str = "or") -> str:
    """Write names as a list: `a, b or c`."""
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def meaning(positive: Sequence[str]) -> str:
    """What the score is."""
    return f"The score is the probability of {listed(positive)}." if positive else "The score is the confidence of the label."


def rule(answer: Answer) -> str:
    """Say by which rule a picture was decided; "" where it was not."""
    score, threshold, low, high = answer.score, answer.threshold, answer.review_from, answer.review_to
    if score is None or threshold is None or low is None or high is None:
        return ""
    done, others = DONE[answer.decision], (threshold, low, high)
    own = number(score, *others)
    at, start, end = (number(limit, score) for limit in others)
    own_threshold = (
        "your threshold"
        if answer.threshold_overridden
        else f"the threshold of {answer.group}"
        if answer.group
        else "the threshold"
    )
    if not answer.positive:
        where = "below" if answer.decision == "review" else "at or above"
        return f"{done}: confidence {own} is {where} {own_threshold} {at}"
    match answer.decision:
        case "flag" if high == threshold:
            return f"{done}: score {own} is at or above {own_threshold} {at}"
        case "flag":
            return f"{done}: score {own} is at or above {end}, where the review band around {own_threshold} {at} ends"
        case "review":
            return f"{done}: score {own} is within the review band, from {start} up to {end}, around {own_threshold} {at}"
        case "pass" if low == threshold:
            return f"{done}: score {own} is below {own_threshold} {at}"
        case "pass":
            return f"{done}: score {own} is below {start}, where the review band around {own_threshold} {at} begins"
    return ""


def bound(model: Model) -> str:
    """Say what the archive promises; "" where it promises nothing."""
    if model.bound is None:
        return ""
    told = (
        f"of {listed(model.positive)} pictures like those it was calibrated with, at most {plain(model.bound.level)} are missed"
    )
    return f"{told}, up to the threshold {number(model.bound.threshold)} (from {model.bound.positives:,} of them)"


def promise(answer: Answer, model: Model) -> str:
    """Say whether the archive's promise covers this answer."""
    told = bound(model)
    match answer.promise:
        case "held":
            return (
                f"The promise covers this answer: {told}."
                if told
                else "The archive's bound on missed pictures covers this answer."
            )
        case "overridden":
            return (
                f"The promise does not cover this answer, as the threshold is above its bound: {told}."
                if told
                else ("The archive's bound on missed pictures does not cover this answer, as the threshold is above it.")
            )
    return "This archive makes no promise about missed pictures."


def prediction_set(model: Model) -> str:
    """Say what the prediction set means."""
    coverage = (model.prediction_sets or {}).get("coverage")
    often = (
        f"in {plain(coverage)} of pictures like those of the calibration split"
        if isinstance(coverage, float)
        else "as often as promised"
    )
    return f"The true label is among these {often}."


def with_threshold(threshold: float, answer: Answer) -> Rule:
    """The rule that a request's own threshold makes of an answer's: its band stays below it, as docs/v2.md says."""
    low = threshold if answer.review_from is None else min(answer.review_from, threshold)
    if not answer.positive:
        return Rule(threshold, 0.0, threshold, "pass")
    return Rule(threshold, low, threshold, "flag")


def choice(threshold: float, missed: float, flagged: float, answer: Answer, model: Model) -> str:
    """Say what a threshold of the curve would do, to the calibration split and to this picture."""
    told = (
        f"At the threshold {number(threshold)}, {percent(missed)} of {listed(model.positive)} pictures would be missed and "
        f"{percent(flagged)} of the others flagged."
    )
    if answer.score is not None:
        told += f" This picture would {WOULD[with_threshold(threshold, answer).decide(answer.score)]}."
    if model.bound is not None:
        most = plain(model.bound.level)
        if threshold <= model.bound.threshold:
            told += f" The promise of at most {most} missed holds."
        else:
            told += f" The promise of at most {most} missed no longer covers it: that ends at {number(model.bound.threshold)}."
    return told

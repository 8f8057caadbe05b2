"""Whether a release keeps its promise on missed images, by the labels that come back for some of what it answered.

A positive image counts as missed where the served decision was "pass": nobody was shown it. The promise is about the threshold,
and a review band only shows people more, so whoever keeps the promise keeps it here. Labels must come for a random share of the
images: whoever labels what was flagged finds no miss. `watch.sequences` has the bounds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import fisher_exact, hypergeom

from handlers.arrays import Int64
from handlers.decision import Outcome, rule_of
from handlers.spec import Spec
from watch import sequences

ALPHA = 0.05
"""The chance of one false alarm, ever, over all promises of an archive; that of an upper bound that errs is the same."""
SURE = 0.01
"""Below this chance, labels that came for no image that passed were not drawn at random."""
UNEQUAL = 0.001
"""Below this chance, those that came more often for some decisions than for others were not."""

Reason = Literal["other_archive", "other_threshold", "several_images", "unanswered", "contradicting_answers"]
"""Why an answer cannot be audited: another archive's; by a threshold that the promise does not cover; of a request with several
images, among which an id does not choose; an error; ids that came twice, with different answers."""
Verdict = Literal["broken", "kept", "open"]


@dataclass(frozen=True)
class Answer:
    """What was decided about one image, and the group whose rule decided, None for the archive's own."""

    decision: Outcome
    group: str | None = None


@dataclass(frozen=True)
class Answers:
    """What was served. `by_id`: of the images that have a label; `decisions`: how many images of all got each decision."""

    by_id: Mapping[str, Answer | Reason]
    decisions: Mapping[str, int]


@dataclass(frozen=True)
class Promise:
    """At most `level` of the positive images are missed: of one group's, or of all that have no promise of their own."""

    level: float
    group: str | None = None


@dataclass(frozen=True)
class Followed:
    """A promise and what labels say of it so far.

    `labels`: of positive images; `missed`, `reviewed`: of these. `lower`: the highest lower bound so far, `upper`: the bound now,
    each with a chance of `alpha` to be wrong, ever. `alarm_at`: after how many labels the lower bound was above the level.
    """

    promise: Promise
    alpha: float
    labels: int
    missed: int
    reviewed: int
    lower: float
    upper: float
    alarm_at: int | None

    @property
    def share(self) -> float | None:
        """The share that was missed; None without labels."""
        return self.missed / self.labels if self.labels else None

    @property
    def verdict(self) -> Verdict:
        """Whether the promise is shown to be broken or, now, to be kept."""
        if self.alarm_at is not None:
            return "broken"
        return "kept" if self.upper <= self.promise.level else "open"


@dataclass(frozen=True)
class Audit:
    """What the labels say.

    `rows`: of the table; `used`: whose image and label were known, each image once; `left_out`: why the others were not.
    `labelled`: of the used ones, how many images got each decision; `decisions`: of all that were answered.
    """

    followed: tuple[Followed, ...]
    rows: int
    used: int
    left_out: Mapping[str, int]
    labelled: Mapping[str, int]
    decisions: Mapping[str, int]
    selected: bool
    notes: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether a promise is shown to be broken."""
        return any(one.verdict == "broken" for one in self.followed)


def promises(spec: Spec, level: float | None = None) -> tuple[Promise, ...]:
    """List the archive's promises, its own first, then those of groups. `level`: takes the place of the archive's own."""
    own = spec.decision.fnr_bound.level if level is None and spec.decision.fnr_bound else level
    groups = [Promise(rule.fnr_bound.level, rule.name) for rule in spec.decision.groups or () if rule.fnr_bound]
    return (*([Promise(own)] if own is not None else []), *groups)


def audit(answers: Answers, labels: Sequence[tuple[str, str]], spec: Spec, level: float | None = None) -> Audit:
    """Join labels with answers and follow each promise. labels: (id, label) in the order in which they came."""
    wanted = promises(spec, level)
    kept, left_out = _distinct(labels)
    by_promise: dict[str | None, list[Outcome]] = {promise.group: [] for promise in wanted}
    labelled, negatives = Counter[str](), 0
    for key, label in kept:
        answer = answers.by_id.get(key, "unknown_id")
        if isinstance(answer, Answer) and not _covered(spec, answer, level):
            answer = "other_threshold"
        if label not in spec.labels:
            answer = "unknown_label"
        if not isinstance(answer, Answer):
            left_out[answer] += 1
            continue
        labelled[answer.decision] += 1
        if label not in spec.decision.positive:
            negatives += 1
            continue
        group = answer.group if answer.group in by_promise else None
        if group in by_promise:
            by_promise[group].append(answer.decision)
        else:
            left_out["no_promise"] += 1
    alpha = ALPHA / max(1, len(wanted))
    selected, notes = _drawn(labelled, answers.decisions, negatives)
    followed = tuple(_follow(promise, by_promise[promise.group], alpha) for promise in wanted)
    return Audit(
        followed=followed,
        rows=len(labels),
        used=labelled.total() - left_out["no_promise"],
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        labelled=dict(labelled),
        decisions=dict(answers.decisions),
        selected=selected,
        notes=(*notes, *_about(spec, followed, level is None)),
    )


def _distinct(labels: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Each id once, where it first came; ids with different labels not at all; and the count of the rows that this leaves out."""
    found: dict[str, set[str]] = {}
    rows = Counter[str]()
    for key, label in labels:
        found.setdefault(key, set()).add(label)
        rows[key] += 1
    kept = [(key, next(iter(own))) for key, own in found.items() if len(own) == 1]
    contradicting = sum(rows[key] for key, own in found.items() if len(own) > 1)
    repeated = sum(rows[key] - 1 for key, _ in kept)
    return kept, Counter(contradicting_labels=contradicting, repeated_label=repeated)


def _covered(spec: Spec, answer: Answer, level: float | None) -> bool:
    """Whether the rule that decided is one that the promise is about, or the caller's own level is."""
    named = {rule.name for rule in spec.decision.groups or ()}
    if answer.group is not None and answer.group not in named:
        return False
    return level is not None or rule_of(spec, group=answer.group).promise != "overridden"


def _follow(promise: Promise, decisions: Sequence[Outcome], alpha: float) -> Followed:
    missed = np.cumsum([decision == "pass" for decision in decisions], dtype=np.int64)
    trials: Int64 = np.arange(1, len(decisions) + 1)
    lower = sequences.lower(missed, trials, alpha)
    above = np.flatnonzero(lower > promise.level)
    return Followed(
        promise=promise,
        alpha=alpha,
        labels=len(decisions),
        missed=int(missed[-1]) if decisions else 0,
        reviewed=sum(decision == "review" for decision in decisions),
        lower=float(lower.max(initial=0.0)),
        upper=float(sequences.upper(missed[-1:], trials[-1:], alpha)[0]) if decisions else 1.0,
        alarm_at=int(above[0]) + 1 if len(above) else None,
    )


def _drawn(labelled: Mapping[str, int], decisions: Mapping[str, int], negatives: int) -> tuple[bool, list[str]]:
    """Whether the labels came for images that were chosen by their decision, and what is to be said of it."""
    total, passed = sum(decisions.values()), decisions.get("pass", 0)
    drawn, drawn_passed = sum(labelled.values()), labelled.get("pass", 0)
    if not 0 < passed < total or not drawn:
        return False, []
    if not negatives:
        return False, ["All labels are positive, so that nothing shows whether labels came for a random share of the images."]
    if drawn_passed == 0 and hypergeom.cdf(0, total, passed, drawn) < SURE:
        return True, []
    table = [[drawn_passed, passed - drawn_passed], [drawn - drawn_passed, total - passed - drawn + drawn_passed]]
    if min(map(min, table)) >= 0 and fisher_exact(table)[1] < UNEQUAL:
        shares = f"{drawn_passed / passed:.2%} of the images that passed and {table[1][0] / sum(table[1]):.2%} of the others"
        return False, [f"{shares} have a label: they were not drawn at random, and the missed share is not what it seems."]
    return False, []


def _about(spec: Spec, followed: Sequence[Followed], own: bool) -> list[str]:
    """What a reader must know of the promises. `own`: the archive's own is followed, and no other in its place."""
    bounds = [spec.decision.fnr_bound if own else None, *(rule.fnr_bound for rule in spec.decision.groups or ())]
    notes = []
    if any(one.alarm_at and one.upper < one.lower for one in followed):
        notes.append("The missed share was not the same at all times: it was above the upper bound of now.")
    if any(bound and bound.confidence is None for bound in bounds):
        notes.append("The archive's promise holds on average over calibration splits: a single archive may miss more than that.")
    if any(bound and bound.groups for bound in bounds):
        notes.append("The archive's promise is averaged over groups of images; here each image counts, as if it were by itself.")
    return notes

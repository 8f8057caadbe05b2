"""Whether a release keeps its promise on missed images, by the labels that come back for some of what it answered.

A positive image counts as missed where the served decision was "pass": nobody was shown it. The promise is about the threshold,
and a review band only shows people more, so whoever keeps the promise keeps it here. Labels must come for a random share of the
images: whoever labels what was flagged finds no miss. `watch.sequences` has the bounds.

A row is decided when it comes: the first label of an image and its first answer count, whatever follows. So what was shown to be
broken stays so while rows and answers are only appended.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import fisher_exact, hypergeom

from archives.names import close_to, composed
from handlers.arrays import Int64
from handlers.decision import Outcome, rule_of
from handlers.spec import Spec
from watch import sequences

ALPHA = 0.05
"""The chance of one false alarm, ever, over all promises of an archive; that of an upper bound that errs is the same."""
SURE = 0.01
"""Below this chance, negative labels none of which is of an image that passed were not drawn at random. Once one is, none is
refused again, so that this is the chance of a false refusal at all runs together."""
UNEQUAL = 0.001
"""Below this chance, at each run, labels that came more often for some decisions than for others were not."""
NAMED = 5
"""How many labels a sentence names of those that the archive has not, and of its own."""
NAMED_LETTERS = 40
"""How many letters of each it shows."""

Reason = Literal["other_archive", "other_threshold", "several_images", "unanswered"]
"""Why an answer cannot be audited: another archive's; by a threshold that the promise does not cover; of a request with several
images, among which an id does not choose; an error."""
Verdict = Literal["broken", "kept", "open"]


@dataclass(frozen=True)
class Answer:
    """What was decided about one image, and the group whose rule decided, None for the archive's own."""

    decision: Outcome
    group: str | None = None


@dataclass(frozen=True)
class Answers:
    """What was served, by the first answer of each image.

    `by_id`: of the images that have a label; `images`: how many images of all got each answer; `again`: how many of those with a
    label were answered again in another way.
    """

    by_id: Mapping[str, Answer | Reason]
    images: Mapping[Answer, int]
    again: int = 0


@dataclass(frozen=True)
class Promise:
    """At most `level` of the positive images are missed: of one group's, or of all that have no promise of their own."""

    level: float
    group: str | None = None


@dataclass(frozen=True)
class Followed:
    """A promise and what labels say of it so far.

    `labels`: of positive images; `missed`, `reviewed`: of these. `lower`: the highest lower bound so far, `upper`: the bound now,
    each with a chance of `alpha` to be wrong, ever; `upper` is 1 where labels were seen not to be drawn at random. `alarm_at`:
    after how many labels the lower bound was above the level.
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
    `labelled`: of the used ones, how many images got each decision; `decisions`: of all that were answered by a rule that the
    promises cover. `selected`: negative labels came only for images that did not pass.
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
    def joined(self) -> bool:
        """Whether an answer was found of any row whose label is known, were it one that is left out."""
        reasons = {"unknown_id", "unknown_label", "repeated_label", "contradicting_labels"}
        return bool(self.labelled) or not self.left_out.get("unknown_id") or not reasons.issuperset(self.left_out)

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
    first, left_out = _first(labels, spec)
    strange = unknown(labels, spec)
    by_promise: dict[str | None, list[Outcome]] = {promise.group: [] for promise in wanted}
    labelled, negatives = Counter[str](), Counter[str]()
    for key, label in first.items():
        answer = answers.by_id.get(key, "unknown_id")
        if isinstance(answer, Answer) and not _covered(spec, answer, level):
            answer = "other_threshold"
        if not isinstance(answer, Answer):
            left_out[answer] += 1
            continue
        labelled[answer.decision] += 1
        if label not in spec.decision.positive:
            negatives[answer.decision] += 1
            continue
        group = answer.group if answer.group in by_promise else None
        if group in by_promise:
            by_promise[group].append(answer.decision)
        else:
            left_out["no_promise"] += 1
    alpha = ALPHA / max(1, len(wanted))
    decisions = Counter[str]()
    for answer, count in answers.images.items():
        if _covered(spec, answer, level):
            decisions[answer.decision] += count
    selected = not negatives["pass"] and _chance_of_none(decisions, negatives.total()) < SURE
    unequal = _unequal(labelled, decisions) if negatives else None  # positive images pass less often than all
    followed = tuple(_follow(promise, by_promise[promise.group], alpha, selected or bool(unequal)) for promise in wanted)
    some = "Most" if left_out["unknown_label"] * 2 > len(labels) else "Some"
    notes = [f"{some} labels are left out: {strange}{'' if strange.endswith('?') else '.'}"] if strange else []
    notes += [unequal] if unequal else []
    if selected:
        notes.append("No negative label is of an image that passed: labels were not drawn at random, and misses may be unseen.")
    if labelled and not negatives:
        notes.append("All labels are positive, so that nothing shows whether labels came for a random share of the images.")
    if left_out["contradicting_labels"]:
        notes.append(f"{left_out['contradicting_labels']} rows contradict an earlier label of their image: the first one counts.")
    if answers.again:
        notes.append(f"{answers.again} images with a label were answered again in another way: the first answer counts.")
    return Audit(
        followed=followed,
        rows=len(labels),
        used=labelled.total() - left_out["no_promise"],
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        labelled=dict(labelled),
        decisions=dict(decisions),
        selected=selected,
        notes=(*notes, *_about(spec, followed, level is None)),
    )


def unknown(labels: Iterable[tuple[str, str]], spec: Spec) -> str | None:
    """Say which labels the archive has not, which it has, and which may be meant; None where it has all that are not empty."""
    known = {composed(label) for label in spec.labels}
    strange = Counter(label for _, label in labels if label and composed(label) not in known)
    if not strange:
        return None
    meant = {label: close for label in list(strange)[:NAMED] if (close := close_to(label, spec.labels))}
    slips = ", ".join(f"{_some([close])} by {_some([label])}" for label, close in meant.items())
    said = f"{_some(strange)} {'is' if len(strange) == 1 else 'are'} none of the archive's labels, {_some(spec.labels)}"
    return f"{said}; did you mean {slips}?" if slips else said


def _some(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(repr(name[:NAMED_LETTERS]) for name in list(names)[:NAMED]) + more


def _first(labels: Iterable[tuple[str, str]], spec: Spec) -> tuple[dict[str, str], Counter[str]]:
    """Find the first label of each id that the archive has, in the order of rows, and count the rows that this leaves out."""
    first: dict[str, str] = {}
    left_out = Counter[str]()
    known = {composed(label): label for label in spec.labels}
    for key, given in labels:
        label = known.get(composed(given))
        if label is None:
            left_out["unknown_label"] += 1
        elif key not in first:
            first[key] = label
        else:
            left_out["repeated_label" if label == first[key] else "contradicting_labels"] += 1
    return first, left_out


def _covered(spec: Spec, answer: Answer, level: float | None) -> bool:
    """Whether the rule that decided is one that the promise is about, or the caller's own level is."""
    named = {rule.name for rule in spec.decision.groups or ()}
    if answer.group is not None and answer.group not in named:
        return False
    return level is not None or rule_of(spec, group=answer.group).promise != "overridden"


def _follow(promise: Promise, decisions: Sequence[Outcome], alpha: float, not_drawn: bool) -> Followed:
    missed = np.cumsum([decision == "pass" for decision in decisions], dtype=np.int64)
    trials: Int64 = np.arange(1, len(decisions) + 1)
    lower = sequences.lower(missed, trials, alpha)
    above = np.flatnonzero(lower > promise.level)
    bounded = decisions and not not_drawn
    return Followed(
        promise=promise,
        alpha=alpha,
        labels=len(decisions),
        missed=int(missed[-1]) if decisions else 0,
        reviewed=sum(decision == "review" for decision in decisions),
        lower=float(lower.max(initial=0.0)),
        upper=float(sequences.upper(missed[-1:], trials[-1:], alpha)[0]) if bounded else 1.0,
        alarm_at=int(above[0]) + 1 if len(above) else None,
    )


def _chance_of_none(decisions: Mapping[str, int], negatives: int) -> float:
    """Compute the chance that none of so many images, drawn at random, passed; more negative ones pass: it is smaller."""
    return float(hypergeom.cdf(0, sum(decisions.values()), decisions.get("pass", 0), negatives))


def _unequal(labelled: Mapping[str, int], decisions: Mapping[str, int]) -> str | None:
    """Say where images that passed have labels more or less often than others, by Fisher's exact test."""
    passed, drawn_passed = decisions.get("pass", 0), labelled.get("pass", 0)
    others, drawn_others = sum(decisions.values()) - passed, sum(labelled.values()) - drawn_passed
    if not passed or not others:
        return None
    if fisher_exact([[drawn_passed, passed - drawn_passed], [drawn_others, others - drawn_others]])[1] >= UNEQUAL:
        return None
    shares = f"{drawn_passed / passed:.2%} of the images that passed and {drawn_others / others:.2%} of the others"
    return f"{shares} have a label: they were not drawn at random, so that no promise is shown to be kept."


def _about(spec: Spec, followed: Sequence[Followed], own: bool) -> list[str]:
    """What a reader must know of the promises. `own`: the archive's own is followed, and no other in its place."""
    bounds = [spec.decision.fnr_bound if own else None, *(rule.fnr_bound for rule in spec.decision.groups or ())]
    notes = []
    if any(one.alarm_at and one.upper < one.lower for one in followed):
        notes.append("The missed share was not the same at all times: it was above the upper bound of now.")
    if len(followed) > 1 and followed[0].promise.group is None:
        notes.append("The archive's own promise is followed on images outside the groups that have their own, not on all.")
    if any(bound and bound.confidence is None for bound in bounds):
        notes.append("The archive's promise holds on average over calibration splits: a single archive may miss more than that.")
    if any(bound and bound.groups for bound in bounds):
        notes.append(
            "The archive's promise is averaged over groups of images, which are alike; here each image counts, as if it were by "
            f"itself, and bounds err more often than in {ALPHA:.0%} unless one image of each group is labelled."
        )
    return notes

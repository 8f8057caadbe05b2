"""What reviews say of the rule that is served: the share of positive pictures that it misses, and of others that it flags.

Two samples are followed, each by a confidence sequence (`watch.sequences`), in the order in which pictures were answered and
up to the first one that waits for its label: so neither what labels say nor when people came to them chooses what counts.

audit   the pictures that were drawn at random, whatever was decided about them; each counts 1.
all     these, and all that were to be reviewed. Every one of the latter is looked at, and a share c of the others: one to be
        reviewed counts c, the others 1 (inverse-probability weights, up to the factor c). It ends where a review waits.

Each sample's bounds have half of ALPHA, and the better ones of both are shown. Pictures that a person passed on, or that were
deleted before they had a label, are left out of the estimate, and count against each bound: as whatever label makes it wider.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from sqlalchemy import and_, exists, or_, select

from console.reviews.database import Database
from console.reviews.tables import ANSWERED, ITEMS, REVIEWS
from handlers.arrays import Float64
from watch import sequences

ALPHA = 0.05
"""The chance that a bound of a figure errs, ever; each side has it."""
LOOKS = 256
"""At how many times the lower bound is computed at most: the highest of some looks is a bound as that of all is."""
Verdict = Literal["broken", "kept", "open", ""]
Test = Callable[["Looked"], bool]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Figure(_Frozen):
    """A share with its bounds. `share`: the estimate by inverse-probability weights, None without a label that it is of.

    `labels`: of how many pictures it is, `events`: how many of them were missed, or flagged, or wrong. `lower` is the highest so
    far. `promise`: the archive's bound, where it makes one, and `verdict`: whether it is shown to be broken or to be kept.
    """

    name: Literal["missed", "false_alarms", "wrong_passed"]
    share: float | None
    lower: float
    upper: float
    labels: int
    events: int
    promise: float | None = None
    verdict: Verdict = ""


class Figures(_Frozen):
    """What reviews say of one archive. `answered`: pictures by decision; `dropped`: of them, how many found no room in the line.

    `drawn`: items of the audit; `labelled` of them have a label, `left_out` were passed on or deleted, the others wait, from
    which on nothing counts yet: `counted` do.
    """

    model: str
    version: str
    archive: str
    answered: dict[str, int]
    dropped: int
    drawn: int
    labelled: int
    left_out: int
    counted: int
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Looked:
    """An item of the sample. `chance`: the share of all answers that were drawn then; `label`: None where it has none."""

    drawn: bool
    chance: float
    decision: str
    answered: str
    positive: tuple[str, ...]
    label: str | None
    left_out: bool


@dataclass(frozen=True)
class Sample:
    """What counts, in order. weights: (N,), as the sequences take them; shares: (N,), inverse probabilities."""

    looked: Sequence[Looked]
    weights: Float64
    shares: Float64


def figures(database: Database, promises: dict[str, float], model: str | None = None) -> list[Figures]:
    """Compute the figures of each archive that has answered, or of one model's. promises: by the archive's digest."""
    served = or_(ITEMS.c.lane == "audit", and_(ITEMS.c.lane == "review", ITEMS.c.decision == "review"))
    label = and_(REVIEWS.c.item == ITEMS.c.id, REVIEWS.c.label.is_not(None), REVIEWS.c.undone_s.is_(None))
    skips = REVIEWS.alias()
    passed_on = exists().where(skips.c.item == ITEMS.c.id, skips.c.label.is_(None), skips.c.undone_s.is_(None))
    columns = [ITEMS.c[name] for name in ("archive", "lane", "chance", "decision", "label", "positive", "state")]
    rows = (
        select(*columns, REVIEWS.c.label.label("given"), passed_on.label("passed_on"))
        .select_from(ITEMS.outerjoin(REVIEWS, label))
        .where(served, ITEMS.c.served, ITEMS.c.chance.is_not(None))
        .order_by(ITEMS.c.came_s, ITEMS.c.id)  # an item that somebody named comes in with the answer that was traffic
    )
    traffic = select(ANSWERED).order_by(ANSWERED.c.model, ANSWERED.c.version, ANSWERED.c.archive)
    if model is not None:
        rows, traffic = rows.where(ITEMS.c.model == model), traffic.where(ANSWERED.c.model == model)
    with database.reading() as connection:
        counted = connection.execute(traffic).all()
        looked: dict[str, list[Looked]] = {}
        for row in connection.execute(rows):
            looked.setdefault(row.archive, []).append(_looked(row))
    return [
        of_archive(names, _by(counted, names), looked.get(names[2], []), promises.get(names[2]))
        for names in dict.fromkeys((row.model, row.version, row.archive) for row in counted)
    ]


def of_archive(
    names: tuple[str, str, str], answered: dict[str, tuple[int, int]], looked: Sequence[Looked], promise: float | None
) -> Figures:
    """Compute one archive's figures. answered: by decision, how many, and how many of them were dropped."""
    samples = [sample(looked, with_reviews=with_reviews) for with_reviews in (False, True)]
    drawn = [one for one in looked if one.drawn]
    dropped = sum(dropped for _, dropped in answered.values())
    left_out = sum(one.left_out for one in drawn)
    return Figures(
        model=names[0],
        version=names[1],
        archive=names[2],
        answered={decision: count for decision, (count, _) in answered.items()},
        dropped=dropped,
        drawn=len(drawn),
        labelled=sum(one.label is not None for one in drawn),
        left_out=left_out,
        counted=sum(one.label is not None for one in samples[0].looked),
        figures=tuple(_figures(samples, promise)),
        notes=tuple(_notes(dropped, left_out, len(drawn))),
    )


def sample(looked: Iterable[Looked], *, with_reviews: bool) -> Sample:
    """Take what counts, up to the first item that waits. `with_reviews`: all that were to be reviewed, drawn or not."""
    counted = []
    for one in looked:
        if not one.drawn and not with_reviews:
            continue
        if one.label is None and not one.left_out:
            break
        counted.append(one)
    chance = np.array([one.chance for one in counted], dtype=np.float64)
    certain = np.array([with_reviews and one.decision == "review" for one in counted], dtype=np.bool_)
    return Sample(counted, np.where(certain, chance, 1.0), np.where(certain, 1.0, 1 / chance))


def _figures(samples: Sequence[Sample], promise: float | None) -> Iterable[Figure]:
    if not any(one.positive for taken in samples for one in taken.looked):
        yield _figure("wrong_passed", samples, lambda one: one.decision == "pass", lambda one: one.label != one.answered)
        return
    yield _figure("missed", samples, _is_positive, lambda one: one.decision == "pass", promise)
    yield _figure("false_alarms", samples, lambda one: not _is_positive(one), lambda one: one.decision == "flag")


def _figure(name: Any, samples: Sequence[Sample], of: Test, is_event: Test, promise: float | None = None) -> Figure:
    """A share among the labels that `of` takes: what both samples bound, and what the longer one estimates."""
    lower, upper = 0.0, 1.0
    parts = []
    for taken in samples:
        outcomes = [{is_event(each) for each in _possible(one) if of(each)} for one in taken.looked]
        event, other = (np.array([happened in each for each in outcomes], dtype=np.bool_) for happened in (True, False))
        known = np.array([one.label is not None for one in taken.looked], dtype=np.bool_)
        shares = taken.shares * known
        parts.append((shares * event, shares * (event | other)))
        if not (event | other).any():
            continue
        fewest, most = np.cumsum(taken.weights * (event & known)), np.cumsum(taken.weights * event)
        looks = np.unique(np.linspace(0, len(known) - 1, LOOKS).round().astype(np.int64))
        others = np.cumsum(taken.weights * other)[looks]
        lower = max(lower, float(sequences.lower(fewest[looks], fewest[looks] + others, ALPHA / 2).max()))
        trials = most[-1:] + (taken.weights * (other & known)).sum()
        upper = min(upper, float(sequences.upper(most[-1:], trials, ALPHA / 2)[0]))
    events, labels = max(parts, key=lambda part: part[1].sum())
    verdict: Verdict = "" if promise is None else "broken" if lower > promise else "kept" if upper <= promise else "open"
    return Figure(
        name=name,
        share=float(events.sum() / labels.sum()) if labels.any() else None,
        lower=lower,
        upper=upper,
        labels=int((labels > 0).sum()),
        events=int((events > 0).sum()),
        promise=promise,
        verdict=verdict,
    )


def _possible(one: Looked) -> Sequence[Looked]:
    """A picture with each label that it may have: its own, or of one that was left out any."""
    return [one] if one.label is not None else [replace(one, label=label) for label in (*one.positive, one.answered, "")]


def _is_positive(one: Looked) -> bool:
    return one.label in one.positive


def _looked(row: Any) -> Looked:
    gone = row.given is None and (row.state == "erased" or row.passed_on)
    return Looked(row.lane == "audit", row.chance, row.decision, row.label, tuple(row.positive), row.given, gone)


def _by(rows: Sequence[Any], names: tuple[str, str, str]) -> dict[str, tuple[int, int]]:
    return {row.decision: (row.pictures, row.dropped) for row in rows if (row.model, row.version, row.archive) == names}


def _notes(dropped: int, left_out: int, drawn: int) -> Iterable[str]:
    if dropped:
        yield (
            f"{dropped} answers found no room in the line and could not be drawn; where that depended on what they showed, "
            "the figures are of the others."
        )
    if left_out:
        yield (
            f"{left_out} of {drawn} drawn pictures were passed on or deleted and have no label: the bounds hold whatever they "
            "show, and each makes them wider; the shares are of the others."
        )

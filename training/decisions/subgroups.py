"""Metrics group by group, because a mean over all images hides groups that fare worse.

Groups come from a CSV beside the data set: a column `path`, as in the manifest, and a column for each way to group images.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archives.names import pair
from handlers import decision
from handlers.arrays import Bools, Floats, Ints
from handlers.errors import counted, undecoded
from handlers.spec import FnrBound, GroupRule, Spec
from training.config import DecisionConfig
from training.data.manifest import Sample
from training.decisions import calibration, chance, conformal, mix, thresholds
from training.decisions.chance import Groups
from training.errors import DataError

PATH, UNSTATED = "path", "not stated"
KEY = "decision.subgroups.metadata"  # which errors name
MOST_GROUPS, NAMED = 50, 5
LONGEST, NAMED_LETTERS = 200, 40
"""Letters of a group's name, as `handlers.spec.Label` bounds them, and how many of a longer one an error names."""
ACCUSED = 0.05
"""The chance with which any group at all is accused of breaking a bound that every group keeps."""


@dataclass(frozen=True)
class Answered:
    """The answers to a split. samples: N; probs: (N, K), calibrated; truth: (N,), classes."""

    samples: Sequence[Sample]
    probs: Floats
    truth: Ints

    @property
    def together(self) -> Groups | None:
        """What goes together (`data.group_pattern`), (N,); None where every image stands for itself."""
        return conformal.groups_of(self.samples)


def read(path: Path, columns: Sequence[str], samples: Sequence[Sample]) -> dict[str, dict[str, str]]:
    """Read each sample's group, by column and path.

    An empty cell is the group `not stated`; without `columns` all but `path` count.

    Raises DataError for a file or column that is not there, a path twice, samples without a row, and a column of so many
    values that these are no groups.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, header = list(reader), list(reader.fieldnames or ())
    except FileNotFoundError as err:
        raise DataError(f"{KEY} {path} is not there; name a CSV with a column {PATH!r} and those to group by") from err
    except UnicodeDecodeError as err:
        raise DataError(f"{KEY} {path} {undecoded(err)}") from err
    except (OSError, csv.Error) as err:
        raise DataError(f"{KEY} {path} cannot be read as CSV: {err}") from err
    wanted = list(columns) or [name for name in header if name != PATH]
    if missing := [name for name in (PATH, *wanted) if name not in header]:
        raise DataError(f"{KEY} {path} has no column {missing}; it has {header}, and needs {PATH!r} and those to group by")
    by_path = {row[PATH] or "": row for row in rows}
    if len(by_path) < len(rows):
        raise DataError(f"{KEY} {path} names a path twice; give each image one row")
    row_of = {path: by_path[there] for path, there in pair([sample.path for sample in samples], by_path).items()}
    if lost := [sample.path for sample in samples if sample.path not in row_of]:
        raise DataError(
            f"{KEY} {path} has no row for {counted(len(lost), 'image')}, such as {', '.join(lost[:NAMED])}; add them, with empty "
            "cells where a group is not known"
        )
    groups = {name: {sample.path: (row_of[sample.path][name] or "").strip() or UNSTATED for sample in samples} for name in wanted}
    for name, found in groups.items():
        if (distinct := len(set(found.values()))) > MOST_GROUPS:
            raise DataError(f"column {name!r} of {path} has {distinct} values, over {MOST_GROUPS}; put them into classes first")
    return groups


def check_names(groups: Mapping[str, Mapping[str, str]]) -> None:
    """Raise DataError where a request could not name a group: COLUMN=VALUE is too long, or the same for two of them."""
    names = [f"{column}={name}" for column, of in groups.items() for name in sorted(set(of.values()))]
    if long := [name for name in names if len(name) > LONGEST]:
        raise DataError(f"{KEY}: {long[0][:NAMED_LETTERS]!r}... has over {LONGEST} letters as COLUMN=VALUE; shorten it")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{KEY}: two groups are {twice[0]!r} as COLUMN=VALUE; take the = out of the column's name")


def by_group(groups: Mapping[str, Mapping[str, str]], test: Answered, calibrating: Answered, spec: Spec) -> dict[str, Any]:
    """Compute `figures` of every group, by column and group, as metrics.json holds them, and which groups break the bound.

    `p`: of the hypothesis that no more than the bound allows are missed in the group (`chance.exceeds`), adjusted for the
    number of all groups of all columns (Holm). `breaks_bound`: "yes" where it is at most ACCUSED, "perhaps" where more than the
    bound allows were missed and chance alone could explain it, else "no". `calibrating`: what `bounding` returns.
    """
    table: dict[str, Any] = {}
    tested: list[tuple[dict[str, Any], float]] = []
    for column, of in groups.items():
        names = sorted({of[sample.path] for sample in test.samples})
        table[column] = {}
        for name in names:
            own = _only(test, of, name)
            row = table[column][name] = figures(own, _only(calibrating, of, name), spec)
            if served := next((one for one in spec.decision.groups or () if one.name == f"{column}={name}"), None):
                missed, among = _missed(own, served.threshold, spec)
                row["served"] = {"threshold": served.threshold, **_rate("fnr", missed, among)}
            if spec.decision.fnr_bound and row["positives"]:
                missed, among = _missed(own, spec.decision.threshold, spec)
                tested.append((row, chance.exceeds(missed, spec.decision.fnr_bound.level, among)))
    for (row, _), p in zip(tested, chance.holm([p for _, p in tested]), strict=True):
        row["p"] = p
        if spec.decision.fnr_bound and row["fnr"] > spec.decision.fnr_bound.level:
            row["breaks_bound"] = "yes" if p <= ACCUSED else "perhaps"
    return table


def figures(test: Answered, calibrating: Answered, spec: Spec) -> dict[str, Any]:
    """Compute a group's accuracy and missed share by the threshold alone, with 95 % intervals, its ECE (for the
    mix of labels that is stated to come, where one is) and its share of reviews.

    `threshold`: the one that a bound on this group alone would have, of its images in `calibrating`, where they are enough.
    """
    rule, positive, n = spec.decision, spec.positive_index, len(test.truth)
    score = decision.scores(test.probs, spec)
    reviewed, right = np.array(decision.decide(score, spec)) == "review", test.probs.argmax(axis=1) == test.truth
    row: dict[str, Any] = {
        "images": n,
        **_rate("accuracy", right, test.together),
        "ece": calibration.reliability_of(test.probs.max(axis=1), right, weights=mix.weights(test.truth, rule.prevalence)).ece,
        "review_share": float(reviewed.mean()),
        "review_share_interval": chance.rate_interval(reviewed, test.together),
    }
    if not positive:
        return row
    missed, among = _missed(test, rule.threshold, spec)
    row |= {"positives": len(missed), **_rate("fnr", missed, among)}
    if bound := rule.fnr_bound:
        own = _bound(calibrating, positive, bound.level, bound.confidence)
        row["threshold"] = own.threshold if own else None
        row["breaks_bound"] = "no"
    return row


def bounding(calibrating: Answered, labels: Sequence[str], config: DecisionConfig) -> Answered:
    """Return the answers that bounds are found with, those that the scaling was not fitted on (`conformal.parts`)."""
    _, rows = conformal.parts([sample.group or sample.path for sample in calibrating.samples], len(labels), config)
    return _rows(calibrating, rows.tolist())


def fit_groups(
    groups: Mapping[str, Mapping[str, str]], calibrating: Answered, labels: Sequence[str], config: DecisionConfig
) -> tuple[tuple[GroupRule, ...], list[str]]:
    """Fit the thresholds that `decision.subgroups.thresholds` asks for, and write a sentence for each group that has none.

    A group's threshold is the one of least cost on its calibration images, under a bound on its own positive images where
    `max_fnr` asks for one. Left out are groups with too few positive images for the bound, and without it those that lack
    positive or negative ones; a request that names one of these is refused, as for a group that nobody knows.
    """
    positive = [k for k, label in enumerate(labels) if label in config.positive]
    free = bounding(calibrating, labels, config)
    rules, notes = list[GroupRule](), list[str]()
    for column, of in groups.items():
        for name in sorted({of[sample.path] for sample in calibrating.samples} - {UNSTATED}):
            own = _only(calibrating, of, name)
            bad = np.isin(own.truth, positive)
            bound = None
            if config.max_fnr is not None:
                bound = _bound(_only(free, of, name), positive, config.max_fnr, config.max_fnr_confidence)
            if bad.all() or not bad.any() or (config.max_fnr is not None and bound is None):
                notes.append(_left_out(column, name, int(bad.sum()), len(bad), config))
                continue
            fitted = thresholds.fit_decision(own.probs, own.truth, labels, config, bound)
            rules.append(
                GroupRule(
                    name=f"{column}={name}",
                    threshold=fitted.threshold,
                    images=len(bad),
                    positives=int(bad.sum()),
                    fnr_bound=bound,
                )
            )
    return tuple(rules), notes


def _left_out(column: str, name: str, positives: int, images: int, config: DecisionConfig) -> str:
    if config.max_fnr is None:
        why = "and a threshold needs both positive and others"
    else:
        least = conformal.needed(config.max_fnr, config.max_fnr_confidence)
        why = f"and its bound needs {least} that the scaling was not fitted on, or so many groups of them"
    return (
        f"Subgroup {column} = {name} gets no threshold of its own: {positives} of its {images} calibration images are positive, "
        f"{why}."
    )


def _bound(answered: Answered, positive: Sequence[int], level: float, confidence: float | None) -> FnrBound | None:
    """The bound on these images alone; None where they are too few."""
    bad = np.isin(answered.truth, positive)
    among = chance.only(answered.together, bad)
    if (len(set(among)) if among is not None else int(bad.sum())) < conformal.needed(level, confidence):
        return None
    return conformal.bound_fnr(answered.probs, answered.truth, positive, level, confidence, answered.together)


def _missed(answered: Answered, threshold: float, spec: Spec) -> tuple[Bools, Groups | None]:
    """Which of the positive images lie below a threshold, (P,), and what goes together among them."""
    bad = np.isin(answered.truth, spec.positive_index)
    return decision.scores(answered.probs, spec)[bad] < threshold, chance.only(answered.together, bad)


def _rate(name: str, hits: Bools, groups: Groups | None) -> dict[str, Any]:
    return {name: float(hits.mean()) if len(hits) else None, f"{name}_interval": chance.rate_interval(hits, groups)}


def warnings(table: Mapping[str, Any], level: float) -> list[str]:
    """Write a sentence for each group that misses more than the bound allows."""
    sentences = []
    for column, rows in table.items():
        for name, row in rows.items():
            if row.get("breaks_bound", "no") == "no":
                continue
            low, high = row["fnr_interval"]
            sure = "more than chance explains" if row["breaks_bound"] == "yes" else "which chance alone could explain"
            sure += f" (p = {row['p']:.2g} among all groups)"
            remedy = f"; alone it would have the threshold {row['threshold']:.4f}" if row["threshold"] is not None else ""
            sentences.append(
                f"Subgroup {column} = {name} breaks the bound: {row['fnr']:.1%} of its {row['positives']} positive test images "
                f"are missed, over {level:.1%} ({low:.1%} to {high:.1%} by the interval of 95 %), {sure}{remedy}."
            )
    return sentences


def _only(answered: Answered, of: Mapping[str, str], name: str) -> Answered:
    return _rows(answered, [row for row, sample in enumerate(answered.samples) if of[sample.path] == name])


def _rows(answered: Answered, rows: Sequence[int]) -> Answered:
    return Answered([answered.samples[row] for row in rows], answered.probs[rows], answered.truth[rows])

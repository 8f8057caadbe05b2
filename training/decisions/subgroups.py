"""Metrics group by group, because a mean over all images hides groups that fare worse.

Groups come from a CSV beside the data set: a column `path`, as in the manifest, and a column for each way to group images.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from handlers import decision
from handlers.arrays import Floats, Ints
from handlers.spec import Spec
from training.data.manifest import Sample
from training.decisions import calibration, conformal
from training.errors import DataError

PATH, UNSTATED = "path", "not stated"
KEY = "decision.subgroups.metadata"  # which errors name
MOST_GROUPS, NAMED = 50, 5


@dataclass(frozen=True)
class Answered:
    """The answers to a split. samples: N; probs: (N, K), calibrated; truth: (N,), classes."""

    samples: Sequence[Sample]
    probs: Floats
    truth: Ints


def wilson(count: int, n: int) -> tuple[float, float] | None:
    """Compute the interval of 95 % for a share of `count` of n (Wilson 1927); None where n is 0."""
    if n == 0:
        return None
    interval = binomtest(count, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


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
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"{KEY} {path} cannot be read as CSV: {err}") from err
    wanted = list(columns) or [name for name in header if name != PATH]
    if missing := [name for name in (PATH, *wanted) if name not in header]:
        raise DataError(f"{KEY} {path} has no column {missing}; it has {header}, and needs {PATH!r} and those to group by")
    by_path = {row[PATH]: row for row in rows}
    if len(by_path) < len(rows):
        raise DataError(f"{KEY} {path} names a path twice; give each image one row")
    if lost := [sample.path for sample in samples if sample.path not in by_path]:
        raise DataError(
            f"{KEY} {path} has no row for {len(lost)} images, such as {', '.join(lost[:NAMED])}; add them, with empty "
            "cells where a group is not known"
        )
    groups = {
        name: {sample.path: (by_path[sample.path][name] or "").strip() or UNSTATED for sample in samples} for name in wanted
    }
    for name, found in groups.items():
        if (distinct := len(set(found.values()))) > MOST_GROUPS:
            raise DataError(f"column {name!r} of {path} has {distinct} values, over {MOST_GROUPS}; put them into classes first")
    return groups


def by_group(groups: Mapping[str, Mapping[str, str]], test: Answered, calibrating: Answered, spec: Spec) -> dict[str, Any]:
    """Compute `figures` of every group, by column and group, as metrics.json holds them."""
    table: dict[str, Any] = {}
    for column, of in groups.items():
        names = sorted({of[sample.path] for sample in test.samples})
        table[column] = {name: figures(_only(test, of, name), _only(calibrating, of, name), spec) for name in names}
    return table


def figures(test: Answered, calibrating: Answered, spec: Spec) -> dict[str, Any]:
    """Compute a group's accuracy and missed share by the threshold alone, with 95 % intervals, its ECE and its share of reviews.

    `threshold`: the one that a bound on this group alone would have, of its calibration images, where they are enough.
    `breaks_bound`: whether more are missed than the bound allows, "perhaps" where chance alone could explain it.
    """
    rule, positive, n = spec.decision, spec.positive_index, len(test.truth)
    score = decision.scores(test.probs, spec)
    right = int((test.probs.argmax(axis=1) == test.truth).sum())
    reviewed = decision.decide(score, spec).count("review")
    row: dict[str, Any] = {
        "images": n,
        "accuracy": right / n,
        "accuracy_interval": wilson(right, n),
        "ece": calibration.ece(test.probs, test.truth),
        "review_share": reviewed / n,
        "review_share_interval": wilson(reviewed, n),
    }
    if not positive:
        return row
    bad = np.isin(test.truth, positive)
    missed, count = int((score[bad] < rule.threshold).sum()), int(bad.sum())
    row |= {"positives": count, "fnr": missed / count if count else None, "fnr_interval": wilson(missed, count)}
    if bound := rule.fnr_bound:
        own = decision.scores(calibrating.probs, spec)[np.isin(calibrating.truth, positive)]
        enough = len(own) >= conformal.needed(bound.level)
        row["threshold"] = conformal.fnr_threshold(own, bound.level) if enough else None
        row["breaks_bound"] = _breaks(row["fnr"], row["fnr_interval"], bound.level)
    return row


def warnings(table: Mapping[str, Any], level: float) -> list[str]:
    """Write a sentence for each group that misses more than the bound allows."""
    sentences = []
    for column, rows in table.items():
        for name, row in rows.items():
            if row.get("breaks_bound", "no") == "no":
                continue
            low, high = row["fnr_interval"]
            sure = "more than chance explains" if row["breaks_bound"] == "yes" else "which chance alone could explain"
            remedy = f"; alone it would have the threshold {row['threshold']:.4f}" if row["threshold"] is not None else ""
            sentences.append(
                f"Subgroup {column} = {name} breaks the bound: {row['fnr']:.1%} of its {row['positives']} positive test images "
                f"are missed, over {level:.1%} ({low:.1%} to {high:.1%} by the interval of 95 %), {sure}{remedy}."
            )
    return sentences


def _breaks(fnr: float | None, interval: tuple[float, float] | None, level: float) -> str:
    if fnr is None or interval is None or fnr <= level:
        return "no"
    return "yes" if interval[0] > level else "perhaps"


def _only(answered: Answered, of: Mapping[str, str], name: str) -> Answered:
    rows = [row for row, sample in enumerate(answered.samples) if of[sample.path] == name]
    return Answered([answered.samples[row] for row in rows], answered.probs[rows], answered.truth[rows])

"""Which images train, validate, calibrate and test: stratified, deterministic, and no group in two splits."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from archives.names import composed
from training.config import SplitConfig
from training.data.layout import some
from training.data.missing import check_labels
from training.data.tree import SPLITS, Found, Split, Tree
from training.errors import DataError

NAMED = 5
"""How many offenders an error names."""
OFF = 0.05
"""By how much a split may miss its share where images come in groups, as a share of all images that are split."""


def find_groups(images: Sequence[Found], pattern: str | None) -> dict[str, str | None]:
    """Find each image's group, the text that the pattern's first group matches in its path; None for all without a pattern.
    Both are compared in Unicode's composed form, which groups are named in.

    Raises DataError when the pattern is none, has no group, or leaves an image without one.
    """
    if pattern is None:
        return dict.fromkeys(image.path for image in images)
    try:
        expression = re.compile(composed(pattern))
    except re.error as err:
        raise DataError(f"data.group_pattern {pattern!r} is not a regular expression: {err}") from err
    if expression.groups < 1:
        raise DataError(
            f"data.group_pattern {pattern!r} has no group; put parentheses around what names a group, as in '(.*)-[0-9]+'"
        )
    matches = {image.path: expression.search(composed(image.path)) for image in images}
    groups = {path: match and match[1] for path, match in matches.items()}
    if lost := [path for path, group in groups.items() if not group]:
        raise DataError(f"data.group_pattern {pattern!r} finds no group in {some(lost, NAMED)}; widen it or move the files away")
    return groups


def assign(tree: Tree, groups: Mapping[str, str | None], shares: SplitConfig, seed: int) -> dict[str, Split]:
    """Assign each image to a split. Splits that the tree gives stay; the others are cut out of its training images.

    Groups (an image without one is a group of its own) are put into strata by the labels they hold, ordered within a
    stratum by SHA-256 of seed and name, and laid end to end; where a group's middle falls between the cumulated shares
    decides. So images without groups meet the share of each label to within one image, whatever the order of the files.

    Groups of several labels may make a stratum of nearly each group. What a split got too few or too many of is carried over to
    the next stratum, so that all strata lie on one line and the shares are met for any mix of labels.

    A label that then is in no group of a split, although it has a group for each, gets one from the split that has most of it.

    Raises DataError when a group lies in two given splits, a label is not in every split, or groups are so large that a split
    misses its share by more than OFF.
    """
    splits: dict[str, Split] = {image.path: image.split for image in tree.images if image.split not in (None, "train")}
    share: dict[Split, float] = {"test": shares.test, "calibration": shares.calibration, "val": shares.val}
    share |= {"sealed": shares.sealed} if shares.sealed else {}
    share = {split: part for split, part in share.items() if split not in tree.splits}
    pool = [image for image in tree.images if image.path not in splits]
    owed = dict.fromkeys(share, 0.0)  # images
    strata = _strata(pool, groups, seed)
    for stratum in strata:
        total = sum(len(members) for members in stratum)
        bounds = list(zip(share, accumulate(share[split] + owed[split] / total for split in share), strict=True))
        before = 0
        for members in stratum:
            middle = (before + len(members) / 2) / total
            split: Split = next((name for name, bound in bounds if middle < bound), "train")
            splits.update((path, split) for path in members)
            before += len(members)
            if split in owed and groups[members[0]] is not None:
                owed[split] -= len(members)
        if groups[stratum[0][0]] is not None:
            owed = {split: images + share[split] * total for split, images in owed.items()}
    cut = [split for split in SPLITS if split == "train" or split in share]
    _complete(splits, [members for stratum in strata for members in stratum], {image.path: image.label for image in pool}, cut)
    _check_groups(splits, groups)
    if any(groups.values()):
        _check_shares(Counter(splits[image.path] for image in pool), share)
    check_labels(tree, splits, groups)
    return splits


def _complete(splits: dict[str, Split], groups: Sequence[Sequence[str]], labels: Mapping[str, str], cut: Sequence[Split]) -> None:
    """Move groups so that each label which has a group for every split that was cut is in all of them.

    The group comes from the split that holds most groups of the label, the first by its hash, and leaves each of its labels
    behind in its split. Only labels that would be refused without a move are concerned. Nothing is asked of "sealed".
    """
    of_label = defaultdict[str, list[Sequence[str]]](list)
    for group in groups:
        for label in {labels[path] for path in group}:
            of_label[label].append(group)

    def held(label: str, split: Split) -> int:
        return sum(splits[group[0]] == split for group in of_label[label])

    def can_move(group: Sequence[str]) -> bool:
        split = splits[group[0]]
        return split == "sealed" or all(held(label, split) > 1 for label in {labels[path] for path in group})

    for label in sorted(of_label):
        if len(of_label[label]) < len(cut):
            continue
        for split in cut:
            if not held(label, split) and (spare := [group for group in of_label[label] if can_move(group)]):
                moved = max(spare, key=lambda group: held(label, splits[group[0]]))
                splits.update((path, split) for path in moved)


def _strata(pool: Sequence[Found], groups: Mapping[str, str | None], seed: int) -> list[list[list[str]]]:
    """Strata of groups of paths: every group with the same set of labels in one stratum, ordered by its hash."""
    members, labels = defaultdict[tuple[bool, str], list[str]](list), defaultdict[tuple[bool, str], set[str]](set)
    for image in pool:
        group = groups[image.path]
        key = (group is None, image.path if group is None else group)
        members[key].append(image.path)
        labels[key].add(image.label)
    strata = defaultdict[tuple[str, ...], list[tuple[bool, str]]](list)
    for key, held in labels.items():
        strata[tuple(sorted(held))].append(key)
    return [
        [members[key] for key in sorted(keys, key=lambda key: (_hash(seed, key[1]), key))] for _, keys in sorted(strata.items())
    ]


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


def stratified(images: Sequence[tuple[str, str]], fraction: float, seed: int) -> list[str]:
    """Choose a fraction of the images of every label, at least one of each. images: (path, label) each; returns paths.

    The order is that of SHA-256 of seed and path, so a larger fraction holds what a smaller one does.
    """
    paths = defaultdict[str, list[str]](list)
    for path, label in images:
        paths[label].append(path)
    return [
        path
        for of_label in paths.values()
        for path in sorted(of_label, key=lambda path: (_hash(seed, path), path))[: max(1, round(fraction * len(of_label)))]
    ]


def evenly_spaced(total: int, count: int) -> list[int]:
    """Choose at most `count` of `total` rows, evenly spaced from the first to the last, ascending."""
    return sorted({round(row) for row in np.linspace(0, total - 1, min(count, total)).tolist()})


def _check_groups(splits: Mapping[str, Split], groups: Mapping[str, str | None]) -> None:
    seen = defaultdict[str, set[str]](set)
    for path, split in splits.items():
        if group := groups[path]:
            seen[group].add(split)
    if torn := [f"{group!r} ({', '.join(sorted(found))})" for group, found in sorted(seen.items()) if len(found) > 1]:
        raise DataError(f"the given splits tear groups apart: {some(torn, NAMED)}; move each group into one split")


def _check_shares(counts: Mapping[Split, int], share: Mapping[Split, float]) -> None:
    total = sum(counts.values())
    for split, wanted in {**share, "train": 1 - sum(share.values())}.items():
        if abs((got := counts.get(split, 0) / total) - wanted) > OFF + 1e-9:
            raise DataError(
                f"the {split} split got {got:.1%} of the images in the place of {wanted:.1%}, because whole groups go into one "
                "split and some are too large; use a finer data.group_pattern, add groups, or change data.splits"
            )

"""Labels that are not in every split: why, and what can be done about each."""

import re
from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher

from handlers.errors import counted
from training.data.tree import SPLITS, Split, Tree
from training.errors import DataError

ALIKE = 0.8
"""How alike two labels are, in difflib's ratio, of which one may be a slip of the other."""


def check_labels(tree: Tree, splits: Mapping[str, Split], groups: Mapping[str, str | None]) -> None:
    """Raise DataError for the first label that is not in every split, with advice for each of the causes."""
    counts = Counter((image.label, splits[image.path]) for image in tree.images)
    for label in tree.labels:
        empty = [split for split in SPLITS if not counts[label, split]]
        if empty:
            held = ", ".join(f"{split} {counts[label, split]}" for split in SPLITS)
            advice = [_advise_given(tree, counts, label, split) for split in empty if split in tree.splits]
            if not ("train" in empty and "train" in tree.splits) and (cut := [one for one in empty if one not in tree.splits]):
                advice.append(_advise_cut(tree, groups, label, cut))
            raise DataError(f"label {label!r} is not in every split: none in {', '.join(empty)} ({held}). {'. '.join(advice)}")


def _advise_given(tree: Tree, counts: Mapping[tuple[str, Split], int], label: str, split: Split) -> str:
    """Advise on a split whose folder holds no image of the label."""
    folder = next((image.path.split("/")[0] for image in tree.images if image.split == split), split)
    # The other half of a label that is spelt in two ways is in this split, and not where the label is.
    others = [
        other
        for other in tree.labels
        if counts[other, split] and not any(counts[other, one] and counts[label, one] for one in SPLITS)
    ]
    if other := next((other for other in others if other.casefold() == label.casefold()), None):
        return f"{folder}/ holds {other!r}, which differs from {label!r} by case alone: rename one of them"
    if other := next((other for other in others if _is_alike(label, other)), None):
        return f"{folder}/ holds {other!r}, which may be {label!r} in another spelling: rename one of them if it is"
    return f"{folder}/ holds no image of {label!r}: fill {folder}/{label}/, move {folder}/ away, or leave it out by data.classes"


def _advise_cut(tree: Tree, groups: Mapping[str, str | None], label: str, empty: list[Split]) -> str:
    """Advise on splits that were cut out of the training images, or of all of them."""
    pool = [image.path for image in tree.images if image.label == label and image.split in (None, "train")]
    of_label = {groups[path] or path for path in pool}
    needed = [split for split in SPLITS if split == "train" or split not in tree.splits]
    missing = len(needed) - len(of_label)
    if all(groups[path] is None for path in pool):
        return (
            f"It has too few images to cut {', '.join(empty)} from: {', '.join(needed)} need one each, and there are "
            f"{len(pool)}; add {missing} or more, or leave the label out by data.classes"
        )
    if missing > 0:
        return (
            f"Its {counted(len(pool), 'image is', 'images are')} of too few groups, {len(of_label)}, and {', '.join(needed)} "
            f"need one each; add images of {missing} more groups, or use a finer data.group_pattern"
        )
    return (
        f"It has {counted(len(of_label), 'group')}, but too few images of it alone, and groups stay whole; use a finer "
        "data.group_pattern, another data.seed, or other data.splits"
    )


def _is_alike(one: str, other: str) -> bool:
    one, other = (re.sub(r"[\W_]+", "", name.casefold()) for name in (one, other))
    return one == other or SequenceMatcher(None, one, other).ratio() >= ALIKE

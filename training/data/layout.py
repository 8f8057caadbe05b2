"""Which folders of a tree are labels and which are splits, by their names and by what the others hold."""

import logging
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.config import Layout
from training.errors import DataError

logger = logging.getLogger(__name__)

Split = Literal["train", "val", "calibration", "test", "sealed"]
SPLITS: tuple[Split, ...] = ("train", "val", "calibration", "test")
"""The splits that every data set has; "sealed" is one that some have."""
SPLIT_FOLDERS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    "calibration": "calibration",
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    "sealed": "sealed",
}
"""Splits by the names of their folders in lower case. Which names are one is as in Hugging Face's datasets
(https://huggingface.co/docs/hub/datasets-file-names-and-splits), so "dev" validates and "eval" tests."""
NAMED = 4
"""How many labels of a folder, and how many folders of those without a split's name, an error names."""


@dataclass(frozen=True)
class Top:
    """A folder at the top of a tree. `labels`: the folders in it, and how many images lie below each; `loose`: how many images
    lie in it directly."""

    labels: Mapping[str, int]
    loose: int

    @property
    def images(self) -> int:
        return self.loose + sum(self.labels.values())

    @property
    def labelled(self) -> bool:
        """Whether images lie in folders of it."""
        return any(self.labels.values())

    def __str__(self) -> str:
        held = [label for label, images in self.labels.items() if images]
        loose = [f"{self.loose} images"] if self.loose or not held else []
        return " and ".join([_some(held)] * bool(held) + loose)


def find_splits(root: Path, tops: Mapping[str, Top], layout: Layout) -> dict[str, Split]:
    """Find the top folders that are splits; none where the top folders are labels. Images of other top folders are left out.

    "auto" takes them for splits where all of them are named so and the training split holds folders of labels. Where some are
    named so and others are not, they are labels, unless several names speak of splits, or the same folders lie below a split's
    and another. Then nobody can tell, and DataError shows both readings.

    A split without folders of labels, as competitions publish their tests, is left out with a warning.
    """
    if layout == "labels":
        return {}
    named = {top: SPLIT_FOLDERS[top.casefold()] for top in tops if top.casefold() in SPLIT_FOLDERS}
    if layout == "auto" and not _are_splits(root, tops, named):
        return {}
    return _labelled(root, tops, named)


def read_layout(images: list[tuple[str, str]]) -> Layout:
    """Tell the layout of a tree from paths and labels of its images."""
    return "labels" if all(composed(path.split("/", 1)[0]) == composed(label) for path, label in images) else "splits"


def composed(label: str) -> str:
    """Return a name in Unicode's composed form, NFC: macOS and some archivers write an accent as a character of its own."""
    return unicodedata.normalize("NFC", label)


def _are_splits(root: Path, tops: Mapping[str, Top], named: Mapping[str, Split]) -> bool:
    full = [top for top in tops if tops[top].images]
    odd = [top for top in full if top not in named]
    hints = {hint for top in full if (hint := _hint(top))}
    several = "train" in hints and len(hints) > 1
    if odd:
        shared = {label for top in named for label, images in tops[top].labels.items() if images} & {
            label for top in odd for label, images in tops[top].labels.items() if images
        }
        # Without a training split there is nothing to learn from: "valid" beside "invalid" is a label.
        if several or (shared and ("train" in named.values() or len(named) > 1)):
            raise DataError(_ask(root, tops, named, odd))
        return False
    if not named or (len(named) < len(tops) and not several):
        return False  # folders without images lie beside one that may be a label: that they are empty is said of labels
    if not any(tops[top].labelled for top in named):
        raise DataError(
            f"{root} holds {_show(tops)}, but no folder of a label in any of them; put the images into train/LABEL/..., "
            "or say data.layout: labels in the config if these names are what the pictures show"
        )
    return True


def _hint(top: str) -> Split | None:
    """The split that a name speaks of, as in "training_set" and "test1"."""
    words = re.findall("[a-z]+", top.casefold())
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), None)


def _ask(root: Path, tops: Mapping[str, Top], named: Mapping[str, Split], odd: list[str]) -> str:
    if "train" in named.values():
        them = "it" if len(odd) == 1 else "them"
        way = f"move {_some(odd)} away, or say data.layout: splits in the config, which leaves {them} out"
    else:
        way = "rename them train, val, calibration and test, with the folders of labels directly below"
    return (
        f"{root} holds {_show(tops)}: these can be splits or labels. If they are splits, {way}. "
        "If each of these folders is a label, say data.layout: labels in the config"
    )


def _labelled(root: Path, tops: Mapping[str, Top], named: Mapping[str, Split]) -> dict[str, Split]:
    """The splits whose images have labels."""
    if len(set(named.values())) < len(named):
        raise DataError(f"{root} names a split twice: {', '.join(sorted(named))}; merge the folders")
    train = next((top for top, split in named.items() if split == "train"), None)
    if train is None:
        seen = ", ".join(sorted(named)) or _show(tops)
        raise DataError(f"{root} holds {seen} but no train; add train/LABEL/..., or say data.layout: labels in the config")
    if not tops[train].labelled:
        raise DataError(f"{root} holds {_show(tops)}: {train} has no folders of labels; put its images into {train}/LABEL/...")
    splits = {}
    for top, split in named.items():
        elsewhere = {label.casefold() for other in named if other != top for label in tops[other].labels}
        # One folder that is no label is how loaders which want folders are fed: test/unknown/*.jpg.
        alone = len(tops[top].labels) < 2 and elsewhere.isdisjoint(label.casefold() for label in tops[top].labels)
        if alone and top != train:
            logger.warning(
                "%s is left out: it holds %s and no folder of a label; the %s split is cut out of %s",
                root / top, tops[top], split, train,
            )  # fmt: skip
        else:
            splits[top] = split
    for top in sorted(tops.keys() - named.keys()):
        logger.warning("%s is left out: it holds %s and is not named as a split is", root / top, tops[top])
    return splits


def _show(tops: Mapping[str, Top]) -> str:
    """What the folders hold, those that speak of splits first."""
    ordered = sorted(tops.items(), key=lambda item: (_hint(item[0]) is None, item[0]))
    hints = sum(_hint(top) is not None for top in tops)
    return _some([f"{name} ({top})" for name, top in ordered], hints + NAMED) or "no folder"


def _some(names: list[str], shown: int = NAMED) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")

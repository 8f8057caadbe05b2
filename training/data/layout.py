"""Which folders of a tree are labels and which are splits, by their names and by what the others hold."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from archives.names import composed
from handlers.errors import counted
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
AS_LABELS, AS_SPLITS = (f"say data.layout: {way} in the config (--set data.layout={way})" for way in ("labels", "splits"))
"""What decides where nobody can tell."""
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
        loose = [counted(self.loose, "image")] if self.loose or not held else []
        return " and ".join([some(held)] * bool(held) + loose)


def find_splits(root: Path, tops: Mapping[str, Top], layout: Layout, table: str = "") -> dict[str, Split]:
    """Find the top folders that are splits; none where the top folders are labels. Images of other top folders are left out.

    "auto" takes them for splits where all of them are named so and the training split holds folders of labels. Where some are
    named so and others are not, they are labels, unless several names speak of splits, the same folders lie below a split's and
    another, or `train` holds nothing but folders. Then nobody can tell, and DataError shows both readings, as it does where the
    splits lie below the labels, a folder mirrors the labels as `masks` would, or several folders hold the same ones.

    `table`: a sentence on a table that may hold the labels, for the errors of pictures that lie in no label's folder.

    A split without folders of labels, as competitions publish their tests, is left out with a warning.
    """
    if layout == "labels":
        return {}
    named = {top: SPLIT_FOLDERS[top.casefold()] for top in tops if top.casefold() in SPLIT_FOLDERS}
    if layout == "auto":
        _check_order(root, tops)
        if not _are_splits(root, tops, named, table):
            _check_alike(root, tops)
            return {}
    return _labelled(root, tops, named, table)


def read_layout(images: list[tuple[str, str]]) -> Layout:
    """Tell the layout of a tree from paths and labels of its images."""
    return "labels" if all(composed(path.split("/", 1)[0]) == composed(label) for path, label in images) else "splits"


def _are_splits(root: Path, tops: Mapping[str, Top], named: Mapping[str, Split], table: str) -> bool:
    full = [top for top in tops if tops[top].images]
    odd = [top for top in full if top not in named]
    hints = {hint for top in full if (hint := _hint(top))}
    several = "train" in hints and len(hints) > 1
    if odd:
        shared = {label for top in named for label, images in tops[top].labels.items() if images} & {
            label for top in odd for label, images in tops[top].labels.items() if images
        }
        # Without a training split there is nothing to learn from: "valid" beside "invalid" is a label.
        train = next((tops[top] for top, split in named.items() if split == "train"), None)
        foldered = train is not None and not train.loose and sum(map(bool, train.labels.values())) > 1
        if several or foldered or (shared and (train is not None or len(named) > 1)):
            raise DataError(_ask(root, tops, named, odd))
        return False
    if not named or (len(named) < len(tops) and not several):
        return False  # folders without images lie beside one that may be a label: that they are empty is said of labels
    if not any(tops[top].labelled for top in named):
        raise DataError(
            f"{root} holds {_show(tops)}, but no folder of a label in any of them; put the images into train/LABEL/..., "
            f"or {AS_LABELS} if these names are what the pictures show{table}"
        )
    return True


def _check_order(root: Path, tops: Mapping[str, Top]) -> None:
    """Refuse LABEL/SPLIT/..., whose test images would be learnt from, and masks under a name that is not read as theirs."""
    below = [{label for label, images in top.labels.items() if images} for top in tops.values() if top.images]
    splits = {SPLIT_FOLDERS.get(name.casefold()) for names in below for name in names}
    if (
        len(below) > 1
        and None not in splits
        and "train" in splits
        and len(splits) > 1
        and not any(top.loose for top in tops.values())
    ):
        raise DataError(
            f"{root} holds {_show(tops)}: splits below labels, and they are read the other way round; move the images to "
            f"train/LABEL/..., val/LABEL/... and test/LABEL/..., or {AS_LABELS} to cut the splits anew"
        )
    for name, top in tops.items():
        if name.casefold() in ("mask", "masks") and not top.loose and (mirrored := sorted(top.labels.keys() & tops.keys())):
            raise DataError(
                f"{root / name} holds folders named as labels, {some(mirrored)}: masks lie in a folder named masks, all small; "
                f"rename it, or {AS_LABELS} if it is a label"
            )


def _check_alike(root: Path, tops: Mapping[str, Top]) -> None:
    """Refuse folders most of whose sub-folders have the same names, as sites or folds do that each have all labels, or most.

    Two or more of them hold two or more sub-folders, and of all names of sub-folders, more than half are in several of them.
    Where those below are numbered, and those at the top are not, they are parts of each label, such as years.
    """
    full = {name: top for name, top in sorted(tops.items()) if top.images}
    below = {name: sorted(label for label, images in top.labels.items() if images) for name, top in full.items()}
    if any(top.loose for top in full.values()) or sum(len(labels) > 1 for labels in below.values()) < 2:
        return
    holders = {label: [name for name in full if label in below[name]] for label in sorted({*chain(*below.values())})}
    shared = [label for label, names in holders.items() if len(names) > 1]
    if 2 * len(shared) <= len(holders) or (_are_numbered(holders) and not _are_numbered(full)):
        return
    alike = all(len(names) == len(full) for names in holders.values())
    seen = f"each of them holds {some(shared)}" if alike else f"several of them hold {some(shared)}"
    one, other = shared[:2]
    raise DataError(
        f"{root} holds {some(list(full))}, and {seen}: nobody can tell which are the "
        f"labels. If those at the top are, {AS_LABELS}. If those below are, put them at the top, such as "
        f"{one}/{holders[one][0]}/... and {other}/{holders[other][0]}/..., and say data.layout: labels, too"
    )


def _are_numbered(names: Iterable[str]) -> bool:
    """Whether names differ by a number alone, as site0 and site1 do, or 2023 and 2024."""
    names = list(names)
    return all(re.search("[0-9]", name) for name in names) and len({re.sub("[0-9]+", "", name) for name in names}) == 1


def _hint(top: str) -> Split | None:
    """The split that a name speaks of, as in "training_set", "trainset" and "test1"."""
    words = [re.sub("(set|data|images|imgs|split)$", "", word) for word in re.findall("[a-z]+", top.casefold())]
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), None)


def _ask(root: Path, tops: Mapping[str, Top], named: Mapping[str, Split], odd: list[str]) -> str:
    if "train" in named.values():
        them = "it" if len(odd) == 1 else "them"
        way = f"move {some(odd)} away, or {AS_SPLITS}, which leaves {them} out"
    else:
        way = "rename them train, val, calibration and test, with the folders of labels directly below"
    return (
        f"{root} holds {_show(tops)}: these can be splits or labels. If they are splits, {way}. "
        f"If each of these folders is a label, {AS_LABELS}"
    )


def _labelled(root: Path, tops: Mapping[str, Top], named: Mapping[str, Split], table: str) -> dict[str, Split]:
    """The splits whose images have labels."""
    if len(set(named.values())) < len(named):
        raise DataError(f"{root} names a split twice: {', '.join(sorted(named))}; merge the folders")
    train = next((top for top, split in named.items() if split == "train"), None)
    if train is None:
        seen = ", ".join(sorted(named)) or _show(tops)
        raise DataError(f"{root} holds {seen} but no train; add train/LABEL/..., or {AS_LABELS}")
    if not tops[train].labelled:
        raise DataError(
            f"{root} holds {_show(tops)}: {train} has no folders of labels; put its images into {train}/LABEL/...{table}"
        )
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
    return some([f"{name} ({top})" for name, top in ordered], hints + NAMED) or "no folder"


def some(names: Sequence[str], shown: int = NAMED) -> str:
    """Name the first of several, and say how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")

"""The ImageFolder tree: which files of a folder are images, of which label, in which given split, with which mask.

Read are ROOT/LABEL/... and ROOT/SPLIT/LABEL/..., images at any depth below their label, and ROOT/masks, which mirrors
them: the mask of a/b.jpg is masks/a/b.png. `layout` says which of the two a tree is, `walk` which files there are. Labels are
in Unicode's composed form (NFC), however a file system spells them, so that one spelt in two ways is one label.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

from archives.names import composed
from handlers.errors import counted
from training.config import Layout
from training.data.layout import SPLITS, Split, Top, find_splits
from training.data.walk import count_suffixes, walk, warn_of
from training.errors import DataError

__all__ = ["SPLITS", "SUFFIXES", "Found", "Split", "Tree", "is_table", "say_table", "scan", "select"]

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".hif"})
TABLES = frozenset({".csv", ".tsv", ".parquet", ".xlsx", ".xls", ".ods"})
TEXTS = TABLES | {".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".pdf", ".db", ".ini", ".zip"}
"""Suffixes of tables, and of all that is no picture of another format."""
MASKS = "masks"
VERSION = "version.json"
RECORDS = (VERSION, "manifest.json", "reviews.jsonl")
"""The file that says that a folder was made by `visor data from-reviews` (`training.data.derived`), and those beside it."""
LABEL_LENGTH = 200


@dataclass(frozen=True)
class Found:
    """One image of the tree. `path` and `mask` are POSIX paths relative to the root; `split` is None if the tree has none."""

    path: str
    label: str
    split: Split | None
    mask: str | None


@dataclass(frozen=True)
class Tree:
    """What a folder holds: its images sorted by path, its labels sorted (also those of empty folders) and its given splits.

    `others` are the files that are not images.
    """

    images: tuple[Found, ...]
    labels: tuple[str, ...]
    splits: tuple[Split, ...]
    others: tuple[str, ...] = ()


def scan(root: Path, layout: Layout = "auto") -> Tree:
    """List the images below a folder, and warn of what is left out.

    Raises DataError for folders that may be splits or labels (`layout`), masks that belong to no image, links that lead nowhere
    or to folders, unreadable folders and names not in UTF-8.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give one that holds a folder of images for each label")
    walked = walk(root, linked_folders=False)
    records = RECORDS if VERSION in walked.files else ()
    files = [path for path in walked.files if not _is_mask(path) and path not in records]
    pictures = [path for path in files if _is_image(path)]
    others = sorted(set(files) - set(pictures))
    splits = find_splits(root, _tops(walked.folders, pictures), layout, say_table(root, others))
    depth = 2 if splits else 1
    placed = [path for path in pictures if path.count("/") >= depth and (not splits or path.split("/")[0] in splits)]
    masks = {composed(_stem(path)): path for path in walked.files if _is_mask(path) and _is_image(path)}
    images = tuple(
        Found(
            path,
            composed(path.split("/")[depth - 1]),
            splits.get(path.split("/")[0]),
            masks.get(composed(f"{MASKS}/{_stem(path)}")),
        )
        for path in placed
    )
    _check_masks(root, set(masks.values()), images, depth)
    _warn_of_others(others, pictures, placed, splits)
    return Tree(
        images,
        _labels(walked.folders, splits, depth),
        tuple(split for split in get_args(Split) if split in splits.values()),
        tuple(others),
    )


def select(tree: Tree, labels: Collection[str] | None, largest: int | None) -> Tree:
    """Reduce the tree to these labels, or to the `largest` ones (of equal ones, the first by name).

    Raises DataError for a label that is not there, or when there are fewer.
    """
    counts = Counter(image.label for image in tree.images)
    if unknown := sorted(set(labels or ()) - set(tree.labels)):
        raise DataError(f"data.classes names {', '.join(map(repr, unknown))}, but the labels are {', '.join(tree.labels)}")
    if largest is not None:
        if largest > len(tree.labels):
            raise DataError(f"data.top_classes is {largest}, but there are {len(tree.labels)} labels")
        labels = sorted(tree.labels, key=lambda label: (-counts[label], label))[:largest]
    if labels is None:
        return tree
    images = tuple(image for image in tree.images if image.label in labels)
    return Tree(images, tuple(sorted(labels)), tree.splits, tree.others)


def _tops(folders: Iterable[str], pictures: Iterable[str]) -> dict[str, Top]:
    """Describe the folders at the top, by name; `masks` is none of them."""
    labels, loose = defaultdict[str, Counter[str]](Counter), Counter[str]()
    for folder in folders:
        top, *below = folder.split("/")
        if top and top != MASKS:
            labels[top].update({composed(below[0]): 0} if below else {})
    for path in pictures:
        top, *below = path.split("/")
        if len(below) == 1:
            loose[top] += 1
        elif below:
            labels[top][composed(below[0])] += 1
    return {top: Top(dict(sorted(labels[top].items())), loose[top]) for top in sorted(labels)}


def _labels(folders: Iterable[str], splits: Mapping[str, Split], depth: int) -> tuple[str, ...]:
    parts = [folder.split("/") for folder in folders if folder]
    names = {name[-1] for name in parts if len(name) == depth and (name[0] in splits if splits else name[0] != MASKS)}
    labels = sorted({composed(name) for name in names})
    if long := [label for label in labels if len(label) > LABEL_LENGTH]:
        raise DataError(f"label {long[0][:40]!r}... has {len(long[0])} characters, more than {LABEL_LENGTH}; rename its folder")
    if len(names) > len(labels):
        twice = sorted(label for label, count in Counter(map(composed, names)).items() if count > 1)
        logger.warning("folders that differ only in how Unicode spells an accent are one label: %s", ", ".join(map(repr, twice)))
    folded = Counter(label.casefold() for label in labels)
    if alike := [label for label in labels if folded[label.casefold()] > 1]:
        logger.warning("labels that differ only by case are labels of their own: %s", ", ".join(map(repr, alike)))
    return tuple(labels)


def _check_masks(root: Path, masks: Collection[str], images: Collection[Found], depth: int) -> None:
    """Warn of masks without an image; where none lies below a label's name, `masks` may be a label itself, and is refused."""
    lost = set(masks) - {image.mask for image in images}
    labels = {_head(image.path, depth) for image in images}
    if masks and not any(_head(mask.removeprefix(f"{MASKS}/"), depth) in labels for mask in masks):
        raise DataError(
            f"{root / MASKS} holds {counted(len(lost), 'mask')} of no image, such as {min(lost)!r}. At the top of a data set "
            f"{MASKS} is kept for masks, which mirror the images: that of oak/a.jpg is {MASKS}/oak/a.png. If it is a label, "
            "rename the folder; if these are masks, name them as their images"
        )
    warn_of("mask belongs to no image", "masks belong to no image", lost)


def _head(path: str, depth: int) -> str:
    return composed("/".join(path.split("/")[:depth]))


def _warn_of_others(
    others: Collection[str], pictures: Collection[str], placed: Collection[str], splits: Mapping[str, Split]
) -> None:
    if others:
        advice = f"; images end in {', '.join(sorted(SUFFIXES))}, so save others as one of these"
        logger.warning(
            "%s: %s%s",
            counted(len(others), "file is not an image and is left out", "files are not images and are left out"),
            count_suffixes(others), "" if all(_suffix(path) in TEXTS for path in others) else advice,
        )  # fmt: skip
    # Those of a top folder that is left out as a whole were counted with it.
    loose = {path for path in pictures if not splits or "/" not in path or path.split("/")[0] in splits} - set(placed)
    put = f"in no label's folder and {{}} left out; put each into {'SPLIT/' if splits else ''}LABEL/"
    warn_of(f"image lies {put.format('is')}", f"images lie {put.format('are')}", loose)


def _is_mask(path: str) -> bool:
    return path.startswith(f"{MASKS}/")


def _is_image(path: str) -> bool:
    return _suffix(path) in SUFFIXES


def is_table(path: str) -> bool:
    """Whether a file is a table by its suffix."""
    return _suffix(path) in TABLES


def say_table(root: Path, others: Iterable[str]) -> str:
    """Name the table that may hold the labels, where there is one, and how folders are made of it.

    One whose name speaks of training or labels comes before such as a competition's sample_submission.csv.
    """
    tables = [path for path in others if is_table(path)]
    if not tables:
        return ""
    table = min(tables, key=lambda path: (re.search("train|label", Path(path).stem.lower()) is None, path.count("/"), path))
    return f". {root / table} may say the labels: docs/data.md, A table of labels, makes folders of it by a short script"


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix()

"""The ImageFolder tree: which files of a folder are images, of which label, in which given split, with which mask.

Read are ROOT/LABEL/... and ROOT/SPLIT/LABEL/..., images at any depth below their label, and ROOT/masks, which mirrors
them: the mask of a/b.jpg is masks/a/b.png. Hidden files are left out, other files are counted in a warning.
"""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from training.errors import DataError

logger = logging.getLogger(__name__)

Split = Literal["train", "val", "calibration", "test", "sealed"]
SPLITS: tuple[Split, ...] = ("train", "val", "calibration", "test")
"""The splits that every data set has; "sealed" is one that some have."""
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "validation": "val",
    "calibration": "calibration",
    "test": "test",
    "sealed": "sealed",
}
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".hif"})
MASKS = "masks"
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
    """What a folder holds: its images sorted by path, its labels sorted (also those of empty folders) and its given splits."""

    images: tuple[Found, ...]
    labels: tuple[str, ...]
    splits: tuple[Split, ...]


def scan(root: Path) -> Tree:
    """List the images below a folder. Raises DataError for links that lead out, unreadable folders and names not in UTF-8."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give one that holds a folder of images for each label")
    tops = sorted(entry for entry in _list(root, root) if (root / entry).is_dir() and entry != MASKS)
    splits = _split_folders(root, tops)
    files = sorted(_walk(root, root))
    masks = {_stem(path): path for path in files if path.startswith(f"{MASKS}/") and _is_image(path)}
    depth = 2 if splits else 1
    images, others, used = [], [], set[str]()
    for path in files:
        parts = path.split("/")
        if parts[0] == MASKS and (len(parts) > 1):
            continue
        if len(parts) <= depth or not _is_image(path):
            others.append(path)
            continue
        mask = masks.get(f"{MASKS}/{_stem(path)}")
        used.add(mask or "")
        images.append(Found(path, parts[depth - 1], splits.get(parts[0]), mask))
    _warn("files that are not images below a label are left out", others)
    _warn("masks belong to no image", [mask for mask in masks.values() if mask not in used])
    labels = {entry for top in splits or [""] for entry in _folders(root, root / top) if top or entry != MASKS}
    if long := [label for label in sorted(labels) if len(label) > LABEL_LENGTH]:
        raise DataError(f"label {long[0][:40]!r}... has {len(long[0])} characters, more than {LABEL_LENGTH}; rename its folder")
    return Tree(tuple(images), tuple(sorted(labels)), tuple(split for split in get_args(Split) if split in splits.values()))


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
    return Tree(images, tuple(sorted(labels)), tree.splits)


def _split_folders(root: Path, tops: list[str]) -> dict[str, Split]:
    """Top folders that are splits; none when some are not, since "train" is also what a picture may show."""
    named = {top: SPLIT_FOLDERS[top.lower()] for top in tops if top.lower() in SPLIT_FOLDERS}
    if not named or len(named) < len(tops):
        return {}
    if "train" not in named.values():
        raise DataError(f"{root} holds {', '.join(sorted(named))} but no train; add train/LABEL/... or one folder for each label")
    if len(set(named.values())) < len(named):
        raise DataError(f"{root} names a split twice: {', '.join(sorted(named))}; merge the folders")
    return named


def _walk(root: Path, folder: Path) -> Iterator[str]:
    for name in _list(root, folder):
        path = folder / name
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{path} is a link out of the data set, to {path.resolve()}; put the file itself there")
        if path.is_dir():
            if path.is_symlink():
                raise DataError(f"{path} is a link to a folder; its images would count twice, so put the folder itself there")
            yield from _walk(root, path)
        else:
            yield path.relative_to(root).as_posix()


def _list(root: Path, folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as err:
        raise DataError(f"{folder} cannot be listed: {err.strerror}") from err
    shown = [name for name in names if not name.startswith(".")]
    for name in shown:
        try:
            name.encode()
        except UnicodeEncodeError as err:
            where = folder.relative_to(root).as_posix()
            raise DataError(f"the name {os.fsencode(name)!r} in {where} is not UTF-8; rename the file") from err
    return shown


def _folders(root: Path, folder: Path) -> list[str]:
    return [name for name in _list(root, folder) if (folder / name).is_dir()]


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix()


def _warn(what: str, paths: list[str]) -> None:
    if paths:
        logger.warning("%d %s, such as %r", len(paths), what, paths[0])

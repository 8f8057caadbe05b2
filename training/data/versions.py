"""What changed in a data set between two of its versions, image by image."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from archives.names import composed
from training import runs
from training.config import Layout
from training.data import dvc
from training.data.layout import read_layout
from training.data.manifest import Manifest, hash_file, once
from training.data.tree import SPLITS, scan
from training.errors import DataError
from training.progress import show_progress

KINDS = ("added", "removed", "changed", "moved", "relabelled", "resplit", "remasked")


@dataclass(frozen=True)
class Entry:
    """One image of a version. `split` is None where the version, a folder of labels alone, does not say."""

    path: str
    sha256: str
    label: str
    split: str | None
    mask_sha256: str | None


@dataclass(frozen=True)
class Change:
    """What happened to one image, in the order of KINDS. `old` is None for one that was added, `new` for one removed."""

    kinds: tuple[str, ...]
    old: Entry | None
    new: Entry | None


def read_versions(old: Path, new: Path) -> tuple[list[Entry], list[Entry]]:
    """Read two versions; the manifest of one says whether folders of the other are labels or splits. Raises DataError."""
    if _is_folder(old) and not _is_folder(new):
        new_entries = read_version(new)
        return read_version(old, _layout(new_entries), new_entries), new_entries
    entries = read_version(old)
    return entries, read_version(new, "auto" if _is_folder(old) else _layout(entries), entries)


def read_version(place: Path, layout: Layout = "auto", other: Sequence[Entry] = ()) -> list[Entry]:
    """Read a version's images, by path, from a manifest, a run's folder or a folder of images. Raises DataError.

    Of a folder's image with several names, those that the `other` version has are read, too.
    """
    if _is_folder(place):
        return _read_folder(place, layout, {composed(entry.path) for entry in other})
    samples = Manifest.read(place / runs.MANIFEST if place.is_dir() else place).samples
    return [Entry(one.path, one.sha256, composed(one.label), one.split, one.mask_sha256) for one in samples]


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not (place / runs.MANIFEST).is_file()


def _layout(entries: Sequence[Entry]) -> Layout:
    return read_layout([(entry.path, entry.label) for entry in entries])


def _read_folder(root: Path, layout: Layout, listed: Collection[str]) -> list[Entry]:
    dvc.check_pulled(root)
    tree = once(root, scan(root, layout), listed)
    if not tree.images:
        raise DataError(f"{root} holds neither a {runs.MANIFEST} nor images below folders of labels")
    # Given splits are only what a training starts from: it cuts those that are missing out of `train`.
    splits = {image.path: image.split if set(tree.splits) >= set(SPLITS) else None for image in tree.images}
    return [
        Entry(
            image.path,
            hash_file(root, image.path)[1],
            image.label,
            splits[image.path],
            hash_file(root, image.mask)[1] if image.mask else None,
        )
        for image in show_progress(tree.images, len(tree.images), "hashing images")
    ]


def compare(old: Sequence[Entry], new: Sequence[Entry]) -> list[Change]:
    """List the changes from one version to another, by path. An image is recognised by its path, else by its digest.

    Of several images with one digest, those of the same label and split are taken for each other first, then those of the
    same label, and then the others, in the order of their paths.
    """
    olds, news = {entry.path: entry for entry in old}, {entry.path: entry for entry in new}
    pairs: list[tuple[Entry | None, Entry | None]] = [(olds[path], news[path]) for path in olds.keys() & news.keys()]
    gone = {path: entry for path, entry in sorted(olds.items()) if path not in news}
    come = {path: entry for path, entry in sorted(news.items()) if path not in olds}
    keys: tuple[Callable[[Entry], tuple[str | None, ...]], ...] = (
        lambda entry: (entry.sha256, entry.label, entry.split),
        lambda entry: (entry.sha256, entry.label),
        lambda entry: (entry.sha256,),
    )
    for key in keys:
        waiting = defaultdict[tuple[str | None, ...], list[Entry]](list)
        for entry in gone.values():
            waiting[key(entry)].append(entry)
        for entry in list(come.values()):
            if same := waiting[key(entry)]:
                before = same.pop(0)
                pairs.append((gone.pop(before.path), come.pop(entry.path)))
    pairs += chain(((entry, None) for entry in gone.values()), ((None, entry) for entry in come.values()))
    changes = [Change(kinds, before, after) for before, after in pairs if (kinds := _kinds(before, after))]
    return sorted(changes, key=lambda change: ((change.new or change.old or _NONE).path, change.kinds))


_NONE = Entry("", "", "", None, None)


def _kinds(old: Entry | None, new: Entry | None) -> tuple[str, ...]:
    if old is None or new is None:
        return ("added",) if old is None else ("removed",)
    happened = {
        "changed": old.sha256 != new.sha256,
        # A label is a part of the path, so that an image of another label has always moved: only a new name is said.
        "moved": old.path != new.path and (old.label == new.label or _name(old) != _name(new)),
        "relabelled": old.label != new.label,
        "resplit": None not in (old.split, new.split) and old.split != new.split,
        "remasked": old.mask_sha256 != new.mask_sha256,
    }
    return tuple(kind for kind in KINDS if happened.get(kind))


def _name(entry: Entry) -> str:
    return PurePosixPath(entry.path).name

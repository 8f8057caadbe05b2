"""The manifest lists every image's path, size, SHA-256, label, split and group, and has one digest over them all."""

import hashlib
import json
import logging
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError

from archives.files import replacing
from archives.names import composed, pair
from handlers.errors import counted, unread
from handlers.spec import Frozen
from training.config import DataConfig
from training.data.layout import AS_SPLITS, SPLIT_FOLDERS, read_layout
from training.data.splits import assign, find_groups
from training.data.tree import SPLITS, Split, Tree, say_table, scan, select
from training.data.walk import count_suffixes, warn_of
from training.errors import DataChanged, DataError
from training.progress import show_progress

__all__ = ["SPLITS", "Manifest", "Sample", "Split", "build", "verify"]

logger = logging.getLogger(__name__)

NAMED = 20
"""How many changed files an error names."""


@dataclass(frozen=True)
class Sample:
    """One image of a manifest. `path` and `mask` are POSIX paths relative to the data set's root; `size` is in bytes."""

    path: str
    size: int
    sha256: str
    label: str
    split: Split
    group: str | None = None
    mask: str | None = None
    mask_sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The images of a data set, sorted by path. `labels` are sorted too, and a label's index is its class.

    `chosen` says that the folder holds further labels, whose images the manifest leaves out.
    """

    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    chosen: bool = False

    def samples_of(self, split: Split) -> Sequence[Sample]:
        """Return the samples of one split, in path order."""
        return [sample for sample in self.samples if sample.split == split]

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits: all of SPLITS, and "sealed" where there is one."""
        return (*SPLITS, "sealed") if self.samples_of("sealed") else SPLITS

    @property
    def digest(self) -> str:
        """SHA-256 over one line for each image, sorted: the JSON array of path, size, sha256, label, split, group and the
        mask's path and SHA-256, in ASCII and without spaces, ended by a newline. Neither the order of files nor the place of
        the data set enters; a byte, a name, a label or a split does."""
        lines = sorted(json.dumps(list(asdict(sample).values()), separators=(",", ":")) for sample in self.samples)
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest as JSON, whole or not at all."""
        content = {"format": 1, "digest": self.digest, **asdict(self)}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote. Raises DataError for another form, and when the digest is not that of the content."""
        try:
            data = path.read_bytes()
        except OSError as err:
            raise DataError(f"{path} {unread(err)}; `visor data manifest CONFIG` writes a manifest") from err
        if not data:
            raise DataError(
                f"{path} is empty, as where a copy was cut short; bring it back from where it was written, as a new one would "
                "say what the images are now, and not what they were"
            )
        try:
            content = _File.model_validate_json(data, strict=True)
        except ValidationError as err:
            first = err.errors()[0]
            if not first["loc"]:
                config = str(path) if path.suffix in {".yaml", ".yml"} else "CONFIG"
                raise DataError(
                    f"{path} is not a manifest, a file of JSON; `visor data manifest {shlex.quote(config)}` writes one"
                ) from err
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{path} is not a manifest: {where}: {first['msg']}") from err
        manifest = cls(content.labels, tuple(Sample(**sample.model_dump()) for sample in content.samples), content.chosen)
        if manifest.digest != content.digest:
            raise DataError(f"{path} says digest {content.digest} but holds {manifest.digest}; build the manifest again")
        paths = [sample.path for sample in manifest.samples]
        if paths != sorted(set(paths)) or list(manifest.labels) != sorted({sample.label for sample in manifest.samples}):
            raise DataError(f"{path} does not hold each path once and its labels, sorted; build the manifest again")
        return manifest


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _stay_inside(path: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} does not lie below the data set's root")
    return path


RelativePath = Annotated[str, AfterValidator(_stay_inside)]


class _FileSample(Frozen):
    path: RelativePath
    size: int = Field(ge=0)
    sha256: Sha256
    label: str
    split: Split
    group: str | None
    mask: RelativePath | None
    mask_sha256: Sha256 | None


class _File(Frozen):
    """The form of manifest.json."""

    format: Literal[1]
    digest: Sha256
    labels: tuple[str, ...]
    samples: tuple[_FileSample, ...]
    chosen: bool = False


def build(
    root: Path,
    config: DataConfig,
    pattern: str | None = None,
    left_out: Collection[str] = (),
    found: Tree | None = None,
) -> Manifest:
    """Read a data set's tree, hash its files and split it.

    `pattern` groups images where `data.group_pattern` is not given; labels in `left_out` are taken only where `data.classes`
    names them. Both are what `training.data.sources` knows about a particular data set. `found`: the tree, where it was scanned
    already, of which the scan has said what it left out.

    Raises DataError when there are fewer than two labels, one that data.classes names and the tree has not, a label without
    images or with too few of them to be in every split, a file that cannot be read, or a group pattern that does not fit.
    """
    found = scan(root, config.layout) if found is None else found
    tree, groups, splits = plan(root, config, pattern, left_out, found)
    logger.info("hashing %s of %s", counted(len(tree.images), "image"), root)
    samples = []
    for image in show_progress(tree.images, len(tree.images), "hashing images"):
        size, digest = hash_file(root, image.path)
        mask_digest = hash_file(root, image.mask)[1] if image.mask else None
        group = groups[image.path]
        samples.append(Sample(image.path, size, digest, image.label, splits[image.path], group, image.mask, mask_digest))
    _warn_of_twins(samples)
    return Manifest(tree.labels, tuple(samples), tree.labels != found.labels)


def plan(
    root: Path, config: DataConfig, pattern: str | None, left_out: Collection[str], found: Tree
) -> tuple[Tree, dict[str, str | None], dict[str, Split]]:
    """Choose the images, and find group and split of each by its path; no file is read. Arguments and errors: as of `build`."""
    second = "a second name of an image of its label, and is left out", "second names of images of their labels, and are left out"
    named_once = once(root, found)
    left = {image.path for image in found.images} - {image.path for image in named_once.images}
    warn_of(f"link is {second[0]}", f"links are {second[1]}", left)
    tree = choose(named_once, config, left_out)
    _check_tree(root, tree)
    groups = find_groups(tree.images, pattern if config.group_pattern is None else config.group_pattern)
    return tree, groups, assign(tree, groups, config.splits, config.seed)


def choose(tree: Tree, config: DataConfig, left_out: Collection[str] = ()) -> Tree:
    """Reduce the tree to the labels that the config takes; `left_out` is as in `build`. Raises DataError."""
    if config.classes is None:
        tree = select(tree, set(tree.labels) - set(left_out), None)
    return select(tree, config.classes, config.top_classes)


def once(root: Path, tree: Tree, listed: Collection[str] = ()) -> Tree:
    """Reduce an image of several names to one of them, and to those that are `listed`, composed.

    A second name is a link below the root to an image of the same label and split there, or to one that another such link leads
    to. Links out of the root are none: DVC's cache has one file for all images of the same bytes, and a data set is the same
    with its images as links into it.
    """
    top = Path(os.path.realpath(root))
    names = defaultdict[tuple[Path, str, Split | None], list[tuple[bool, str]]](list)
    for image in tree.images:
        is_link = (root / image.path).is_symlink()
        real = Path(os.path.realpath(root / image.path)) if is_link else top / image.path
        if real.is_relative_to(top):
            names[real, image.label, image.split].append((is_link, image.path))
    second = {path for held in names.values() for _, path in sorted(held)[1:] if composed(path) not in listed}
    return replace(tree, images=tuple(image for image in tree.images if image.path not in second))


def verify(root: Path, manifest: Manifest) -> None:
    """Compare a data set's files with the manifest. Names that differ only in how Unicode spells an accent are one.

    Raises DataChanged naming what changed, is missing or came on top.
    """
    layout = read_layout([(sample.path, sample.label) for sample in manifest.samples])
    labels = {composed(label) for label in manifest.labels}
    listed = {composed(sample.path) for sample in manifest.samples}  # manifests before 0.3 list an image under all of its names
    found = once(root, scan(root, layout), listed).images
    images = [image for image in found if not manifest.chosen or image.label in labels]
    present = {name for image in images for name in (image.path, image.mask) if name}
    expected = {sample.path: sample.sha256 for sample in manifest.samples}
    expected |= {sample.mask: sample.mask_sha256 for sample in manifest.samples if sample.mask and sample.mask_sha256}
    both = pair(expected, present)
    differences = [f"missing {name}" for name in expected.keys() - both.keys()]
    differences += [f"extra {name}" for name in present - set(both.values())]
    differences += [
        f"changed {name}"
        for name in show_progress(sorted(both), len(both), "verifying files")
        if hash_file(root, both[name])[1] != expected[name]
    ]
    if differences:
        counts = Counter(difference.partition(" ")[0] for difference in differences)
        total = ", ".join(f"{counts[kind]} {kind}" for kind in ("changed", "missing", "extra"))
        shown = sorted(differences)[:NAMED]
        more = f"; and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
        raise DataChanged(
            f"{root} differs from the manifest in {counted(len(differences), 'file')} ({total}): {'; '.join(shown)}{more}"
        )


def _check_tree(root: Path, tree: Tree) -> None:
    if len(tree.labels) < 2:
        seen = f"one label, {tree.labels[0]!r}" if tree.labels else "no label"
        raise DataError(
            f"{root} holds {seen}; give it a folder of images for each of two labels or more{_say_deeper(root, tree)}"
            f"{say_table(root, tree.others)}"
        )
    counts = Counter(image.label for image in tree.images)
    if empty := [label for label in tree.labels if not counts[label]]:
        named = [f"{label!r}{_say_others(tree, label)}" for label in empty]
        splits = [] if tree.splits else [label for label in tree.labels if SPLIT_FOLDERS.get(label.casefold()) == "train"]
        way = f"; if {splits[0]} is a split and no label, {AS_SPLITS}, which leaves other folders out" if splits else ""
        raise DataError(f"{root} holds no image of label {', '.join(named)}; fill the folder or remove it{way}")


def _say_deeper(root: Path, tree: Tree) -> str:
    """The folder below the root that may be meant, where an archive was unpacked into a folder of its own."""
    tops = {path.split("/")[0] for path in (image.path for image in tree.images)}
    below = sorted({image.path.split("/")[1] for image in tree.images if image.path.count("/") > 1})
    if len(tops) > 1 or len(below) < 2:
        return ""
    return f" (or data.path {root / tops.pop()}, which holds {', '.join(below[:NAMED])})"


def _say_others(tree: Tree, label: str) -> str:
    """What a label's folder holds in the place of images, in brackets."""
    others = [path for path in tree.others if label in map(composed, path.split("/")[:-1])]
    return f" (but {count_suffixes(others)}, which are not read)" if others else ""


def hash_file(root: Path, name: str) -> tuple[int, str]:
    """Return a file's size in bytes and its SHA-256. Raises DataError."""
    try:
        with (root / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest
    except OSError as err:
        raise DataError(f"{root / name} cannot be read: {err.strerror}") from err


def _warn_of_twins(samples: Iterable[Sample]) -> None:
    """The same bytes in two splits make a test easier than the world is."""
    seen = defaultdict[str, list[Sample]](list)
    for sample in samples:
        seen[sample.sha256].append(sample)
    torn = [twins for twins in seen.values() if len({twin.split for twin in twins}) > 1]
    if torn:
        one, other = torn[0][:2]
        logger.warning(
            "%s in several splits under other names, such as %r and %r",
            counted(len(torn), "image lies", "images lie"),
            one.path,
            other.path,
        )

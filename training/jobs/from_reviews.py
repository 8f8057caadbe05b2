"""A data set and an export of reviews → the data set's next version: `visor data from-reviews`."""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from archives.files import atomic_folder
from archives.lineage import Reviews
from handlers.arrays import UInt64
from handlers.decode import opened, view
from handlers.errors import ImageError, counted
from handlers.spec import DECODING, DecodingRule, Limits
from training import config as configs
from training import runs
from training.config import DataConfig
from training.data import derived, sources
from training.data.duplicates import VIEW, VIEWS, WORDS, hash_images, hash_pixels
from training.data.eda import data_of
from training.data.layout import read_layout, some
from training.data.manifest import Manifest, Sample, Split
from training.data.placing import Placed, place
from training.data.reviews import REASONS, REVIEWS, Export, Reviewed, settle
from training.errors import ConfigError, DataChanged, DataError, FolderError
from training.progress import show_progress

logger = logging.getLogger(__name__)

NAMED = 5
"""How many pictures a warning names."""
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "HEIF": ".heic"}
"""How files are named by their format, as an export names them by their digest alone."""


@dataclass(frozen=True)
class Parent:
    """The data set that reviews are added to, and how its training decodes and compares pictures."""

    root: Path
    manifest: Manifest
    data: DataConfig
    limits: Limits = field(default_factory=Limits)
    decoding: DecodingRule = DECODING


@dataclass(frozen=True)
class Added:
    """What came of it. `reviews`: as the lineage has it, None where no picture was left to be added and nothing was written."""

    manifest: Manifest
    left_out: Mapping[str, int]
    reviews: Reviews | None


@dataclass(frozen=True)
class _New:
    """A picture to be added. hashes: (8, 4), of its views."""

    picture: Reviewed
    content: bytes
    suffix: str
    hashes: UInt64


def read_parent(source: Path, overrides: Sequence[str], home: Path, images: Path | None = None) -> Parent:
    """Read a data set by a config, a folder of images, a run, or a manifest, whose folder of `images` is named beside it.

    A run's images and splits are taken as it was trained on them. Raises ConfigError, DataError, RunError.
    """
    run = source.parent if source.name == runs.MANIFEST else source
    if images is None and (run / runs.RECORD).is_file():
        _refuse_overrides(run, overrides)
        config, record = runs.read_config(run), runs.read_record(run)
        listed, rule = Manifest.read(run / runs.MANIFEST), config.preprocessing.decoding
        return Parent(record.dataset_root, listed, config.data, config.limits, rule)
    if source.suffix == ".json":
        if images is None:
            raise DataError(f"{source} does not say where its images are; name their folder by --images")
        _refuse_overrides(source, overrides)
        return Parent(images, Manifest.read(source), DataConfig(source="imagefolder", path=images))
    if not source.exists():
        raise DataError(
            f"{source} is not there; name a training config, a folder of labelled images, a run's folder, which `visor train` "
            "prints, or a manifest.json with --images"
        )
    if source.is_dir():
        data = data_of(source, overrides)
        root = sources.prepare(data, home)
        return Parent(root, sources.build_manifest(root, data), data)
    config = configs.load(source, overrides)
    root = sources.prepare(config.data, home)
    return Parent(root, sources.build_manifest(root, config.data), config.data, config.limits, config.preprocessing.decoding)


def _refuse_overrides(source: Path, overrides: Sequence[str]) -> None:
    if overrides:
        raise ConfigError(f"{source} says all of its data set already; leave --set out")


def from_reviews(export_folder: Path, parent: Parent, out: Path, home: Path) -> Added:
    """Write the parent's images, where they were, and those that reviews have labelled, into the new folder `out`.

    Nothing is written where there is nothing to add. Raises ReviewsInvalid, DataChanged, DataUnreadable (an image of the parent),
    FolderError (`out` is there).
    """
    if out.exists():
        raise FolderError(f"{out} is there, and a version is never changed; name a new folder")
    export = Export.read(export_folder)
    settled, left_out = settle(export.reviews, parent.manifest.labels)
    fresh = _without_known(settled, parent.manifest, left_out)
    new = _decode(fresh, export, parent, left_out)
    samples = parent.manifest.samples
    known = hash_images(parent.root, samples, parent.limits, home / "cache", parent.decoding)
    hashes = np.array([one.hashes for one in new], np.uint64).reshape(-1, VIEWS, WORDS)
    placed = place(samples, known, [one.picture for one in new], hashes, parent.data.near_duplicate_bits)
    left_out.update(placed.left_out.values())
    _say(placed, left_out)
    taken = [one for one in new if one.picture.digest in placed.splits]
    if not taken:
        return Added(parent.manifest, left_out, None)
    made = _describe(export, parent, taken, placed, left_out)
    return Added(_write(out, parent, taken, placed, made), left_out, made)


def _without_known(settled: Iterable[Reviewed], manifest: Manifest, left_out: Counter[str]) -> list[Reviewed]:
    """The pictures that the parent has not. It keeps its own label of the others, of which those are named that differ."""
    known = {sample.sha256: sample for sample in manifest.samples}
    fresh, other = [], []
    for picture in settled:
        sample = known.get(picture.digest)
        if sample is None:
            fresh.append(picture)
            continue
        left_out["in_parent"] += 1
        if sample.label != picture.label:
            other.append(f"{sample.path} ({picture.label})")
    if other:
        logger.warning(
            "%s the data set has already under another label than reviewers gave, and stays there: %s",
            counted(len(other), "picture is one that", "pictures are some that"),
            some(other, NAMED),
        )
    return fresh


def _decode(pictures: Sequence[Reviewed], export: Export, parent: Parent, left_out: Counter[str]) -> list[_New]:
    """Read and hash the pictures, as the parent's training decodes; what has no file or cannot be decoded is left out."""
    rule = VIEW.model_copy(update={"decoding": parent.decoding})
    new = []
    for picture in show_progress(pictures, len(pictures), "reading reviewed pictures"):
        content = export.picture(picture.digest)
        if content is None:
            left_out["missing"] += 1
            continue
        try:
            hashes = hash_pixels(view(content, rule, parent.limits).pixels)
        except ImageError as err:
            left_out["unreadable"] += 1
            logger.warning("the picture %s cannot be decoded and is left out: %s", picture.digest[:12], err)
            continue
        with opened(content) as image:
            suffix = SUFFIXES[image.format or ""]
        new.append(_New(picture, content, suffix, hashes))
    return new


def _say(placed: Placed, left_out: Mapping[str, int]) -> None:
    """Warn of pictures that look like others, by name, and count those that were left out for other reasons."""
    if placed.alike:
        named = [f"{digest[:12]} as {sample.path} ({sample.split})" for digest, sample in sorted(placed.alike.items())]
        logger.warning(
            "%s nearly the same as one of the data set, which would be a leak, and left out: %s",
            counted(len(named), "reviewed picture is", "reviewed pictures are"),
            some(named, NAMED),
        )
    for reason, number in left_out.items():
        logger.info("left out: %s", counted(number, f"picture {REASONS[reason]}", f"pictures {REASONS[reason]}"))


def _describe(export: Export, parent: Parent, taken: Sequence[_New], placed: Placed, left_out: Mapping[str, int]) -> Reviews:
    given = [review for one in taken for review in one.picture.reviews]
    people = Counter(name for one in taken for name in {review.reviewer for review in one.picture.reviews})
    archives = Counter(digest for one in taken for digest in {review.archive or "unknown" for review in one.picture.reviews})
    return Reviews(
        parent_digest=parent.manifest.digest,
        export_digest=export.digest,
        taken=dict(sorted(Counter(placed.splits[one.picture.digest] for one in taken).items())),
        left_out=dict(sorted(left_out.items())),
        reviewers=dict(sorted(people.items())),
        archives=dict(sorted(archives.items())),
        first=min(review.time for review in given),
        last=max(review.time for review in given),
    )


def _write(out: Path, parent: Parent, taken: Sequence[_New], placed: Placed, made: Reviews) -> Manifest:
    """Write the folder, whole or not at all."""
    samples = list(parent.manifest.samples)
    folders = _Folders(samples)
    with atomic_folder(out) as folder:
        for sample in show_progress(samples, len(samples), "copying images"):
            _copy(parent.root, sample.path, sample.sha256, folder)
            if sample.mask and sample.mask_sha256:
                _copy(parent.root, sample.mask, sample.mask_sha256, folder)
        lines = _read_lines(parent.root)
        for one in taken:
            picture = one.picture
            split = placed.splits[picture.digest]
            below = derived.AUDITS if picture.audit else derived.REVIEWED
            path = f"{folders.of(split, picture.label)}/{below}/{picture.digest}{one.suffix}"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(one.content)
            samples.append(Sample(path, len(one.content), picture.digest, picture.label, split))
            lines += [json.dumps({"path": path, "split": split, **review.model_dump(mode="json")}) for review in picture.reviews]
        manifest = Manifest(parent.manifest.labels, tuple(sorted(samples, key=lambda sample: sample.path)))
        manifest.write(folder / runs.MANIFEST)
        (folder / REVIEWS).write_text("".join(f"{line}\n" for line in lines))
        derived.Version(reviews=(*derived.read_reviews(parent.root), made)).write(folder)
    return manifest


class _Folders:
    """Where new pictures of a split and a label lie, so that the data set is laid out as its first images are."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._by_splits = read_layout([(sample.path, sample.label) for sample in samples]) == "splits"
        self._labels: dict[str, str] = {}
        self._tops: dict[Split, Counter[str]] = defaultdict(Counter)
        for sample in samples:
            parts = sample.path.split("/")
            self._labels.setdefault(sample.label, parts[1 if self._by_splits else 0])
            self._tops[sample.split][parts[0]] += 1

    def of(self, split: Split, label: str) -> str:
        """The folder; of splits that the folders do not name, as they were cut out of `train`, that of `train`."""
        if not self._by_splits:
            return self._labels[label]
        top = self._tops[split].most_common(1)[0][0] if self._tops[split] else split
        return f"{top}/{self._labels[label]}"


def _copy(root: Path, name: str, digest: str, folder: Path) -> None:
    """Copy a file, whose bytes must be those of the manifest. Raises DataChanged."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        content = (root / name).read_bytes()
    except OSError as err:
        raise DataChanged(f"{root / name} cannot be read: {err.strerror}; the version's parent is to be whole") from err
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataChanged(f"{root / name} is not the file of the parent's manifest; `visor data verify` names all that changed")
    target.write_bytes(content)


def _read_lines(root: Path) -> list[str]:
    """The reviews of earlier versions."""
    return (root / REVIEWS).read_text().splitlines() if derived.is_derived(root) and (root / REVIEWS).is_file() else []

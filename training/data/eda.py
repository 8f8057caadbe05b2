"""A data set before anything is trained on it: sizes, brightness, sharpness, what stands out, what is there twice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import laplace
from scipy.stats import median_abs_deviation

from archives.files import is_packed
from handlers.arrays import Floats
from handlers.containers import sift
from handlers.decode import opened
from handlers.errors import ImageError
from handlers.modes import extremes, sample_range
from handlers.spec import Limits, Preprocessing
from training import keys
from training.config import DataConfig, load
from training.config.section import Section
from training.data import manifest, sources
from training.data.duplicates import Near, blank_of, find_near, hash_images, is_leak, policy_of, refuse_leaks
from training.data.manifest import Sample, hash_file
from training.data.pixels import decode_all, say_unreadable
from training.data.tree import SPLITS, scan
from training.errors import ConfigError, DataError, DataLeak, DataUnreadable
from training.progress import show_progress

OUTLIER = 3.5
"""A modified z-score beyond which a value stands out (Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers")."""
VIEW = Preprocessing(height=224, width=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""How images of a folder without a config are looked at."""
TURNED = (5, 6, 7, 8)
ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageFacts:
    """What is measured of one image. Width and height are in pixels, as a viewer turns the picture; `brightness` is its mean luma
    in [0, 1], `sharpness` its `laplacian_variance`. `brightest`, of a grey picture of 16 bits: its brightest sample and the one
    that is read as white."""

    sample: Sample
    width: int
    height: int
    kind: str
    brightness: float
    sharpness: float
    brightest: tuple[int, int] | None = None


@dataclass(frozen=True)
class Outlier:
    """An image that stands out from the others; `score` says by how many robust standard deviations."""

    image: ImageFacts
    score: float


@dataclass(frozen=True)
class Findings:
    """All that the report says. `labels` include those without images; `unreadable` holds images and what is wrong with each.

    `near`: near-duplicates, the nearest first, at most `bits` apart. `blank`: pictures of one colour. `brightness`, `sharpness`:
    outliers, the farthest first. `refusals`: why training would refuse the set, if it would, by `refuse`. `split`: whether the
    splits are those of a training.
    """

    name: str
    root: Path
    labels: tuple[str, ...]
    images: tuple[ImageFacts, ...]
    unreadable: tuple[tuple[str, str], ...]
    near: tuple[Near, ...]
    bits: int
    blank: tuple[Sample, ...]
    brightness: tuple[Outlier, ...]
    sharpness: tuple[Outlier, ...]
    digest: str
    refusals: tuple[str, ...]
    split: bool

    @property
    def leaks(self) -> list[Near]:
        """The near-duplicates that lie in two splits."""
        return [near for near in self.near if self.split and is_leak(near)]

    def counts(self) -> dict[str, Counter[str]]:
        """Count the images by label and split."""
        counted = {label: Counter[str]() for label in self.labels}
        for image in self.images:
            counted[image.sample.label][image.sample.split] += 1
        return counted


def explore(source: Path, overrides: Sequence[str], home: Path) -> Findings:
    """Look at the data set of a config, or at a folder of images with what a config has by default.

    `overrides`: of the config; of a folder those of `data`, such as data.layout=labels.

    Raises ConfigError, DataError where there is nothing to look at; what training alone would refuse is a finding.
    """
    if not source.exists():
        raise DataError(f"{source} is not there; name a config, or a folder that holds a folder of images for each label")
    if is_packed(source):
        raise DataError(
            f"{source} is an archive of files: unpack it, and name the folder of it that holds a folder of images for each label"
        )
    if source.is_dir():
        data, view, limits, name = data_of(source, overrides), VIEW, Limits(), source.resolve().name
    else:
        config = load(source, overrides)
        data, view, limits, name = config.data, config.preprocessing, config.limits, config.name
    root = sources.prepare(data, home)
    listed, refusal, split = _list(root, data)
    images, unreadable = measure(root, listed.samples, view, limits)
    good = [image.sample for image in images]
    hashes = hash_images(root, good, limits, home / "cache", view.decoding)
    near = find_near(good, hashes, data.near_duplicate_bits)
    refusals = refuse(
        refusal,
        say_unreadable(root, [err for _, err in unreadable], limits),
        refuse_leaks([pair for pair in near if split and is_leak(pair)], policy_of(data)),
    )
    return Findings(
        name=name,
        root=root,
        labels=listed.labels,
        images=tuple(images),
        unreadable=tuple((sample.path, str(err)) for sample, err in unreadable),
        near=tuple(near),
        bits=data.near_duplicate_bits,
        blank=tuple(blank_of(good, hashes)),
        brightness=tuple(outliers(images, np.array([image.brightness for image in images]))),
        sharpness=tuple(outliers(images, np.log1p([image.sharpness for image in images]))),
        digest=listed.digest,
        refusals=refusals,
        split=split,
    )


def refuse(listing: str | None, unreadable: str, leaks: str) -> tuple[str, ...]:
    """List why training would refuse a data set, in the order in which it would: with codes, none where it would not.

    `listing`: why its images cannot be listed with their splits; `unreadable`: by `say_unreadable`; `leaks`: by `refuse_leaks`.
    """
    found = [listing] if listing else []
    return (*found, *(str(kind(said)) for kind, said in ((DataUnreadable, unreadable), (DataLeak, leaks)) if said))


class _OfFolder(Section):
    """What of a config there is to say of a folder of images."""

    data: DataConfig
    """Which images are looked at, and how they are split."""


def data_of(folder: Path, overrides: Sequence[str]) -> DataConfig:
    """Make the section `data` for a folder of images, with overrides of its keys. Raises ConfigError."""
    tree: dict[str, Any] = {"data": {"source": "imagefolder", "path": str(folder)}}
    for override in overrides:
        if not override.startswith("data."):
            raise ConfigError(
                f"override {override!r}: a folder without a config has keys of data alone, such as data.layout=labels"
            )
        keys.set_value(tree, override)
        if override.startswith(("data.path=", "data.source=")):
            raise ConfigError(
                f"override {override!r}: the folder that is named, {folder}, is the data set; leave the override out, or name a "
                "config in the folder's place"
            )
    try:
        return _OfFolder.model_validate(tree).data
    except ValidationError as err:
        raise ConfigError(f"{folder}: {keys.sentences(err, _OfFolder)}") from err


def _list(root: Path, data: DataConfig) -> tuple[manifest.Manifest, str | None, bool]:
    """The images with their splits; those that training would refuse all in one, and its sentence."""
    found = scan(root, data.layout)
    try:
        return sources.build_manifest(root, data, found), None, True
    except DataError as err:
        tree = manifest.choose(manifest.once(root, found), data, sources.left_out(data))
        if not tree.images:
            raise
        samples = []
        for image in show_progress(tree.images, len(tree.images), "hashing images"):
            size, digest = hash_file(root, image.path)
            samples.append(Sample(image.path, size, digest, image.label, image.split or "train", None, image.mask))
        split = set(tree.splits) >= set(SPLITS)
        return manifest.Manifest(tree.labels, tuple(samples)), str(err), split


def measure(
    root: Path, samples: Sequence[Sample], view: Preprocessing, limits: Limits
) -> tuple[list[ImageFacts], list[tuple[Sample, ImageError]]]:
    """Measure each image as the network would see it; the second list has those that cannot be decoded."""
    images: list[ImageFacts] = []
    bad: list[tuple[Sample, ImageError]] = []
    for sample, found in zip(samples, decode_all(root, samples, view, limits, "measuring images"), strict=True):
        if isinstance(found, ImageError):
            bad.append((sample, found))
            continue
        luma = np.asarray(Image.fromarray(found.pixels).convert("L"), np.float64)
        width, height, kind, brightest = _header(root / sample.path)
        seen = float(luma.mean()) / 255, laplacian_variance(luma)
        images.append(ImageFacts(sample, width, height, kind, *seen, brightest))
    return images, bad


def _header(path: Path) -> tuple[int, int, str, tuple[int, int] | None]:
    data = path.read_bytes()
    with opened(data) as image:
        try:
            turned = image.getexif().get(ORIENTATION, 1) in TURNED
        except Exception:  # damaged metadata, of which Pillow raises almost anything
            turned = False
        width, height = image.size[::-1] if turned else image.size
        brightest = None
        if image.mode.startswith("I;16"):
            image.load()
            white, white_is_zero = sample_range(image, sift(data).bits)
            low, high = extremes(image)
            brightest = (max(0, white - low) if white_is_zero else high), white
        return width, height, image.format or "?", brightest


def laplacian_variance(luma: Floats) -> float:
    """Measure how sharp a picture is: the variance of its Laplacian over the inner pixels. luma: (H, W), 0 to 255, from 3 x 3.

    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy: a comparative study", section 2 (LAPV): the
    kernel is 0 1 0, 1 -4 1, 0 1 0. Blurred pictures have little of it.
    """
    return float(np.var(laplace(luma)[1:-1, 1:-1]))


def robust_z(values: Floats) -> Floats:
    """Compute modified z-scores, (N,): distances to the median in units of 1.4826 times their median, which is the standard
    deviation where values are normal; in units of 1.2533 times their mean where more than half of the values are equal.

    Iglewicz and Hoaglin 1993, section 3.3; without the mean, one image unlike many equal ones would be infinitely far.
    """
    if not len(values):
        return values
    distance = values - np.median(values)
    spread = median_abs_deviation(values, scale="normal") or 1.2533 * np.mean(np.abs(distance))
    return distance / spread if spread else distance


def outliers(images: Sequence[ImageFacts], values: Floats) -> list[Outlier]:
    """Find the images whose value stands out, the farthest first. values: (N,), one an image."""
    scores = robust_z(values)
    order = np.argsort(-np.abs(scores), kind="stable")
    return [Outlier(images[row], float(scores[row])) for row in order if abs(scores[row]) > OUTLIER]

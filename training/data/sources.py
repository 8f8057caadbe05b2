"""Where data sets come from: built-in sets are written to disk at first use, a folder of images is taken as it is."""

from pathlib import Path

import numpy as np
from PIL import Image

from archives.files import atomic_folder, is_packed
from training.config import DataConfig
from training.data import catalogue, derived, detection, dvc, manifest, published
from training.data.manifest import Manifest
from training.data.roofs import roofs
from training.data.tree import Tree, scan
from training.errors import DataError

DIGITS_LEVELS = 16
"""scikit-learn's digits count dark pixels in cells of 4 x 4: 0 to 16."""


def prepare(config: DataConfig, home: Path) -> Path:
    """Return the root of the config's data set as an ImageFolder tree. A set in another form is written below `home`/data once.

    Raises DataError when an imagefolder's path is not a folder, or a built-in set's place is taken; DataMissing, DownloadFailed,
    DataUnpulled.
    """
    if config.source == "digits":
        return _write_digits(home / "data" / "digits")
    if config.source == "roofs":
        name = f"roofs-v{roofs.FORMAT}-{config.count}-{config.size}px-seed{config.seed}"
        return roofs.generate(home / "data" / name, config.count, config.size, config.seed)
    if config.path is not None:
        dvc.check_pulled(config.path)
    root = _image_folder(config.path) if config.source == "imagefolder" else catalogue.find(config, home)
    if not published.is_published(root):
        return root
    return published.unpack(root, home / "data", catalogue.FASHION if config.source == "fashion-mnist" else ())


def build_manifest(root: Path, config: DataConfig, found: Tree | None = None) -> Manifest:
    """Build the manifest of the config's data set, by what its source is known to hold. `found`, and errors: as of
    `manifest.build`, or of `derived.read_manifest` for a set that brings its manifest."""
    if derived.is_derived(root):
        return derived.read_manifest(root, config)
    pattern = roofs.GROUP_PATTERN if config.source == "roofs" else None
    return manifest.build(root, config, pattern, left_out(config), found)


def check(root: Path, config: DataConfig) -> None:
    """Raise the DataError with which `build_manifest` would refuse the data set for its folders and labels; no file is read
    but the manifest of a set that brings one."""
    if derived.is_derived(root):
        derived.read_manifest(root, config)
        return
    pattern = roofs.GROUP_PATTERN if config.source == "roofs" else None
    manifest.plan(root, config, pattern, left_out(config), scan(root, config.layout))


def left_out(config: DataConfig) -> tuple[str, ...]:
    """Return the labels of the source that are no classes, which are taken only where `data.classes` names them."""
    return (catalogue.BACKGROUND,) if config.source == "caltech101" else ()


def _image_folder(path: Path | None) -> Path:
    if path is None or not path.is_dir():
        packed = ", but an archive of files: unpack it" if path and is_packed(path) else ""
        raise DataError(f"data.path {path} is not a folder{packed}; give one that holds a folder of images for each label")
    catalogue.check_folder(path)
    detection.refuse(path)
    return path


def _write_digits(root: Path) -> Path:
    """scikit-learn's 1,797 handwritten digits as 8 x 8 grey PNG files, white on black, LABEL/INDEX.png."""
    if root.is_dir():
        return root
    from sklearn.datasets import load_digits  # 1 s of import that other sources need not wait for

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 8, 8) * (255 / DIGITS_LEVELS)).astype(np.uint8)
    with atomic_folder(root) as folder:
        for index, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
            place = folder / str(label)
            place.mkdir(exist_ok=True)
            Image.fromarray(picture).save(place / f"{index:04d}.png")
    return root

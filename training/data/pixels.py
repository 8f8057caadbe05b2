"""Every image is decoded once, before training starts: a bad file is named then, and no epoch decodes again."""

import hashlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from archives.files import replacing
from handlers.arrays import UInt8
from handlers.decode import MOST_PIXELS, View, view
from handlers.errors import ImageError, ImageTooLarge, counted
from handlers.spec import Limits, Preprocessing
from training.data.manifest import Manifest, Sample
from training.errors import DataChanged, DataUnreadable
from training.progress import show_progress

logger = logging.getLogger(__name__)

DECODER = "-".join(
    (
        f"pillow-{PIL.__version__}-resizer-{version('cykooz-resizer')}",
        f"heif-{version('pi-heif')}-lcms-{features.version('littlecms2')}",
    )
)
"""What pixels depend on beside `handlers.decode`: a part of the names of what is kept."""
# Pillow decodes outside of Python's lock.
THREADS = 2
WINDOW = 256
"""How many images are in work at a time: enough to keep the threads busy, little enough to hold in memory."""


def cache(root: Path, manifest: Manifest, preprocessing: Preprocessing, limits: Limits, folder: Path) -> UInt8:
    """Keep every image at the network's size in a file in `folder`, and map it: (N, H, W, 3) uint8 in the manifest's order.

    The file's name is a digest of all that decides its content, so a second call only maps it. Raises as `decode_good`.
    """
    path = folder / cache_name(manifest, preprocessing, limits)
    if not path.exists():
        logger.info("decoding %s", counted(len(manifest.samples), "image"))
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(manifest.samples), preprocessing.height, preprocessing.width, 3)
        with replacing(path) as temporary:
            _reserve(temporary, math.prod(shape))
            pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            for row, image in enumerate(decode_good(root, manifest.samples, preprocessing, limits)):
                pixels[row] = image
            pixels.flush()
    mapped: UInt8 = np.load(path, mmap_mode="r")
    return mapped


def cache_name(manifest: Manifest, preprocessing: Preprocessing, limits: Limits) -> str:
    """Name the file that `cache` keeps for these images."""
    return f"pixels-{_key(manifest, preprocessing, limits)}.npy"


def bytes_to_cache(manifest: Manifest, preprocessing: Preprocessing, limits: Limits, folder: Path) -> int:
    """Return how many bytes `cache` would write; 0 where it would only map what is there."""
    there = (folder / cache_name(manifest, preprocessing, limits)).exists()
    return 0 if there else len(manifest.samples) * preprocessing.height * preprocessing.width * 3


def _reserve(path: Path, size: int) -> None:
    """Take the space of a file that is to be mapped: a full disk is an error here, and the process's end (SIGBUS) there."""
    if hasattr(os, "posix_fallocate"):  # which macOS lacks
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@dataclass(frozen=True)
class Pictures:
    """A data set's pictures. `pixels`: what `cache` gave, from which they are taken; without it they are decoded from `root`."""

    root: Path
    manifest: Manifest
    pixels: UInt8 | None = None

    def of(
        self, samples: Sequence[Sample], preprocessing: Preprocessing, limits: Limits, what: str = "decoding images"
    ) -> Iterator[UInt8]:
        """Give the samples' pictures in their order, (H, W, 3) uint8 each. Raises as `decode_good`."""
        if self.pixels is None:
            return decode_good(self.root, samples, preprocessing, limits, what)
        rows = {sample.path: row for row, sample in enumerate(self.manifest.samples)}
        pixels = self.pixels
        return show_progress((pixels[rows[sample.path]] for sample in samples), len(samples), what)


def _key(manifest: Manifest, preprocessing: Preprocessing, limits: Limits) -> str:
    parts = [manifest.digest, preprocessing.model_dump(mode="json"), limits.model_dump(mode="json"), DECODER]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def read_sample(root: Path, sample: Sample) -> bytes:
    """Read an image's file, whose bytes must be those that the manifest's digest names. Raises DataChanged."""
    try:
        data = (root / sample.path).read_bytes()
    except OSError as err:
        raise DataChanged(
            f"{root / sample.path} cannot be read: {err.strerror}; `visor data verify` names all that is missing"
        ) from err
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        raise DataChanged(f"{root / sample.path} is not the file of the manifest; `visor data verify` names all that changed")
    return data


def decode_all(
    root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, limits: Limits, what: str = "decoding images"
) -> Iterator[View | ImageError]:
    """Decode each sample's image, or say what is wrong with it. `what` names the progress bar.

    Raises DataChanged for a file that is missing or unlike its sample.
    """

    def read(sample: Sample) -> View | ImageError:
        data = read_sample(root, sample)
        try:
            return view(data, preprocessing, limits)
        except ImageError as err:
            return err

    # `view` silences Pillow's warnings by changing the process's filters and putting them back, which threads undo for each
    # other; silenced out here as well, every state that they leave is a silent one, and the last to put back is this one.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(THREADS) as pool:
        windows = (samples[start : start + WINDOW] for start in range(0, len(samples), WINDOW))
        yield from show_progress((result for window in windows for result in pool.map(read, window)), len(samples), what)


def decode_good(
    root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, limits: Limits, what: str = "decoding images"
) -> Iterator[UInt8]:
    """Decode images in the samples' order, (H, W, 3) uint8 each. Raises as `view_good`."""
    for seen in view_good(root, samples, preprocessing, limits, what):
        yield seen.pixels


def view_good(
    root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, limits: Limits, what: str = "decoding images"
) -> Iterator[View]:
    """Decode images in the samples' order. A bad one is left out.

    Raises DataUnreadable at the end, naming each bad file with its code; DataChanged as `decode_all`.
    """
    bad: list[tuple[Sample, ImageError]] = []
    for sample, result in zip(samples, decode_all(root, samples, preprocessing, limits, what), strict=True):
        if isinstance(result, ImageError):
            bad.append((sample, result))
        else:
            yield result
    if bad:
        named = "\n".join(f"{sample.path}: {err}" for sample, err in bad)
        raise DataUnreadable(f"{say_unreadable(root, [err for _, err in bad], limits)}:\n{named}")


def say_unreadable(root: Path, bad: Sequence[ImageError], limits: Limits) -> str:
    """Say how many files training cannot decode, and what to do; "" where there is none."""
    if not bad:
        return ""
    sentence = f"{root} holds {counted(len(bad), 'file')} that cannot be decoded; repair or remove them"
    if large := sum(isinstance(err, ImageTooLarge) for err in bad):
        sentence += (
            f"; {counted(large, 'is', 'are')} too large: scale such pictures down, or raise limits.max_pixels in the config "
            f"({limits.max_pixels} here, at most {MOST_PIXELS}) or limits.max_bytes ({limits.max_bytes})"
        )
    return sentence

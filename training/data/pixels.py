"""Every image decoded once, before training starts: a bad file is named then, and no epoch decodes again."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL

from handlers.decode import decode
from handlers.errors import ImageError
from handlers.spec import Limits, Preprocessing
from training.data.manifest import Manifest, Sample
from training.errors import DataChanged, DataUnreadable
from training.progress import track

UInt8 = npt.NDArray[np.uint8]

DECODER = f"pillow-{PIL.__version__}-resizer-{version('cykooz-resizer')}"
"""What pixels depend on beside `handlers.decode`: a part of the names of what is kept."""
# Pillow decodes outside of Python's lock.
THREADS = 2
WINDOW = 256
"""How many images are in work at a time: enough to keep the threads busy, little enough to hold in memory."""


def check_images(root: Path, manifest: Manifest, preprocessing: Preprocessing, limits: Limits) -> None:
    """Decode every image. Raises DataUnreadable naming each bad file with its code, DataChanged for one unlike the manifest."""
    for _ in decode_good(root, manifest.samples, preprocessing, limits):
        pass


def cache(root: Path, manifest: Manifest, preprocessing: Preprocessing, limits: Limits, folder: Path) -> UInt8:
    """Every image at the network's size, (N, H, W, 3) uint8 in the manifest's order, mapped from a file in `folder`.

    The file's name is a digest of all that decides its content, so a second call only maps it. Raises as `check_images`.
    """
    path = folder / f"pixels-{_key(manifest, preprocessing, limits)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        shape = (len(manifest.samples), preprocessing.height, preprocessing.width, 3)
        try:
            pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            for row, image in enumerate(decode_good(root, manifest.samples, preprocessing, limits)):
                pixels[row] = image
            pixels.flush()
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    mapped: UInt8 = np.load(path, mmap_mode="r")
    return mapped


def _key(manifest: Manifest, preprocessing: Preprocessing, limits: Limits) -> str:
    parts = [manifest.digest, preprocessing.model_dump(mode="json"), limits.model_dump(mode="json"), DECODER]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def decode_all(
    root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, limits: Limits, what: str = "decoding images"
) -> Iterator[UInt8 | ImageError]:
    """Each sample's image, (H, W, 3) uint8, or what is wrong with it. Raises DataChanged for one unlike its sample."""

    def read(sample: Sample) -> UInt8 | ImageError:
        try:
            data = (root / sample.path).read_bytes()
        except OSError as err:
            raise DataChanged(f"{root / sample.path} cannot be read: {err.strerror}; build the manifest again") from err
        if hashlib.sha256(data).hexdigest() != sample.sha256:
            raise DataChanged(f"{root / sample.path} is not the file of the manifest; build the manifest again")
        try:
            return decode(data, preprocessing, limits)
        except ImageError as err:
            return err

    # `decode` silences Pillow's warnings by changing the process's filters and putting them back, which threads undo for each
    # other; silenced out here as well, every state that they leave is a silent one, and the last to put back is this one.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(THREADS) as pool:
        windows = (samples[start : start + WINDOW] for start in range(0, len(samples), WINDOW))
        yield from track((result for window in windows for result in pool.map(read, window)), len(samples), what)


def decode_good(
    root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, limits: Limits, what: str = "decoding images"
) -> Iterator[UInt8]:
    """Images in the samples' order; a bad one is left out, and at the end all bad ones are raised together."""
    bad: list[str] = []
    for sample, result in zip(samples, decode_all(root, samples, preprocessing, limits, what), strict=True):
        if isinstance(result, ImageError):
            bad.append(f"{sample.path}: {result}")
        else:
            yield result
    if bad:
        raise DataUnreadable(
            f"{root} holds {len(bad)} files that cannot be trained on; repair or remove them:\n" + "\n".join(bad)
        )

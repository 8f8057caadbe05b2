"""The published sets that a config may name: what each looks like on disk, where it comes from, and how it is fetched.

Trees (Caltech-101, PlantVillage) are read where they lie; IDX and CIFAR-10's binary files are unpacked by `published`.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from archives.files import atomic_folder
from training.config import DataConfig
from training.data import published
from training.errors import DataError, DataMissing, DownloadFailed

logger = logging.getLogger(__name__)

VARIANTS = ("color", "grayscale", "segmented")
BACKGROUND = "BACKGROUND_Google"
"""Caltech-101's clutter, which is no class of its own."""
# Label names as https://github.com/zalandoresearch/fashion-mnist lists them, "/" being no character of a folder's name.
FASHION = ("T-shirt-top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
TIMEOUT_S = 30.0
"""How long a server may say nothing before a download has failed."""


@dataclass(frozen=True)
class Published:
    """A published set of images. `places` are folders below a given one where it may lie, `holds` tells whether a folder is the
    set, and `fetch` downloads the set into a folder."""

    title: str
    origin: str
    layout: str
    places: tuple[str, ...]
    holds: Callable[[Path], bool]
    fetch: Callable[[Path], None] | None = None


def find(config: DataConfig, home: Path) -> Path:
    """Find the folder that holds the config's published set, or download it where `data.download` says so.

    Raises DataMissing with where to get it and the layout that is expected, DownloadFailed.
    """
    entry = ENTRIES[config.source]
    folder = config.path or home / "data" / "published" / config.source
    if config.source == "plantvillage":
        return _find_variant(folder, config.variant, entry)
    if (place := _look(folder, entry)) is not None:
        return place
    if is_pickled(folder):
        raise DataError(_refusal(folder))
    if config.download and entry.fetch:
        _download(entry, entry.fetch, folder)
        if (place := _look(folder, entry)) is not None:
            return place
    raise _missing(folder, entry)


def check_folder(folder: Path) -> None:
    """Refuse an imagefolder that would be read as something else than it is. Raises DataError."""
    if is_pickled(folder):
        raise DataError(_refusal(folder))
    if len(tops := [variant for variant in VARIANTS if _is_plants(folder / variant)]) > 1:
        raise DataError(
            f"{folder} holds the same leaves as {' and '.join(tops)}, which would become labels; "
            f"say data.source: plantvillage, or give one of them, such as {folder / tops[0]}"
        )


def is_pickled(folder: Path) -> bool:
    """Tell whether a folder holds CIFAR-10's Python version."""
    return any((folder / place / "data_batch_1").is_file() for place in ("", "cifar-10-batches-py"))


def _refusal(folder: Path) -> str:
    return (
        f"{folder} holds CIFAR-10's Python version, which is pickled: reading it could run any code that it holds; "
        f"get the binary version, {CIFAR_URL} (data.download: true brings it, into another folder)"
    )


def _look(folder: Path, entry: Published) -> Path | None:
    return next((place for below in entry.places if (place := folder / below).is_dir() and entry.holds(place)), None)


def _missing(folder: Path, entry: Published) -> DataMissing:
    seen = "holds no" if folder.is_dir() else "does not exist, and so is no"
    further = ", or set data.download: true" if entry.fetch else ""
    return DataMissing(
        f"{folder} {seen} {entry.title}. Get it from {entry.origin}{further}. Expected in data.path: {entry.layout}"
    )


def _find_variant(folder: Path, variant: str | None, entry: Published) -> Path:
    """PlantVillage holds every leaf three times, so exactly one of the siblings is read."""
    if _is_plants(folder):
        if variant and folder.name in VARIANTS and folder.name != variant:
            raise DataError(f"data.path {folder} is the variant {folder.name}, but data.variant says {variant}")
        return folder
    for place in (folder / (variant or "color"), folder / "raw" / (variant or "color")):
        if place.is_dir() and _is_plants(place):
            return place
    raise _missing(folder, entry)


def _is_plants(folder: Path) -> bool:
    return folder.is_dir() and any("___" in path.name and path.is_dir() for path in folder.iterdir())


def _is_caltech(folder: Path) -> bool:
    return any(folder.glob("*/image_0001.jpg"))


def _download(entry: Published, fetch: Callable[[Path], None], folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise DataMissing(f"{folder} is not empty, and holds no {entry.title}; name an empty data.path to download it into")
    logger.info("downloading %s to %s", entry.title, folder)
    with _told(entry), atomic_folder(folder) as target:
        fetch(target)


@contextmanager
def _told(entry: Published) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    except (
        OSError,
        RuntimeError,
        EOFError,
        HTTPException,
    ) as err:  # torchvision: no network, a wrong digest, an archive cut short
        first = str(err).strip().splitlines()[-1:] or [type(err).__name__]
        raise DownloadFailed(
            f"{entry.title} could not be downloaded: {first[0]}; "
            f"fetch it from {entry.origin} by hand and name its folder in data.path"
        ) from err
    finally:
        socket.setdefaulttimeout(before)


def _fetch_cifar(folder: Path) -> None:
    # torchvision's own CIFAR10 brings the pickled version.
    from torchvision.datasets import utils  # imports torch

    utils.download_and_extract_archive(CIFAR_URL, str(folder), md5=CIFAR_MD5, remove_finished=True)


def _fetch_fashion(folder: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(str(folder), download=True)


def _fetch_caltech(folder: Path) -> None:
    from torchvision.datasets import Caltech101

    Caltech101(str(folder), download=True)


ENTRIES = {
    "cifar10": Published(
        "CIFAR-10 in its binary version",
        CIFAR_URL,
        "data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt, or the folder cifar-10-batches-bin with them",
        ("", "cifar-10-batches-bin"),
        lambda folder: (folder / published.CIFAR_PARTS["test"][0]).is_file(),
        _fetch_cifar,
    ),
    "fashion-mnist": Published(
        "Fashion-MNIST",
        "https://github.com/zalandoresearch/fashion-mnist",
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each with .gz or "
        "without",
        ("", "raw", "FashionMNIST/raw"),
        lambda folder: published.is_published(folder) and not (folder / published.CIFAR_PARTS["test"][0]).is_file(),
        _fetch_fashion,
    ),
    "caltech101": Published(
        "Caltech-101",
        "https://data.caltech.edu/records/mzrjq-6wc02",
        "101_ObjectCategories/CLASS/image_0001.jpg and so on (unpack 101_ObjectCategories.tar.gz, which is in caltech-101.zip)",
        ("", "101_ObjectCategories", "caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories"),
        _is_caltech,
        _fetch_caltech,
    ),
    "plantvillage": Published(
        "PlantVillage",
        "https://github.com/spMohanty/PlantVillage-Dataset (raw/)",
        "color/PLANT___DISEASE/*.JPG, beside it grayscale and segmented, or one of these folders",
        (),
        _is_plants,
    ),
}

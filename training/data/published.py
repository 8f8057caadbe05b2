"""Data sets in the form in which they were published: IDX (MNIST, Fashion-MNIST) and CIFAR-10's binary version.

Both are unpacked into train/LABEL/*.png and test/LABEL/*.png. CIFAR-10's Python version is pickled and so is not read;
Caltech-101 and PlantVillage are trees of folders already, which `catalogue` finds.

Formats: http://yann.lecun.com/exdb/mnist ("The IDX file format") and https://www.cs.toronto.edu/~kriz/cifar.html
("Binary version").
"""

import gzip
import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from archives.files import atomic_folder
from handlers.arrays import UInt8
from handlers.errors import counted
from training.errors import DataError
from training.progress import show_progress

IDX_PARTS = {"train": "train", "test": "t10k"}
CIFAR_PARTS = {"train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test": ("test_batch.bin",)}
CIFAR_NAMES = "batches.meta.txt"
IDX_NAMES = "labels.txt"
"""One label a line, to put names in the place of IDX's numbers; not part of what is published."""
UNSIGNED_BYTE = 0x08


@dataclass(frozen=True)
class Part:
    """Images of one split: (N, H, W) grey or (N, H, W, 3) RGB uint8, and their classes (N,) uint8."""

    images: UInt8
    classes: UInt8


def is_published(folder: Path) -> bool:
    """Tell whether a folder holds one of the published forms."""
    return (folder / CIFAR_PARTS["test"][0]).is_file() or _idx_file(folder, "t10k-images-idx3-ubyte") is not None


def unpack(folder: Path, home: Path, default_names: Sequence[str] = ()) -> Path:
    """Write a published set as an ImageFolder tree below `home`, once for its content; returns the tree's root.

    `default_names`: of IDX's labels, where no file names them.

    Raises DataError naming a file that is missing, cut short or of another form.
    """
    cifar = (folder / CIFAR_PARTS["test"][0]).is_file()
    parts = {split: (_read_cifar if cifar else _read_idx)(folder, split) for split in ("train", "test")}
    names = _read_names(folder / (CIFAR_NAMES if cifar else IDX_NAMES)) or list(default_names)
    digest = hashlib.sha256(repr(names).encode())
    for part in parts.values():
        digest.update(part.images.tobytes())
        digest.update(part.classes.tobytes())
    root = home / f"{folder.resolve().name}-{digest.hexdigest()[:12]}"
    if not root.is_dir():
        total = sum(len(part.classes) for part in parts.values())
        with atomic_folder(root) as target:
            for _ in show_progress(_write(parts, names, target), total, f"unpacking {folder.name}"):
                pass
    return root


def _write(parts: dict[str, Part], names: list[str], target: Path) -> Iterator[int]:
    for split, part in parts.items():
        for index, (image, number) in enumerate(zip(part.images, part.classes, strict=True)):
            if names and number >= len(names):
                raise DataError(
                    f"an image of {split} has class {number}, but only {counted(len(names), 'label is', 'labels are')} named"
                )
            place = target / split / (names[number] if names else str(number))
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{index:05d}.png")
            yield index


def _read_idx(folder: Path, split: str) -> Part:
    images = _read_idx_array(folder, f"{IDX_PARTS[split]}-images-idx3-ubyte", 3)
    classes = _read_idx_array(folder, f"{IDX_PARTS[split]}-labels-idx1-ubyte", 1)
    if len(images) != len(classes):
        raise DataError(
            f"{folder} holds {counted(len(images), 'image')} of {split} but {counted(len(classes), 'label')}; fetch it again"
        )
    return Part(images, classes)


def _read_idx_array(folder: Path, name: str, rank: int) -> UInt8:
    path = _idx_file(folder, name)
    if path is None:
        raise DataError(f"{folder / name} is missing (with .gz or without); the set is published as four files")
    data = _read(path)
    head = 4 + 4 * rank
    if data[:4] != bytes((0, 0, UNSIGNED_BYTE, rank)) or len(data) < head:
        raise DataError(f"{path} does not start as IDX of {rank} dimensions of bytes; it starts with {data[:4].hex()!r}")
    shape = tuple(int(length) for length in np.frombuffer(data, ">u4", rank, 4))
    if len(data) != head + math.prod(shape):
        raise DataError(f"{path} holds {len(data)} bytes where {head + math.prod(shape)} are announced; fetch it again")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_cifar(folder: Path, split: str) -> Part:
    """A record is one byte of class and 3 planes of 32 x 32 bytes: red, green, blue."""
    record = 1 + 3 * 32 * 32
    batches = []
    for name in CIFAR_PARTS[split]:
        data = _read(folder / name)
        if not data or len(data) % record:
            raise DataError(f"{folder / name} holds {len(data)} bytes, not a whole number of records of {record}; fetch it again")
        batches.append(np.frombuffer(data, np.uint8).reshape(-1, record))
    records = np.concatenate(batches)
    return Part(np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), records[:, 0])


def _read_names(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = _read(path).decode("utf-8-sig", errors="replace").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if bad := [name for name in names if "/" in name or name.startswith(".")]:
        raise DataError(f"{path} names a label {bad[0]!r}, which cannot be a folder's name")
    return names


def _read(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"{path} cannot be read: {err}; fetch it again") from err

"""IDX and CIFAR-10 files, written here from their descriptions, come out as the pictures that went in."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import DataConfig
from training.data.published import is_published, unpack
from training.data.sources import prepare
from training.errors import DataError

RNG = np.random.default_rng(0)
GREY = {"train": RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8), "t10k": RNG.integers(0, 256, (4, 28, 28), dtype=np.uint8)}
CLASSES = {"train": [0, 1, 2, 0, 1, 2], "t10k": [2, 1, 0, 0]}


def write_idx(folder: Path, *, packed: bool) -> None:
    pack: Callable[[bytes], bytes] = gzip.compress if packed else bytes
    for part, images in GREY.items():
        head = struct.pack(">BBBBIII", 0, 0, 8, 3, *images.shape)
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, len(images)) + bytes(CLASSES[part])
        suffix = ".gz" if packed else ""
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(head + images.tobytes()))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(labels))


def write_cifar(folder: Path) -> list[bytes]:
    records = [bytes([n % 2]) + RNG.integers(0, 256, 3072, dtype=np.uint8).tobytes() for n in range(6)]
    for n in range(5):
        (folder / f"data_batch_{n + 1}.bin").write_bytes(records[n])
    (folder / "test_batch.bin").write_bytes(records[5])
    (folder / "batches.meta.txt").write_text("airplane\nfire truck\n\n")
    return records


@pytest.mark.parametrize("packed", [True, False])
def test_idx(tmp_path: Path, packed: bool) -> None:
    folder = tmp_path / "fashion"
    folder.mkdir()
    assert not is_published(folder)
    write_idx(folder, packed=packed)
    assert is_published(folder)
    root = unpack(folder, tmp_path / "home")
    for split, part in (("train", "train"), ("test", "t10k")):
        for index, number in enumerate(CLASSES[part]):
            picture = Image.open(root / split / str(number) / f"{index:05d}.png")
            assert np.array_equal(np.asarray(picture), GREY[part][index])
    assert len(list(root.rglob("*.png"))) == 10


def test_idx_with_names(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "labels.txt").write_text("T-shirt\nTrouser\nAnkle boot\n", "utf-8-sig")  # as Notepad writes it
    root = unpack(tmp_path, tmp_path / "home")
    assert sorted(path.name for path in (root / "train").iterdir()) == ["Ankle boot", "T-shirt", "Trouser"]
    (tmp_path / "labels.txt").write_text("T-shirt\nTrouser\n")
    with pytest.raises(DataError, match="has class 2, but only 2 labels"):
        unpack(tmp_path, tmp_path / "home")
    (tmp_path / "labels.txt").write_text("T-shirt/top\nTrouser\nBag")
    with pytest.raises(DataError, match="'T-shirt/top', which cannot be a folder's name"):
        unpack(tmp_path, tmp_path / "home")


def test_cifar(tmp_path: Path) -> None:
    records = write_cifar(tmp_path)
    assert is_published(tmp_path)
    root = unpack(tmp_path, tmp_path / "home")
    names = ["airplane", "fire truck"]
    for n, record in enumerate(records):
        split, index = ("test", 0) if n == 5 else ("train", n)
        picture = np.asarray(Image.open(root / split / names[n % 2] / f"{index:05d}.png"))
        # A plane of 1,024 bytes for each colour, rows of 32: byte 1 + c * 1024 + y * 32 + x.
        for y, x, c in ((0, 0, 0), (3, 17, 1), (31, 31, 2)):
            assert picture[y, x, c] == record[1 + c * 1024 + y * 32 + x]


def test_prepare_unpacks_once(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    write_cifar(tmp_path / "cifar-10-batches-bin")
    config = DataConfig(source="imagefolder", path=tmp_path / "cifar-10-batches-bin")
    root = prepare(config, tmp_path / "runs")
    assert root.parent == tmp_path / "runs" / "data"
    assert root.name.startswith("cifar-10-batches-bin-")
    before = root.stat().st_mtime_ns
    assert prepare(config, tmp_path / "runs") == root
    assert root.stat().st_mtime_ns == before


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"holds {len(whole) - 1} bytes where {len(whole)} are announced"):
        unpack(tmp_path, tmp_path / "home")
    images.write_bytes(b"\x80\x04" + whole[2:])
    with pytest.raises(DataError, match="does not start as IDX of 3 dimensions of bytes; it starts with '80040803'"):
        unpack(tmp_path, tmp_path / "home")
    images.write_bytes(whole)
    labels.write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 5) + bytes(5))
    with pytest.raises(DataError, match="6 images of train but 5 labels"):
        unpack(tmp_path, tmp_path / "home")
    labels.unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is missing"):
        unpack(tmp_path, tmp_path / "home")
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(500))[:20])
    with pytest.raises(DataError, match=r"gz cannot be read"):
        unpack(tmp_path, tmp_path / "home")


def test_damaged_cifar_is_named(tmp_path: Path) -> None:
    records = write_cifar(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(records[2][:-5])
    with pytest.raises(DataError, match=r"data_batch_3\.bin holds 3068 bytes, not a whole number of records of 3073"):
        unpack(tmp_path, tmp_path / "home")
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin cannot be read"):
        unpack(tmp_path, tmp_path / "home")
    assert not (tmp_path / "home").exists()

"""The same picture saved again is found in another split, other pictures are not, and the config decides what that means."""

import io
import logging
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image, ImageEnhance

from handlers.decode import decode, from_pixels
from handlers.spec import Limits
from tests.unit.training.data.test_published import write_idx
from training.config import Config, DataConfig
from training.data import duplicates
from training.data.duplicates import (
    Near,
    check_leaks,
    count_known,
    default_policy,
    find_near,
    hash_images,
    hash_pixels,
    near_pairs,
)
from training.data.manifest import Manifest, Sample, build
from training.errors import DataLeak, DataUnreadable
from training.jobs import common

Plant = Callable[..., Path]
RNG = np.random.default_rng(0)
SPLITS = ("train", "val", "calibration", "test")


def config(root: Path | None, **data: object) -> Config:
    return Config.model_validate(
        {
            "name": "x",
            "data": {"source": "imagefolder", "path": root, **data} if root else data,
            "preprocessing": {"height": 32, "width": 32, "mean": [0.5] * 3, "std": [0.5] * 3},
            "model": {"network": "small_cnn"},
            "fit": {"phases": [{"epochs": 1, "learning_rate": 0.1}]},
        }
    )


def prepare(config: Config, home: Path) -> Manifest:
    assert config.data.path
    manifest = build(config.data.path, config.data)
    check_leaks(config.data.path, manifest, config, home)
    return manifest


@pytest.fixture
def root(plant: Plant) -> Path:
    """Twenty pictures with given splits."""
    return plant(*(f"{split}/{label}/{n}.png" for split in SPLITS for label in ("ash", "oak") for n in range(3)))


@pytest.mark.parametrize("bits", [0, 16, 64])
def test_pairs_are_those_of_a_naive_loop(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = RNG.integers(0, 2**64, (60, 4), np.uint64)
    for row in range(1, 60, 2):  # neighbours of earlier rows, up to 80 bits away
        flips = RNG.choice(256, RNG.integers(0, 80), replace=False)
        bitmap = np.unpackbits(hashes[row - 1].view(np.uint8))
        bitmap[flips] ^= 1
        hashes[row] = np.packbits(bitmap).view(np.uint64)
    numbers = [int.from_bytes(row.tobytes(), "big") for row in hashes]
    naive = [
        [i, j, (numbers[i] ^ numbers[j]).bit_count()]
        for i, j in combinations(range(60), 2)
        if (numbers[i] ^ numbers[j]).bit_count() <= bits
    ]
    assert near_pairs(hashes[:, None], bits).tolist() == naive
    monkeypatch.setattr(duplicates, "BLOCK", 7 * 60)
    assert near_pairs(hashes[:, None], bits).tolist() == naive
    assert naive or not bits


def test_hashes_are_the_librarys(root: Path) -> None:
    samples = build(root, config(root).data).samples
    hashes = hash_images(root, samples, Limits())
    for sample, row in zip(samples, hashes, strict=True):
        picture = Image.fromarray(decode((root / sample.path).read_bytes(), duplicates.VIEW, Limits()))
        assert str(imagehash.phash(picture, 16)) == row[0].tobytes().hex()
        views = [np.asarray(picture), np.fliplr(picture), np.flipud(picture), np.rot90(picture, 2)]
        views += [np.swapaxes(view, 0, 1) for view in views]
        for view, words in zip(views, row, strict=True):  # ties of the median aside, which a transform of floats may break
            assert bits_apart(np.packbits(imagehash.phash(Image.fromarray(view), 16).hash).view(np.uint64), words) <= 2


def bits_apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.bitwise_count(one ^ other).sum())


@pytest.mark.parametrize("bits", [0, 3, 16, 24, 64])
def test_pairs_by_the_nearest_view_are_those_of_a_naive_loop(bits: int) -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, (40, 8, 4), np.uint64)
    for row in range(20, 40):
        hashes[row] = hashes[row - 20][rng.permutation(8)]
        flips = rng.choice(256, rng.integers(0, 70), replace=False)
        bitmap = np.unpackbits(hashes[row].view(np.uint8), axis=1)
        bitmap[:, flips] ^= 1
        hashes[row] = np.packbits(bitmap, axis=1).view(np.uint64)
    naive = [
        [i, j, least]
        for i, j in combinations(range(40), 2)
        if (least := min(bits_apart(hashes[i, 0], view) for view in hashes[j])) <= bits
    ]
    assert near_pairs(hashes, bits).tolist() == naive
    assert naive or not bits


def sample(path: str, split: str) -> Sample:
    return Sample(path, 1, "a" * 64, "x", split)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [0, 8, 200])
def test_of_no_pictures_there_are_no_pairs(bits: int) -> None:
    assert find_near([], np.zeros((0, 8, 4), np.uint64), bits) == []


def test_twins_are_paired_across_splits_and_not_all_with_all() -> None:
    six, seven = np.array([[6, 0, 0, 0], [7, 0, 0, 0]], np.uint64)
    far = np.full(4, 2**64 - 1, np.uint64)
    images = [("a", "train", six), ("b", "train", six), ("c", "test", seven), ("d", "val", far), ("e", "val", far)]
    samples, hashes = [sample(name, split) for name, split, _ in images], np.array([[row] * 8 for *_, row in images])
    found = [(near.one.path, near.other.path, near.bits) for near in find_near(samples, hashes, 16)]
    assert found == [("a", "b", 0), ("d", "e", 0), ("a", "c", 1)]
    assert find_near(samples[2:4], hashes[2:4], 16) == []
    copies = [sample(f"{n:04}", "train") for n in range(1000)]
    assert len(find_near(copies, np.full((1000, 8, 4), 6, np.uint64), 16)) == 999
    assert find_near(copies, np.zeros((1000, 8, 4), np.uint64), 16) == []  # blank ones


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A real one, of 640 x 427 pixels, which comes with scikit-learn."""
    return (Path(sklearn.datasets.__file__).parent / "images/china.jpg").read_bytes()


@pytest.mark.parametrize("change", [
    "jpeg", "half", "double", "brighter", "contrast", "noise", "grey", "turned by EXIF",
    "mirrored", "upside down", "turned", "turned back", "turned over", "transposed", "transversed",
])  # fmt: skip
def test_a_picture_that_was_saved_again_leaks(root: Path, photo: bytes, tmp_path: Path, change: str) -> None:
    picture = Image.open(io.BytesIO(photo))
    exif = Image.Exif()
    options: dict[str, object] = {"quality": 95}
    if change == "turned by EXIF":
        exif[0x0112] = 6
        options["exif"] = exif
    again = {
        "jpeg": lambda: picture,
        "half": lambda: picture.resize((320, 213)),
        "double": lambda: picture.resize((1280, 854)),
        "brighter": lambda: ImageEnhance.Brightness(picture).enhance(1.2),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(0.8),
        "noise": lambda: Image.fromarray(np.clip(np.asarray(picture) + RNG.normal(0, 5, (427, 640, 3)), 0, 255).astype(np.uint8)),
        "grey": lambda: picture.convert("L"),
        "turned by EXIF": lambda: picture.transpose(Image.Transpose.ROTATE_90),
        "mirrored": lambda: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "upside down": lambda: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        "turned": lambda: picture.transpose(Image.Transpose.ROTATE_90),
        "turned back": lambda: picture.transpose(Image.Transpose.ROTATE_270),
        "turned over": lambda: picture.transpose(Image.Transpose.ROTATE_180),
        "transposed": lambda: picture.transpose(Image.Transpose.TRANSPOSE),
        "transversed": lambda: picture.transpose(Image.Transpose.TRANSVERSE),
    }[change]()
    (root / "train/ash/photo.jpg").write_bytes(photo)
    again.save(root / "test/ash/again.jpg", **(options | ({"quality": 40} if change == "jpeg" else {})))
    with pytest.raises(DataLeak) as caught:
        prepare(config(root), tmp_path)
    said = str(caught.value)
    assert said.startswith(
        "data.leak: 1 pair of near-duplicates lies in two splits: test/ash/again.jpg (test) and train/ash/photo"
    )
    assert "data.group_pattern" in said


def test_training_looks_for_leaks(root: Path, tmp_path: Path) -> None:

    (root / "train/ash/again.png").write_bytes((root / "test/ash/0.png").read_bytes())
    with pytest.raises(DataLeak, match="0 bits apart"):
        common.prepare(config(root), tmp_path)


def test_within_one_split_nothing_leaks(root: Path, photo: bytes, tmp_path: Path) -> None:
    (root / "train/ash/photo.jpg").write_bytes(photo)
    (root / "train/oak/photo.jpg").write_bytes(photo)
    assert len(prepare(config(root), tmp_path).samples) == 26


def test_the_same_picture_under_two_labels_is_told(
    root: Path, photo: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In one split, where nothing leaks, too; a picture that lies twice under one label is no matter."""
    for name in ("ash/photo", "ash/again", "oak/photo"):
        (root / f"train/{name}.jpg").write_bytes(photo)
    caplog.set_level(logging.WARNING)
    prepare(config(root), tmp_path)
    assert caplog.messages == [
        "the same picture, or nearly the same, lies under two labels: ash, oak: 1 pair; `visor data report` shows them"
    ]
    caplog.clear()
    (root / "train/oak/photo.jpg").unlink()
    prepare(config(root), tmp_path)
    assert caplog.messages == []


def test_blank_pictures_are_told_and_are_no_copies_of_each_other(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A white drawing on transparency is white on white; black and grey pictures show no more, nor does a grain of 4 levels."""
    sprite = np.zeros((20, 20, 4), np.uint8)
    sprite[5:15, 5:15] = 255
    grain = np.full((64, 64, 3), 90, np.uint8)
    grain[::2] += 4
    for name, pixels in {
        "train/ash/white": sprite, "test/oak/white": sprite, "train/oak/black": np.zeros((9, 9), np.uint8),
        "val/ash/grey": grain, "test/ash/grey": grain.swapaxes(0, 1),
    }.items():  # fmt: skip
        Image.fromarray(pixels).save(root / f"{name}.png")
    caplog.set_level(logging.INFO)
    prepare(config(root), tmp_path)
    said = (
        "5 pictures are blank, of one colour alone, such as test/ash/grey.png: remove what shows nothing; transparency is laid "
        "on white, so that a white drawing needs another colour below it; `visor data report` lists them"
    )
    assert said in caplog.messages
    assert not [message for message in caplog.messages if "two labels" in message or "near-duplicates lie" in message]
    caplog.clear()
    grain[0, 0] += 1  # 5 levels
    assert hash_pixels(grain).any()
    for one in ("train/ash/white", "test/oak/white", "train/oak/black", "val/ash/grey", "test/ash/grey"):
        (root / f"{one}.png").unlink()
    prepare(config(root), tmp_path)
    assert not [message for message in caplog.messages if "pictures are blank" in message]


def test_the_search_is_announced(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    prepare(config(root), tmp_path)
    assert caplog.messages == [f"hashing 24 images of {root}", "looking for near-duplicates among 24 images"]


def test_the_config_decides(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in SPLITS:
        (root / split / "ash/again.png").write_bytes((root / "train/oak/0.png").read_bytes())
    caplog.set_level(logging.WARNING)
    with pytest.raises(DataLeak, match=r"4 pairs .*; and 1 more\. What a test shares"):
        prepare(config(root), tmp_path)
    caplog.clear()
    prepare(config(root, leaks="warn"), tmp_path)
    assert "4 pairs of near-duplicates lie in two splits" in caplog.text
    caplog.clear()
    prepare(config(root, leaks="allow"), tmp_path / "new")
    assert "near-duplicates" not in caplog.text
    assert not (tmp_path / "new").exists()  # nothing was hashed


def test_the_bound_is_the_configs(root: Path, tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(root / "train/oak/0.png")).copy()
    pixels[:1, :2] = 255 - pixels[:1, :2]
    Image.fromarray(pixels).save(root / "test/oak/near.png")
    near, other = build(root, config(root).data), root
    hashes = hash_images(other, near.samples, Limits())
    [found] = find_near(near.samples, hashes, 64)
    assert 0 < found.bits <= 64
    prepare(config(root, near_duplicate_bits=found.bits - 1), tmp_path)
    with pytest.raises(DataLeak):
        prepare(config(root, near_duplicate_bits=found.bits), tmp_path)


def test_an_error_is_for_those_who_chose_the_splits(tmp_path: Path) -> None:
    assert default_policy(config(tmp_path).data) == "error"
    assert [default_policy(config(tmp_path, source=source).data) for source in ("caltech101", "plantvillage")] == ["error"] * 2
    assert [default_policy(config(tmp_path, source=source).data) for source in ("cifar10", "fashion-mnist")] == ["warn"] * 2
    assert [default_policy(config(None, source=source).data) for source in ("digits", "roofs")] == ["warn"] * 2
    write_idx(tmp_path, packed=False)
    assert default_policy(config(tmp_path).data) == "warn"


def test_a_hash_is_made_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = build(root, config(root).data)
    first = hash_images(root, manifest.samples, Limits(), tmp_path / "cache")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(duplicates, "hash_pixels", fail)
    again = hash_images(root, manifest.samples[::-1], Limits(), tmp_path / "cache")
    assert np.array_equal(again, first[::-1])
    [cache] = (tmp_path / "cache").iterdir()
    cache.write_bytes(b"damaged")
    with pytest.raises(AssertionError):
        hash_images(root, manifest.samples, Limits(), tmp_path / "cache")


def test_bad_files_are_all_named(root: Path, tmp_path: Path) -> None:
    for name in ("train/oak/1.png", "test/ash/2.png"):
        (root / name).write_bytes(b"none")
    manifest: Manifest = build(root, config(root).data)
    with pytest.raises(DataUnreadable, match=r"2 files that cannot be decoded.*:\ntest/ash/2\.png: .*\ntrain/oak/1\.png: "):
        check_leaks(root, manifest, config(root), tmp_path)


def test_digits_are_far_apart() -> None:
    """What the default bound was chosen by: docs/data.md."""
    images = np.rint(sklearn.datasets.load_digits().images * (255 / 16)).astype(np.uint8)
    views = [from_pixels(np.repeat(image[:, :, None], 3, axis=2), duplicates.VIEW, Limits()) for image in images]
    hashes = np.array([duplicates.hash_pixels(view) for view in views])
    assert near_pairs(hashes, 24)[:, 2].min() == 24
    assert DataConfig(source="digits").near_duplicate_bits < 22


def test_known_images_are_counted_by_the_split_that_they_judge() -> None:
    """a and b have one hash, c and d another that is 3 bits away; find_near pairs each with the first of its hash alone."""
    a, b, c, d = sample("a", "test"), sample("b", "train"), sample("c", "test"), sample("d", "test")
    e, f = sample("e", "test"), sample("f", "test")  # near each other alone: neither was met before
    g, h = sample("g", "calibration"), sample("h", "test")  # h was calibrated on, g was met by nobody
    i, j = sample("i", "sealed"), sample("j", "val")
    found = [Near(a, b, 0), Near(c, d, 0), Near(e, f, 0), Near(g, h, 2), Near(b, c, 3), Near(i, j, 9)]
    assert count_known(found) == {"calibration": 0, "test": 4, "sealed": 1}  # a, c, d, h; i
    assert count_known([]) == {"calibration": 0, "test": 0, "sealed": 0}


def test_leaks_that_are_let_through_are_counted(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "train/oak/1.png", root / "test/oak/copy.png")
    shutil.copy(root / "train/ash/1.png", root / "calibration/ash/copy.png")
    listed = build(root, config(root).data)
    known = {"calibration": 1, "test": 1, "sealed": 0}
    assert check_leaks(root, listed, config(root, leaks="warn"), tmp_path) == known
    assert check_leaks(root, listed, config(root, leaks="allow"), tmp_path) is None
    with pytest.raises(DataLeak):
        check_leaks(root, listed, config(root), tmp_path)


def test_what_is_too_large_is_told_with_the_key_that_lets_it_in(root: Path, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(root / "train/oak/1.png")  # 400 megapixels, which Pillow opens never
    Image.new("1", (7_500, 7_500)).save(root / "train/oak/2.png")
    listed = build(root, config(root).data)
    with pytest.raises(DataUnreadable) as caught:
        check_leaks(root, listed, config(root), tmp_path)
    said = str(caught.value)
    assert "2 are too large: scale such pictures down, or raise limits.max_pixels in the config (50000000 here" in said
    assert "the image has 400000000 pixels, more than the limit of 50000000" in said
    assert "bomb" not in said
    (root / "train/oak/1.png").write_bytes(b"none")
    (root / "train/oak/2.png").write_bytes(b"none")
    with pytest.raises(DataUnreadable) as caught:
        check_leaks(root, build(root, config(root).data), config(root), tmp_path)
    assert "max_pixels" not in str(caught.value)

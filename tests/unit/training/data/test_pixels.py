"""Every image is decoded before training, and every bad one is named at once."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.decode import decode
from handlers.spec import Limits, Preprocessing
from tests.unit.handlers.profiles import P3, p3_as_srgb
from training.config import DataConfig, SplitConfig
from training.data.manifest import Manifest, build
from training.data.pixels import cache, decode_good
from training.errors import DataChanged, DataUnreadable

SAMPLES = Path(__file__).parents[3] / "heic"
Plant = Callable[..., Path]
PREPROCESSING = Preprocessing(height=8, width=12, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
LIMITS = Limits()


@pytest.fixture
def root(plant: Plant) -> Path:
    return plant(*(f"{label}/{n}.png" for label in ("ash", "oak") for n in range(10)))


def read(root: Path) -> Manifest:
    return build(root, DataConfig(source="imagefolder", path=root, splits=SplitConfig(val=0.2, calibration=0.2, test=0.2)))


def test_cache_holds_what_decoding_gives(root: Path, tmp_path: Path) -> None:
    manifest = read(root)
    pixels = cache(root, manifest, PREPROCESSING, LIMITS, tmp_path / "cache")
    assert pixels.shape == (20, 8, 12, 3)
    assert pixels.dtype == np.uint8
    assert not pixels.flags.writeable
    for row, sample in zip(pixels, manifest.samples, strict=True):
        assert np.array_equal(row, decode((root / sample.path).read_bytes(), PREPROCESSING, LIMITS))


def test_heic_and_jfif_are_read_and_colours_are_srgb_s(root: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "plain.heic", root / "ash/IMG_0001.HEIC")
    Image.new("RGB", (20, 20), (200, 60, 10)).save(root / "oak/saved.jfif", "JPEG", quality=95)
    Image.new("RGB", (20, 20), (40, 200, 90)).save(root / "oak/p3.jpe", "JPEG", quality=98, subsampling=0, icc_profile=P3)
    manifest = read(root)
    pixels = cache(root, manifest, PREPROCESSING, LIMITS, tmp_path / "cache")
    rows = {sample.path: pixels[row].astype(float) for row, sample in enumerate(manifest.samples)}
    assert len(rows) == 23
    assert np.abs(rows["oak/saved.jfif"] - (200, 60, 10)).max() <= 3
    assert np.abs(rows["oak/p3.jpe"] - p3_as_srgb(np.array([40, 200, 90]))).max() <= 3
    assert rows["ash/IMG_0001.HEIC"][:, -1, 0].mean() > 230 > 30 > rows["ash/IMG_0001.HEIC"][:, 0, 0].mean()  # red rises


def test_cache_decodes_once(root: Path, tmp_path: Path) -> None:
    manifest = read(root)
    first = np.array(cache(root, manifest, PREPROCESSING, LIMITS, tmp_path))
    files = sorted(tmp_path.glob("pixels-*"))
    for sample in manifest.samples:
        (root / sample.path).unlink()
    assert np.array_equal(cache(root, manifest, PREPROCESSING, LIMITS, tmp_path), first)
    assert sorted(tmp_path.glob("pixels-*")) == files
    assert len(files) == 1


def test_cache_has_a_file_for_each_preprocessing_limit_and_data_set(plant: Plant, root: Path, tmp_path: Path) -> None:
    cache(root, read(root), PREPROCESSING, LIMITS, tmp_path)
    cache(root, read(root), PREPROCESSING.model_copy(update={"width": 8}), LIMITS, tmp_path)
    cache(root, read(root), PREPROCESSING, Limits(max_pixels=100), tmp_path)
    cache(root, read(root), PREPROCESSING.model_copy(update={"decoding": 1}), LIMITS, tmp_path)
    plant("oak/new.png")
    cache(root, read(root), PREPROCESSING, LIMITS, tmp_path)
    assert len(list(tmp_path.glob("pixels-*"))) == 5


def test_every_bad_image_is_named_with_its_code(root: Path, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    whole = io.BytesIO()
    noise.save(whole, "JPEG")
    (root / "oak/truncated.jpg").write_bytes(whole.getvalue()[:500])
    (root / "oak/empty.jpg").write_bytes(b"")
    (root / "ash/text.jpg").write_text("not an image")
    (root / "ash/huge.bmp").write_bytes(b"BM" + bytes(6000))
    noise.save(root / "ash/animated.webp", save_all=True, append_images=[noise.rotate(90)])
    manifest = read(root)
    for call in (
        lambda: list(decode_good(root, manifest.samples, PREPROCESSING, Limits(max_bytes=6000))),
        lambda: cache(root, manifest, PREPROCESSING, Limits(max_bytes=6000), tmp_path / "cache"),
    ):
        with pytest.raises(DataUnreadable, match="holds 5 files") as error:
            call()
        sentence = str(error.value)
        for line in (
            "oak/truncated.jpg: image.undecodable",
            "oak/empty.jpg: image.empty",
            "ash/text.jpg: image.undecodable",
            "ash/huge.bmp: image.too_large",
            "ash/animated.webp: image.unsupported",
        ):
            assert line in sentence
    assert list((tmp_path / "cache").iterdir()) == []


def test_kinds_that_are_read_are_read(root: Path, tmp_path: Path) -> None:
    """CMYK, 16 bits, palette, alpha and EXIF orientation, each of one colour or its turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.zeros((8, 8, 3), np.uint8)
    turned[:4] = 255  # stored above, seen on the right
    Image.new("CMYK", (8, 8), (0, 255, 0, 0)).save(root / "oak/cmyk.tif")
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(root / "oak/deep.png")
    Image.new("P", (8, 8)).save(root / "oak/palette.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 51)).save(root / "oak/alpha.png")
    Image.fromarray(turned).save(root / "oak/turned.png", exif=exif)
    manifest = read(root)
    pixels = cache(root, manifest, PREPROCESSING.model_copy(update={"width": 8}), LIMITS, tmp_path)
    of = {sample.path: row for sample, row in zip(manifest.samples, pixels, strict=True)}
    assert (of["oak/cmyk.tif"] == (255, 0, 255)).all()
    assert (of["oak/deep.png"] == 0x80).all()
    assert (of["oak/palette.png"] == 0).all()
    assert (of["oak/alpha.png"] == (255, 204, 204)).all()
    assert (of["oak/turned.png"][:, :4] == 0).all()
    assert (of["oak/turned.png"][:, 4:] == 255).all()


def test_a_file_that_changed_since_the_manifest_is_named(root: Path) -> None:
    manifest = read(root)
    (root / "oak/3.png").write_bytes((root / "oak/4.png").read_bytes())
    with pytest.raises(DataChanged, match=r"3\.png is not the file of the manifest"):
        list(decode_good(root, manifest.samples, PREPROCESSING, LIMITS))
    (root / "oak/3.png").unlink()
    with pytest.raises(DataChanged, match=r"3\.png cannot be read: No such file"):
        list(decode_good(root, manifest.samples, PREPROCESSING, LIMITS))

"""What the data set's report says is what an independent look at the files says, and it stands whatever the folder holds."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image, ImageEnhance, ImageFilter

from tests.unit.pages import check_page, check_style
from training.config import DataConfig
from training.data import sources
from training.data.eda import OUTLIER, Findings, explore, laplacian_variance, robust_z
from training.errors import ConfigError, DataError
from training.reports.data_set import figures, notes, render, thumbnail
from visor import cli

RNG = np.random.default_rng(0)
CONFIG = """
name: photos
data: {{source: imagefolder, path: {path}, splits: {{val: 0.2, calibration: 0.2, test: 0.2}}}}
preprocessing: {{height: 96, width: 96, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
model: {{network: small_cnn}}
fit: {{phases: [{{epochs: 1, learning_rate: 0.1}}]}}
"""


def crops() -> list[Image.Image]:
    """48 pieces of one of scikit-learn's photographs, without its sky, brought to one brightness and contrast."""
    photo = Image.open(Path(sklearn.datasets.__file__).parent / "images/china.jpg").convert("RGB")
    pieces = [np.asarray(photo.crop((x, y, x + 96, y + 96))) for x in range(0, 545, 48) for y in (190, 238, 286, 331)]
    flat = [(piece - piece.mean()) / piece.std() * 40 + 120 for piece in pieces]
    return [Image.fromarray(np.clip(piece, 0, 255).astype(np.uint8)) for piece in flat]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "set"
    for n, piece in enumerate(crops()):
        place = root / ("low" if n % 2 else "high") / f"{n:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.stem == "04":
            piece = ImageEnhance.Brightness(piece).enhance(0.02)
        if place.stem == "07":
            piece = piece.filter(ImageFilter.GaussianBlur(12))
        piece.save(place)
    exif = Image.Exif()
    exif[0x0112] = 6
    crops()[8].resize((64, 48)).save(root / "low/turned.jpg", exif=exif)
    crops()[9].save(root / "high/again.jpg", quality=60)
    (root / "low/broken.png").write_bytes(b"\x89PNG none")
    return root


@pytest.fixture(scope="module")
def config(photos: Path) -> Path:
    path = photos.parent / "photos.yaml"
    path.write_text(CONFIG.format(path=photos))
    return path


@pytest.fixture(scope="module")
def findings(config: Path) -> Findings:
    return explore(config, [], config.parent / "home")


@pytest.fixture(scope="module")
def html(findings: Findings) -> str:
    return render(findings)


def naive_laplacian_variance(luma: np.ndarray) -> float:
    """The variance of 0 1 0, 1 -4 1, 0 1 0 over the inner pixels."""
    inner = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    return float(np.var(inner))


def test_the_laplacian_is_its_kernel_over_the_inner_pixels() -> None:
    luma = RNG.uniform(0, 255, (31, 47))
    assert laplacian_variance(luma) == pytest.approx(naive_laplacian_variance(luma), rel=1e-9)
    assert laplacian_variance(np.add.outer(np.arange(9.0), np.arange(5.0))) == 0  # a slope has no second derivative


def test_robust_z_is_in_units_of_the_median_distance() -> None:
    values = RNG.normal(3, 2, 501)
    middle = sorted(values)[250]
    deviation = 1.4826 * sorted(abs(values - middle))[250]
    assert np.allclose(robust_z(values), (values - middle) / deviation, rtol=1e-4)
    assert robust_z(np.array([1.0, 2.0, 4.0, 7.0, 100.0]))[1] == pytest.approx(-2 / (1.4826 * 3), rel=1e-4)
    assert robust_z(np.array([5.0] * 9 + [6.0])).tolist() == pytest.approx([0] * 9 + [1 / (1.2533 * 0.1)])
    assert robust_z(np.full(4, 7.0)).tolist() == [0] * 4
    assert robust_z(np.zeros(0)).size == 0


def test_measures_are_those_of_the_files(findings: Findings, photos: Path) -> None:
    assert findings.name == "photos"
    assert len(findings.images) == 50
    for image in findings.images:
        if image.sample.path.endswith(".png"):
            luma = np.asarray(Image.open(photos / image.sample.path).convert("L"), float)
            assert (image.width, image.height, image.kind) == (96, 96, "PNG")
            assert image.brightness == pytest.approx(luma.mean() / 255, abs=1e-9)
            assert image.sharpness == pytest.approx(naive_laplacian_variance(luma), rel=1e-9)
    [turned] = [image for image in findings.images if image.sample.path == "low/turned.jpg"]
    assert (turned.width, turned.height, turned.kind) == (48, 64, "JPEG")


def test_counts_are_those_of_the_manifest(findings: Findings) -> None:
    expected = Counter((image.sample.label, image.sample.split) for image in findings.images)
    assert {(label, split): n for label, held in findings.counts().items() for split, n in held.items()} == dict(expected)


def test_what_is_wrong_is_found(findings: Findings) -> None:
    assert [path for path, _ in findings.unreadable] == ["low/broken.png"]
    assert "high/04.png" in {outlier.image.sample.path for outlier in findings.brightness if outlier.score < -OUTLIER}
    assert "low/07.png" in {outlier.image.sample.path for outlier in findings.sharpness if outlier.score < -OUTLIER}
    assert ("high/again.jpg", "low/09.png") in {(near.one.path, near.other.path) for near in findings.near}


def test_the_page_shows_it_and_needs_nothing_else(findings: Findings, html: str) -> None:
    check_style(html)
    page = check_page(html)
    assert {"high/04.png", "low/07.png", "high/again.jpg", "low/09.png"} <= {image["alt"] for image in page.images}
    assert "low/broken.png" in page.text
    assert "Training would refuse this data set: data.unreadable" in page.text
    assert "holds 1 file that cannot be decoded" in page.text
    assert findings.digest in page.text
    pairs = re.findall(r"(\d+) of 256 bits apart(, in two splits)?, under two labels", page.text)
    assert len(pairs) == sum(near.one.label != near.other.label for near in findings.near)
    leaks = len(findings.leaks)
    assert bool(re.search(rf"{leaks} pairs? of near-duplicates lies? in two splits", page.text)) == bool(leaks)


def test_a_picture_under_two_labels_is_in_the_notes(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for n in range(4):
            path = tmp_path / f"set/{label}/{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    shutil.copy(tmp_path / "set/a/0.png", tmp_path / "set/b/0.png")
    found = explore(tmp_path / "set", [], tmp_path / "home")
    said = "The same picture, or nearly the same, lies under two labels: a, b: 1 pair. A picture has one label: remove one of"
    assert [note[: len(said)] for note in notes(found) if "two labels" in note] == [said]
    [meaning] = [meaning for name, _, meaning in figures(found) if name == "Near-duplicates"]
    assert meaning.startswith("pair at most 16 of 256 bits apart")


def test_an_empty_label_is_named_and_each_sentence_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("full/a", "Full/b", "empty"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        if name == "empty":
            (tmp_path / "set/empty").mkdir()
            continue
        for n in range(12 if name == "full/a" else 1):
            Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(tmp_path / f"set/{name}{n}.png")
    (tmp_path / "set/full/notes.txt").touch()
    with caplog.at_level("WARNING"):
        found = explore(tmp_path / "set", [], tmp_path / "home")
    assert len([said for said in caplog.messages if "left out" in said]) == 1
    assert len([said for said in caplog.messages if "differ only by case" in said]) == 1
    told = " ".join(notes(found))
    assert "1 label has no image that can be shown: empty." in told
    assert "The largest label has 12 times the images of the smallest" in told  # of those that have any


def test_a_packed_folder_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "icons.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=f"{tmp_path}/icons.zip is an archive of files: unpack it, and name the folder"):
        explore(tmp_path / "icons.zip", [], tmp_path)
    with pytest.raises(DataError, match=r"icons.zip is not a folder, but an archive of files: unpack it; give one that holds"):
        sources.prepare(DataConfig(source="imagefolder", path=tmp_path / "icons.zip"), tmp_path)


def test_a_folder_that_training_would_refuse_is_shown_all_the_same(tmp_path: Path) -> None:
    for label, count in (("<rare> & odd", 1), ("usual", 14)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for n in range(count):
            Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(tmp_path / "set" / label / f"{n}.png")
    found = explore(tmp_path / "set", [], tmp_path / "home")
    assert not found.split
    assert found.leaks == []
    page = check_page(render(found))
    assert "Training would refuse this data set: data.invalid: label '<rare> & odd' is not in every split" in page.text
    assert "The largest label has 14 times the images of the smallest" in page.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        explore(tmp_path / "empty", [], tmp_path / "home")


def test_a_thumbnail_has_the_pictures_proportions(tmp_path: Path) -> None:
    Image.new("RGB", (800, 200)).save(tmp_path / "wide.png")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(tmp_path / "tiny.png")
    for name, size in (("wide.png", (160, 40)), ("tiny.png", (160, 160))):
        (tmp_path / "t.jpg").write_bytes(thumbnail(tmp_path / name))
        with Image.open(tmp_path / "t.jpg") as shown:
            assert shown.size == size


def test_the_command_writes_the_same(config: Path, html: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data.html"
    arguments = ["data", "report", str(config), "--home", str(config.parent / "home"), "--out"]
    assert cli.main([*arguments, str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert out.read_text() == html
    assert cli.main([*arguments, str(tmp_path / "nowhere/data.html")]) == 1
    assert "folder.unwritable" in capsys.readouterr().err


def test_pictures_of_16_bits_that_look_dark_are_named(tmp_path: Path) -> None:
    """Of 12 bits in 16 that say nothing; what says its bits is as bright as it is meant, and a HEIC has its own size."""
    for label, most in (("ct", 4095), ("xray", 3000)):
        folder = tmp_path / "scans" / label
        folder.mkdir(parents=True)
        for n in range(6):
            samples = np.random.default_rng(n).integers(0, most, (40, 40)).astype(np.uint16)
            samples[0, 0] = most
            Image.fromarray(samples).save(folder / f"{n}.png")
    Image.fromarray(np.full((40, 40), 4095, np.uint16)).save(tmp_path / "scans/ct/said.tif", tiffinfo={281: 4095})
    shutil.copy(Path(__file__).parents[3] / "heic/plain.heic", tmp_path / "scans/ct")
    found = explore(tmp_path / "scans", [], tmp_path / "home")
    said = {image.sample.path: image.brightest for image in found.images}
    assert said["ct/0.png"] == (4095, 65535)
    assert said["ct/said.tif"] == (4095, 4095)
    assert said["ct/plain.heic"] is None
    [heic] = [image for image in found.images if image.sample.path == "ct/plain.heic"]
    assert (heic.width, heic.height, heic.kind) == (64, 48, "HEIF")
    assert "12 grey images have 16 bits, brightest value 4095 of 65535" in render(found)


def test_what_is_not_there_is_neither_a_config_nor_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/none is not there; name a config, or a folder"):
        explore(tmp_path / "none", [], tmp_path)


def test_the_keys_of_data_may_be_set_for_a_folder(tmp_path: Path) -> None:
    """`train` beside another folder may be a split or a label: nobody can tell."""
    for name in ("train/a/x", "train/b/y", "other/a/z"):
        path = tmp_path / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    folder = tmp_path / "images"
    with pytest.raises(DataError, match=r"--set data\.layout=labels"):
        explore(folder, [], tmp_path / "home")
    assert explore(folder, ["data.layout=labels"], tmp_path / "home").labels == ("other", "train")
    assert explore(folder, ["data.layout=splits"], tmp_path / "home").labels == ("a", "b")
    with pytest.raises(ConfigError, match=r"override 'fit\.batch_size=3': a folder without a config has keys of data"):
        explore(folder, ["fit.batch_size=3"], tmp_path / "home")
    for own in ("data.path=elsewhere", "data.source=digits"):
        with pytest.raises(ConfigError, match=f"override '{own}': the folder that is named, {folder}, is the data set"):
            explore(folder, [own], tmp_path / "home")
    with pytest.raises(ConfigError, match=r"data\.layout: must be 'auto', 'labels' or 'splits' \(got 'x'\)"):
        explore(folder, ["data.layout=x"], tmp_path / "home")


def test_all_pairs_are_listed_where_not_all_are_shown(tmp_path: Path) -> None:
    """15 pictures, each twice under its label: 15 pairs, of which 12 are drawn."""
    for n in range(15):
        cells = RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
        for name in (f"ash/{n:02}.png", f"ash/{n:02}-again.png"):
            (tmp_path / "set/ash").mkdir(parents=True, exist_ok=True)
            Image.fromarray(cells).save(tmp_path / "set" / name)
        (tmp_path / "set/oak").mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"set/oak/{n:02}.png")
    found = explore(tmp_path / "set", [], tmp_path / "home")
    page = check_page(render(found))
    assert "The first 12 of 15, whose paths are all listed below." in page.text
    _, summary, rest = page.text.partition("All 15 pairs, by their paths")
    assert summary
    listed = rest.partition("What stands out")[0]
    assert all(listed.count(f"ash/{n:02}.png") == listed.count(f"ash/{n:02}-again.png") == 1 for n in range(15))
    one = next(near for near in found.near if near.one.split != near.other.split)
    assert f"{one.one.path} and {one.other.path}: 0 of 256 bits apart, in two splits" in listed


def test_blank_pictures_are_named_and_not_paired(tmp_path: Path) -> None:
    for label in ("ash", "oak"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for n in range(5):
            Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"set/{label}/{n}.png")
        Image.new("RGBA", (40, 40), (255, 255, 255, 0)).save(tmp_path / f"set/{label}/sprite.png")
    found = explore(tmp_path / "set", [], tmp_path / "home")
    assert [sample.path for sample in found.blank] == ["ash/sprite.png", "oak/sprite.png"]
    assert found.near == ()
    assert [note for note in notes(found) if note.startswith("2 pictures are blank, of one colour alone, such as ash/sprite.png")]
    assert not [note for note in notes(found) if "merge the labels" in note]
    page = check_page(render(found))
    listed = page.text.partition("Blank pictures")[2].partition("What stands out")[0]
    assert "ash/sprite.png" in listed
    assert "oak/sprite.png" in listed
    assert figures(found)[1] == ("Each label", "6", "images: all labels have as many")

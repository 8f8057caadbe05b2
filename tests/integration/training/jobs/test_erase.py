"""`visor data erase` on a real run: afterwards no file below home shows the picture, and training without it goes on."""

import base64
import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from archives import signing
from archives.files import sha256
from archives.opening import opened
from handlers.decode import decode
from handlers.spec import Limits
from tests.integration.running import BeginHome
from tests.unit.configs import make_config
from training import runs
from training.config import Config
from training.data.duplicates import VIEW, hash_pixels
from training.data.eda import explore
from training.data.manifest import Manifest, Sample
from training.erasure.picture import ALIKE_BITS
from training.errors import DataError, RunError
from training.jobs.archive import archive
from training.jobs.erase import Erasure, ErasurePlaces, erase
from training.jobs.evaluate import evaluate_run
from training.jobs.train import train
from training.reports import data_set
from visor import cli

SPLITS = ("train", "val", "calibration", "test")


def blots(seed: int) -> Image.Image:
    """A picture like no other: a few large squares of colour."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells.repeat(8, axis=0).repeat(8, axis=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, begin_home: BeginHome) -> Path:
    """A home with a finished run and a page on its data, the images beside it, and a signed archive."""
    place = tmp_path_factory.mktemp("erase")
    for n in range(56):
        split, label = SPLITS[n % 4], ("damaged", "intact")[n // 4 % 2]
        folder = place / "images" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        blots(n).save(folder / f"person {n}.png")
    home = begin_home(place / "runs")
    train(config(place), home / "roofs", home)
    file = place / "roofs.yaml"
    shutil.copy(home / "roofs" / runs.CONFIG, file)
    (home / "reports").mkdir()
    data_set.write(explore(file, [], home), home / "reports/data.html")
    private, _ = signing.make_keys(place / "keys")
    archive(home / "roofs", place / "store", private)
    return place


def config(place: Path) -> Config:
    data = {"source": "imagefolder", "path": place / "images"}
    fit = {"phases": [{"epochs": 1, "learning_rate": 0.01}]}
    return make_config(name="roofs", data=data, decision={"positive": ("damaged",)}, fit=fit, explanation_images=4)


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; its records say where the images are by now."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    run = copy / "runs/roofs"
    record = runs.read_record(run)
    runs.write_record(run, record.model_copy(update={"dataset_root": copy / "images"}))
    return copy


def sample_of(place: Path, split: str, shown: bool = False) -> Sample:
    """A sample of a split; `shown`: one whose picture the run's report shows."""
    report = (place / "runs/roofs" / runs.REPORT).read_text()
    samples = Manifest.read(place / "runs/roofs" / runs.MANIFEST).samples
    return next(one for one in samples if one.split == split and (not shown or one.path in report))


def run_erase(place: Path, what: str | Path, write: bool = True, originals: bool = True) -> Erasure:
    [erased] = erase([str(what)], ErasurePlaces(place / "runs", place / "store", (), originals), write)
    return erased


def contents(place: Path) -> dict[Path, str]:
    return {path: sha256(path) for path in place.rglob("*") if path.is_file() and path.suffix not in {".db", ".lock"}}


def pictures_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every encoded picture below a folder: files, and those that pages and texts embed, as this test reads them."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.suffix in {".png", ".jpg", ".gif", ".webp"}:
            yield str(path), data
        for encoded in re.findall(rb"base64,([A-Za-z0-9+/=]+)", data):
            yield f"{path} embeds", base64.b64decode(encoded)


def rows_in(folder: Path) -> Iterator[np.ndarray]:
    """Every decoded picture that an array below a folder holds."""
    for path in folder.rglob("*.npy"):
        yield from np.load(path)


def shows(data: bytes, wanted: np.ndarray) -> bool:
    """Whether a picture is another one at another size: by eye, that is by its pixels at 12 x 12, and by perceptual hash."""
    if data.startswith(b"GIF89a") and len(data) < 64:
        return False  # the single pixel that stands where it was
    with Image.open(io.BytesIO(data)) as image:
        small = np.asarray(image.convert("RGB").resize((12, 12), Image.Resampling.BOX), np.float64)
    by_hash = int(np.bitwise_count(hash_pixels(decode(data, VIEW, Limits())) ^ hash_pixels(wanted)[0]).sum(axis=1).min())
    reference = np.asarray(Image.fromarray(wanted).resize((12, 12), Image.Resampling.BOX), np.float64)
    return float(np.abs(small - reference).mean()) < 20 or by_hash <= ALIKE_BITS


@pytest.mark.parametrize("split", SPLITS)
def test_no_file_below_home_shows_or_names_it_afterwards(place: Path, split: str) -> None:
    sample = sample_of(place, split, shown=split == "test")
    data = (place / "images" / sample.path).read_bytes()
    wanted = decode(data, VIEW, Limits())
    home = place / "runs"
    before = [name for name, one in pictures_in(home) if shows(one, wanted)]
    assert before or split != "test", "the search of this test finds what is there"
    assert any(
        np.abs(row.astype(float) - np.asarray(Image.open(io.BytesIO(data)).resize((16, 16), Image.Resampling.BOX))).mean() < 12
        for row in rows_in(home)
    )

    erased = run_erase(place, place / "images" / sample.path)
    assert (erased.sha256, erased.paths) == (hashlib.sha256(data).hexdigest(), (sample.path,))
    assert [name for name, one in pictures_in(home) if shows(one, wanted)] == []
    assert list(rows_in(home)) == []
    assert not (place / "images" / sample.path).exists()
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert data not in content, path
            assert sample.sha256.encode() not in content, path
            if path.suffix != ".npz":
                assert Path(sample.path).name.encode() not in content, path
    for path in home.rglob("*.npz"):
        with np.load(path) as arrays:
            held = {str(value) for array in arrays.values() if array.dtype.kind in "US" for value in array.reshape(-1)}
        assert not held & {sample.path, str(sample.sha256.encode())}, path
    again = run_erase(place, erased.sha256)
    assert {finding.action for finding in again.findings} <= {"learnt"}


def test_training_without_it_goes_on(place: Path) -> None:
    sample = sample_of(place, "train")
    run_erase(place, place / "images" / sample.path)
    home = place / "runs"
    left = Manifest.read(home / "roofs" / runs.MANIFEST)
    assert len(left.samples) == 55
    assert evaluate_run(home / "roofs")["images"] == 14  # what is left of the run still works
    with pytest.raises(RunError, match="--fresh"):
        train(config(place), home / "roofs", home)
    train(config(place), home / "roofs", home, fresh=True)
    assert runs.is_finished(home / "roofs")
    assert Manifest.read(home / "roofs" / runs.MANIFEST) == left
    again = run_erase(place, sample.sha256)
    # The old archive alone has learnt from it, and no new weights.
    assert [(finding.action, Path(finding.place).suffix) for finding in again.findings] == [("learnt", ".mar")]


def test_a_dry_run_changes_nothing_and_finds_the_same(place: Path) -> None:
    sample = sample_of(place, "test", shown=True)
    before = contents(place)
    dry = run_erase(place, sample.sha256[:10], write=False)
    after = contents(place)
    assert {path for path in after if before.get(path) != after[path]} <= {
        path for path in after if path.name.startswith("phash-")
    }
    assert run_erase(place, sample.sha256[:10]).findings == dry.findings
    rewritten = {Path(one.place).name for one in dry.findings if one.action == "rewrite"}
    assert rewritten >= {"report.html", "manifest.json", "predictions.npz"}
    both = [one.place for one in dry.findings if one.action == "rewrite" and one.place.endswith("report.html")]
    assert len(both) >= 2  # the run's, and MLflow's copies


def test_a_page_on_the_data_loses_it_and_keeps_the_others(place: Path) -> None:
    page = place / "runs/reports/data.html"
    samples = Manifest.read(place / "runs/roofs" / runs.MANIFEST).samples
    shown = [sample.path for sample in samples if sample.path in page.read_text()]
    assert len(shown) > 2
    run_erase(place, place / "images" / shown[0])
    assert [path for path in shown if path in page.read_text()] == shown[1:]


def test_an_archive_is_named_and_stays_as_it_was_signed(place: Path) -> None:
    before = contents(place / "store")
    for split, said in (("train", "have learnt from it"), ("val", "were chosen by it"), ("test", "were measured on it")):
        erased = run_erase(place, sample_of(place, split).sha256)
        [found] = [one for one in erased.findings if one.place.endswith(".mar")]
        assert (found.action, said in found.what) == ("learnt", True)
        [run] = [one for one in erased.findings if one.place == str(place / "runs/roofs")]
        assert (run.action, said in run.what) == ("learnt", True)
    assert contents(place / "store") == before
    with zipfile.ZipFile(place / "store/roofs/1/roofs.mar") as mar:
        assert runs.REFERENCE in mar.namelist()
        assert runs.REFERENCE_ROWS not in mar.namelist()
    with opened(place / "store/roofs/1/roofs.mar", place / "keys/visor.pub"):
        pass


def test_an_archive_whose_run_is_gone_is_known_by_its_weights(place: Path) -> None:
    sample = sample_of(place, "train")
    shutil.rmtree(place / "runs/roofs")
    shutil.rmtree(place / "runs/mlartifacts")
    [found] = [one for one in run_erase(place, sample.sha256).findings if one.place.endswith(".mar")]
    assert found.what.startswith("its weights: has learnt from it; it is signed")


def test_features_of_the_calibration_split_go_by_their_rows(place: Path) -> None:
    file = place / "runs/roofs" / runs.REFERENCE
    before = np.load(file)["features"]
    samples = Manifest.read(place / "runs/roofs" / runs.MANIFEST).samples_of("calibration")
    assert len(before) == len(samples) == 14
    run_erase(place, samples[3].sha256)
    np.testing.assert_array_equal(np.load(file)["features"], np.delete(before, 3, axis=0))
    listed = json.loads((place / "runs/roofs" / runs.REFERENCE_ROWS).read_text())
    assert listed == [None if n == 3 else sample.sha256 for n, sample in enumerate(samples)]
    run_erase(place, samples[8].sha256)
    np.testing.assert_array_equal(np.load(file)["features"], np.delete(before, [3, 8], axis=0))
    answers = np.load(place / "runs/roofs" / runs.PREDICTIONS)
    assert answers["calibration_paths"].tolist() == [sample.path for n, sample in enumerate(samples) if n not in {3, 8}]
    assert len(answers["calibration_logits"]) == len(answers["calibration_truth"]) == 12


def test_what_looks_alike_is_shown_and_stays(place: Path) -> None:
    sample = sample_of(place, "val")
    original = place / "images" / sample.path
    with Image.open(original) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(place / "runs/mirrored.png")
        image.save(place / "runs/again.jpg", quality=80)
    Image.new("RGB", (48, 48)).save(place / "runs" / f"{original.stem}-heatmap.png")
    shown = {Path(one.place).name: one.what for one in run_erase(place, original).findings if one.action == "alike"}
    assert set(shown) == {"mirrored.png", "again.jpg", f"{original.stem}-heatmap.png"}
    assert shown["again.jpg"].startswith("looks like it")
    assert shown[f"{original.stem}-heatmap.png"].startswith("is named after it")
    assert run_erase(place, place / "runs/again.jpg").findings
    assert not (place / "runs/again.jpg").exists()


def test_originals_outside_of_home_are_left_unless_asked_for(place: Path) -> None:
    sample = sample_of(place, "train")
    original = place / "images" / sample.path
    dry = run_erase(place, sample.sha256, originals=False, write=False)
    assert [one.place for one in dry.findings if one.action == "left"] == [str(original.resolve())]
    run_erase(place, sample.sha256, originals=False)
    assert original.is_file()


def test_scores_lose_their_row(place: Path) -> None:
    sample, other = sample_of(place, "test"), sample_of(place, "val")
    table = pa.table({"path": ["a.png", "b.png"], "digest": [sample.sha256, other.sha256], "confidence": [0.5, 0.25]})
    pq.write_table(table, place / "scores.parquet")
    (place / "more").mkdir()
    (place / "scores.parquet").rename(place / "more/scores.parquet")
    erase([sample.sha256], ErasurePlaces(place / "runs", place / "store", (place / "more",)), write=True)
    assert pq.read_table(place / "more/scores.parquet").to_pydict() == {
        "path": ["b.png"],
        "digest": [other.sha256],
        "confidence": [0.25],
    }


def test_what_is_no_picture_of_anybody_s_is_said(place: Path) -> None:
    for what in ("no such file.png", "123", "0123456789"):
        with pytest.raises(DataError):
            run_erase(place, what)
    assert run_erase(place, "0" * 64, write=False).paths == ()


def test_the_command_says_what_it_would_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = sample_of(place, "train")
    flags = ["--home", str(place / "runs"), "--store", str(place / "store")]
    assert cli.main(["data", "erase", sample.sha256, *flags]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{sample.sha256} ({sample.path})\n")
    assert f"  rewrite    {place.resolve()}/runs/roofs/manifest.json  its line\n" in said.out
    assert "nothing was changed; the same command with --yes does it" in said.err
    assert cli.main(["data", "erase", sample.sha256, *flags, "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["pictures"][0]["sha256"]) == (True, sample.sha256)
    assert cli.main(["data", "erase", sample.sha256, *flags]) == 0
    assert "learnt" in capsys.readouterr().out


def test_a_row_that_cannot_be_told_is_left_until_the_run_is_evaluated(place: Path) -> None:
    run = place / "runs/roofs"
    samples = Manifest.read(run / runs.MANIFEST).samples_of("calibration")
    (run / runs.REFERENCE_ROWS).unlink()
    before = (run / runs.REFERENCE).read_bytes()
    left = [one for one in run_erase(place, samples[3].sha256).findings if one.action == "left"]
    assert [Path(one.place).name for one in left] == [runs.REFERENCE]
    assert "`visor evaluate` of the run writes the file anew without it" in left[0].what
    assert (run / runs.REFERENCE).read_bytes() == before
    evaluate_run(run)
    assert len(np.load(run / runs.REFERENCE)["features"]) == 13
    assert samples[3].sha256 not in (run / runs.REFERENCE_ROWS).read_text()

"""One digest that knows every byte, name, label and split, and neither the order of files nor their place."""

import hashlib
import json
import logging
import random
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.config import DataConfig, SplitConfig
from training.data.manifest import Manifest, Sample, build, verify
from training.errors import DataChanged, DataError

Plant = Callable[..., Path]
ROOT = Path(__file__).parents[4]
SPLITS = SplitConfig(val=0.2, calibration=0.2, test=0.2)


def config(root: Path, group_pattern: str | None = None) -> DataConfig:
    return DataConfig(source="imagefolder", path=root, splits=SPLITS, group_pattern=group_pattern)


@pytest.fixture
def root(plant: Plant) -> Path:
    images = [f"{label}/{n}.png" for label in ("ash", "oak") for n in range(10)]
    return plant(*images, "masks/oak/3.png")


@pytest.fixture
def manifest(root: Path) -> Manifest:
    return build(root, config(root))


def test_samples_say_what_the_files_are(root: Path, manifest: Manifest) -> None:
    assert manifest.labels == ("ash", "oak")
    assert [sample.path for sample in manifest.samples] == sorted(
        f"{label}/{n}.png" for label in ("ash", "oak") for n in range(10)
    )
    sample = next(sample for sample in manifest.samples if sample.path == "oak/3.png")
    data, mask = (root / "oak/3.png").read_bytes(), (root / "masks/oak/3.png").read_bytes()
    assert (sample.size, sample.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (sample.mask, sample.mask_sha256) == ("masks/oak/3.png", hashlib.sha256(mask).hexdigest())
    assert {split: len(manifest.samples_of(split)) for split in ("train", "val", "calibration", "test")} == {
        "train": 8, "val": 4, "calibration": 4, "test": 4,
    }  # fmt: skip


def test_digest_is_what_its_docstring_says() -> None:
    sample = Sample("oak/é.png", 3, "a" * 64, "oak", "test", "g")
    line = f'["oak/\\u00e9.png",3,"{"a" * 64}","oak","test","g",null,null]\n'
    assert Manifest(("oak",), (sample,)).digest == hashlib.sha256(line.encode()).hexdigest()


def test_digest_does_not_know_order_or_place(root: Path, manifest: Manifest, tmp_path: Path) -> None:
    samples = list(manifest.samples)
    random.Random(0).shuffle(samples)
    assert Manifest(manifest.labels, tuple(samples)).digest == manifest.digest
    moved = shutil.copytree(root, tmp_path / "else" / "where")
    assert build(moved, config(moved)) == manifest


def test_digest_knows_a_byte(root: Path, manifest: Manifest) -> None:
    for name in ("oak/3.png", "masks/oak/3.png"):
        data = bytearray((root / name).read_bytes())
        data[-1] ^= 1
        (root / name).write_bytes(data)
        assert build(root, config(root)).digest != manifest.digest
        data[-1] ^= 1
        (root / name).write_bytes(data)
    assert build(root, config(root)).digest == manifest.digest


@pytest.mark.parametrize(("before", "after"), [("oak/3.png", "oak/33.png"), ("oak/3.png", "ash/33.png")])
def test_digest_knows_names_and_labels(root: Path, manifest: Manifest, before: str, after: str) -> None:
    (root / before).rename(root / after)
    assert build(root, config(root)).digest != manifest.digest


@pytest.mark.parametrize(
    "change",
    [{"path": "a"}, {"size": 1}, {"sha256": "1" * 64}, {"label": "oak"}, {"split": "val"}, {"group": "g"}, {"mask": None},
     {"mask_sha256": "1" * 64}],
)  # fmt: skip
def test_digest_knows_every_field(manifest: Manifest, change: dict[str, object]) -> None:
    index = next(i for i, sample in enumerate(manifest.samples) if {**vars(sample), **change} != vars(sample))
    samples = [replace(s, mask="m", mask_sha256="0" * 64) for s in manifest.samples]
    changed = [replace(s, **change) if i == index else s for i, s in enumerate(samples)]  # type: ignore[arg-type]
    assert Manifest(manifest.labels, tuple(changed)).digest != Manifest(manifest.labels, tuple(samples)).digest


def test_groups_stay_together(plant: Plant) -> None:
    root = plant(*(f"{label}/{plant_no}-{n}.png" for label in ("ash", "oak") for plant_no in range(20) for n in range(3)))
    manifest = build(root, config(root, r"([a-z]+/\d+)-"))
    splits: dict[str | None, set[str]] = {}
    for sample in manifest.samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert len(splits) == 40
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["oak/1.png"], "holds one label, 'oak'"),
        ([".hidden/1.png"], "holds no label"),
        (["oak/1.png", "ash/notes.png/x.png"], "too few images"),
    ],
)
def test_trees_that_cannot_be_trained_on_are_named(plant: Plant, paths: list[str], message: str) -> None:
    root = plant(*paths)
    with pytest.raises(DataError, match=message):
        build(root, config(root))


def test_a_folder_around_the_data_set_is_seen(plant: Plant) -> None:
    root = plant(*(f"archive/{split}/{label}/1.png" for split in ("train", "test") for label in ("ash", "oak")))
    with pytest.raises(DataError, match=r"holds one label, 'archive'.* \(or data\.path .*archive, which holds test, train\)"):
        build(root, config(root))


def run_documented(root: Path, names: str = "") -> None:
    """Run the lines of docs/data.md that make folders of a table, with other names of table, folder and columns put in."""
    section = (ROOT / "docs/data.md").read_text().partition("## A table of labels")[2]
    script = re.search("```python\n(.*?)```", section, re.DOTALL)
    assert script is not None
    standing = '"labels.csv", "images", "file", "label"'
    assert standing in script[1]
    if names:
        assert names in section.partition("```")[0]  # the text says to put them in
    lines = script[1].replace(standing, names or standing)
    subprocess.run([sys.executable, "-c", lines], cwd=root, check=True)


@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_table_of_labels_is_seen_and_the_documented_lines_make_folders_of_it(
    plant: Plant, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{n:02}.png" for n in range(16)]
    root = plant(*(f"{folder}{name}" for name in names))
    labels = {name: ("oak", "ash")[n % 2] for n, name in enumerate(names)}
    (root / "labels.csv").write_text("\ufefffile,label\n" + "".join(f"{name}, {label} \n" for name, label in labels.items()))
    with pytest.raises(DataError, match=r"labels\.csv may say the labels: docs/data\.md, A table of labels, makes folders of it"):
        build(root, config(root))
    assert "1 file is not an image and is left out: 1 .csv" in caplog.messages  # and need not be saved as a picture
    if folder:
        run_documented(root)
        made = build(root / "photos", config(root / "photos"))
        assert {Path(sample.path).name: sample.label for sample in made.samples} == labels


@pytest.mark.parametrize("suffix", [".png", ""])
@pytest.mark.parametrize("beside", [(), ("test/1.png",), ("test/ash/1.png", "test/oak/1.png")], ids=["alone", "test", "labelled"])
def test_a_competition_s_table_beside_its_folder_is_seen(plant: Plant, suffix: str, beside: tuple[str, ...]) -> None:
    labels = {f"{n:02}": ("oak", "ash")[n % 2] for n in range(16)}
    root = plant(*(f"train/{name}.png" for name in labels), *beside)
    (root / "train.csv").write_text("id,label\n" + "".join(f"{name}{suffix},{label}\n" for name, label in labels.items()))
    (root / "sample_submission.csv").write_text("id,label\n")
    with pytest.raises(DataError, match=r"train/LABEL/.*/train\.csv may say the labels: docs/data\.md, A table of labels"):
        build(root, config(root))
    run_documented(root, '"train.csv", "train", "id", "label"')
    made = build(root / "photos", config(root / "photos"))
    assert {Path(sample.path).stem: sample.label for sample in made.samples} == labels


def test_an_empty_label_is_named(root: Path) -> None:
    (root / "elm").mkdir()
    with pytest.raises(DataError, match="holds no image of label 'elm'"):
        build(root, config(root))


def test_a_label_of_files_that_are_not_read_says_which(root: Path) -> None:
    """Row 14."""
    (root / "elm").mkdir()
    for name in ("1.gif", "2.gif", "3.svg"):
        (root / "elm" / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image of label 'elm' \(but 2 \.gif, 1 \.svg, which are not read\); fill"):
        build(root, config(root))


def test_a_file_that_cannot_be_read_is_named(root: Path) -> None:
    (root / "oak" / "gone.png").symlink_to(root / "oak" / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png is a link that leads to .*nowhere\.png: No such file"):
        build(root, config(root))


def test_twins_in_two_splits_are_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(1, 10):
        shutil.copy(root / "oak/0.png", root / f"oak/{n}.png")
    with caplog.at_level(logging.WARNING):
        build(root, config(root))
    assert "1 image lies in several splits under other names" in caplog.text


def test_write_and_read(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    manifest.write(path)
    assert Manifest.read(path) == manifest
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "set"] == ["manifest.json"]
    assert json.loads(path.read_text())["digest"] == manifest.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.update(format=2), "format"),
        (lambda tree: tree.update(extra=1), "extra"),
        (lambda tree: tree.pop("labels"), "labels"),
        (lambda tree: tree["samples"][0].update(size="10"), r"samples\.0\.size"),
        (lambda tree: tree["samples"][0].update(sha256="xyz"), r"samples\.0\.sha256"),
        (lambda tree: tree["samples"][0].update(split="dev"), r"samples\.0\.split"),
        (lambda tree: tree["samples"][0].update(path="../../etc/passwd"), "does not lie below"),
        (lambda tree: tree["samples"][0].update(path="/etc/passwd"), "does not lie below"),
        (lambda tree: tree["samples"][0].update(label="elm"), "says digest"),
        (lambda tree: tree["samples"].pop(), "says digest"),
        (lambda tree: tree["samples"].reverse(), "sorted"),
        (lambda tree: tree["labels"].reverse(), "sorted"),
    ],
)
def test_read_is_strict(manifest: Manifest, tmp_path: Path, change: Callable[[dict[str, object]], None], message: str) -> None:
    path = tmp_path / "manifest.json"
    manifest.write(path)
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message):
        Manifest.read(path)


def test_read_names_what_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.json is not there; `visor data manifest CONFIG` writes a manifest"):
        Manifest.read(tmp_path / "missing.json")
    (tmp_path / "half.json").write_text('{"format": 1, "sam')
    with pytest.raises(DataError, match=r"half\.json is not a manifest, a file of JSON; `visor data manifest CONFIG` writes one"):
        Manifest.read(tmp_path / "half.json")
    (tmp_path / "config.yaml").write_text("name: photos\n")
    with pytest.raises(DataError, match=r"is not a manifest, a file of JSON; `visor data manifest .*/config\.yaml` writes one"):
        Manifest.read(tmp_path / "config.yaml")


def test_verify_accepts_the_same_files(root: Path, manifest: Manifest, tmp_path: Path) -> None:
    verify(root, manifest)
    verify(shutil.copytree(root, tmp_path / "copy"), manifest)


def test_verify_knows_files_whose_accents_are_spelt_in_another_way(plant: Plant, tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "fêlé") for form in ("NFC", "NFD"))
    paths = [f"{nfc}/{nfc}{n}.png" for n in range(10)] + [f"oak/{n}.png" for n in range(10)] + [f"masks/{nfc}/{nfc}3.png"]
    root = plant(*paths)
    manifest = build(root, config(root))
    copy = tmp_path / "copy"
    for path in paths:
        place = copy / path.replace(nfc, nfd)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, place)
    verify(copy, manifest)
    verify(root, build(copy, config(copy)))
    (copy / f"{nfd}/{nfd}1.png").write_bytes(b"")
    with pytest.raises(DataChanged, match=rf"\(1 changed, 0 missing, 0 extra\): changed {nfc}/{nfc}1\.png"):
        verify(copy, manifest)


def test_verify_names_every_difference(root: Path, manifest: Manifest) -> None:
    (root / "oak/1.png").unlink()
    (root / "ash/2.png").rename(root / "ash/new.png")
    data = bytearray((root / "oak/5.png").read_bytes())
    data[40] ^= 1
    (root / "oak/5.png").write_bytes(data)
    (root / "masks/oak/3.png").write_bytes(b"")
    with pytest.raises(DataChanged) as error:
        verify(root, manifest)
    sentence = str(error.value)
    assert "differs from the manifest in 5 files (2 changed, 2 missing, 1 extra)" in sentence
    for what in ("changed masks/oak/3.png", "changed oak/5.png", "missing oak/1.png", "missing ash/2.png", "extra ash/new.png"):
        assert what in sentence


def test_verify_names_twenty_and_counts_the_rest(plant: Plant, root: Path, manifest: Manifest) -> None:
    plant(*(f"oak/new{n:02d}.png" for n in range(25)))
    with pytest.raises(DataChanged, match=r"in 25 files \(0 changed, 0 missing, 25 extra\).*extra oak/new19\.png; and 5 more"):
        verify(root, manifest)


def test_verify_names_a_lost_mask(root: Path, manifest: Manifest) -> None:
    (root / "masks/oak/3.png").unlink()
    with pytest.raises(DataChanged, match=r"missing masks/oak/3\.png"):
        verify(root, manifest)


def test_an_image_of_several_names_counts_once(root: Path, manifest: Manifest, caplog: pytest.LogCaptureFixture) -> None:
    """Names in the folder, as in a theme of icons; a manifest that lists them all, as of earlier versions, still holds."""
    for name, target in (
        ("oak/a-first.png", "9.png"), ("oak/second.png", "a-first.png"), ("oak/of-ash.png", "../ash/1.png"),
        ("oak/of-ash-again.png", "../ash/1.png"),
    ):  # fmt: skip
        (root / name).symlink_to(target)
    again = build(root, config(root))
    assert "3 links are second names of images of their labels, and are left out, such as 'oak/a-first.png'" in caplog.messages
    paths = {sample.path for sample in again.samples}
    # The file itself stays, and of two links to a file elsewhere the first; under another label it is an image of that one, too.
    assert paths == {sample.path for sample in manifest.samples} | {"oak/of-ash-again.png"}
    verify(root, again)
    of = next(sample for sample in again.samples if sample.path == "oak/9.png")
    older = sorted([*again.samples, replace(of, path="oak/second.png")], key=lambda sample: sample.path)
    verify(root, replace(again, samples=tuple(older)))
    (root / "oak/9.png").rename(root / "oak/99.png")
    (root / "oak/a-first.png").unlink()
    (root / "oak/a-first.png").symlink_to("99.png")
    with pytest.raises(DataChanged, match=r"\(0 changed, 1 missing, 1 extra\): extra oak/99\.png; missing oak/9\.png"):
        verify(root, again)


def test_an_empty_manifest_is_not_to_be_made_anew(tmp_path: Path) -> None:
    """What is to be checked against would be what is checked."""
    (tmp_path / "empty.json").touch()
    with pytest.raises(DataError, match=r"empty\.json is empty, as where a copy was cut short; bring it back") as caught:
        Manifest.read(tmp_path / "empty.json")
    assert "data manifest" not in str(caught.value)

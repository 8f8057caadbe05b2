"""Each way in which an image can differ between two versions gets its name, and only that."""

import json
import random
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.config import DataConfig, SplitConfig
from training.data.manifest import Manifest, build, verify
from training.data.versions import KINDS, Change, Entry, compare, read_version, read_versions
from training.errors import DataError
from visor import cli

Plant = Callable[..., Path]
IMAGES = [f"{label}/{n}.png" for label in ("ash", "oak") for n in range(10)]


def entry(path: str, digest: str = "", split: str | None = "train", mask: str | None = None) -> Entry:
    return Entry(path, digest or path, path.partition("/")[0], split, mask)


A = entry("ash/1.png")


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        (A, A, None),
        (None, A, ("added",)),
        (A, None, ("removed",)),
        (A, replace(A, sha256="other"), ("changed",)),
        (A, replace(A, path="ash/2.png"), ("moved",)),
        (A, replace(A, path="oak/1.png", label="oak"), ("relabelled",)),
        (A, replace(A, path="oak/2.png", label="oak"), ("moved", "relabelled")),
        (A, replace(A, split="test"), ("resplit",)),
        (A, replace(A, split=None), None),
        (A, replace(A, path="train/ash/1.png", split="test"), ("moved", "resplit")),
        (A, replace(A, sha256="other", split="val"), ("changed", "resplit")),
        (A, replace(A, mask_sha256="m"), ("remasked",)),
    ],
)
def test_every_kind(old: Entry | None, new: Entry | None, kinds: tuple[str, ...] | None) -> None:
    before, after = ([one] if one else [] for one in (old, new))
    assert compare(before, after) == ([Change(kinds, old, new)] if kinds else [])


def test_a_name_that_is_taken_by_another_image_is_a_change() -> None:
    """Two images that swap names: at each path there is another picture, which is what a reader of the files sees."""
    one, other = entry("ash/1.png", "x"), entry("ash/2.png", "y")
    changes = compare([one, other], [replace(one, sha256="y"), replace(other, sha256="x")])
    assert [change.kinds for change in changes] == [("changed",), ("changed",)]


def test_twins_are_paired_by_label_and_split_first() -> None:
    old = [entry("ash/1.png", "x", "train"), entry("ash/2.png", "x", "test"), entry("oak/1.png", "x", "test")]
    new = [entry("oak/9.png", "x", "test"), entry("ash/8.png", "x", "test"), entry("ash/7.png", "x", "train")]
    assert {(change.old.path, change.new.path) for change in compare(old, new) if change.old and change.new} == {
        ("ash/1.png", "ash/7.png"), ("ash/2.png", "ash/8.png"), ("oak/1.png", "oak/9.png"),
    }  # fmt: skip
    changes = compare(old[:2], new[:1])
    assert sorted(change.kinds for change in changes) == [("moved", "relabelled", "resplit"), ("removed",)]


def test_random_changes_are_all_found_and_turned_round() -> None:
    """Against the bookkeeping of who made the changes; the way back has the same changes with their ends swapped."""
    rng = random.Random(0)
    old, new, made = [], [], Counter[str]()
    for n in range(300):
        one = entry(f"{rng.choice('abc')}/{n}.png", f"d{n}", rng.choice(["train", "test"]))
        what = rng.choice([*KINDS, "same"])
        made[what] += 1
        other = {
            "changed": replace(one, sha256=f"e{n}"),
            "moved": replace(one, path=f"{one.label}/m{n}.png"),
            "relabelled": replace(one, path=f"z/{n}.png", label="z"),
            "resplit": replace(one, split="val"),
            "remasked": replace(one, mask_sha256="m"),
            "same": one,
        }.get(what)
        old += [one] if what != "added" else []
        new += [one] if what == "added" else [other] if other else []
    rng.shuffle(new)
    changes = compare(old, new)
    del made["same"]
    assert Counter(kind for change in changes for kind in change.kinds) == made
    swap = {"added": "removed", "removed": "added"}
    back = {(tuple(swap.get(kind, kind) for kind in change.kinds), change.new, change.old) for change in compare(new, old)}
    assert back == {(change.kinds, change.old, change.new) for change in changes}


@pytest.fixture
def root(plant: Plant) -> Path:
    return plant(*IMAGES)


def listed(root: Path, seed: int = 0) -> Manifest:
    splits = SplitConfig(val=0.2, calibration=0.2, test=0.2)
    return build(root, DataConfig(source="imagefolder", path=root, splits=splits, seed=seed))


def test_a_version_is_a_manifest_a_run_or_a_folder(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    listed(root).write(run / "manifest.json")
    for one in (run, run / "manifest.json", root):
        for other in (run, run / "manifest.json", root):
            assert cli.main(["data", "diff", str(one), str(other)]) == 0
            assert capsys.readouterr().out == "20 images before, 20 after: no difference\n"


def test_the_command_shows_what_changed(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tmp_path / "before.json"
    listed(root).write(before)
    (root / "oak/0.png").rename(root / "ash/oak-0.png")
    shutil.copy(root / "oak/1.png", root / "oak/2.png")
    (root / "ash/3.png").unlink()
    assert cli.main(["data", "diff", str(before), str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "20 images before, 19 after: 1 removed, 1 changed, 1 moved, 1 relabelled"
    assert [line.split()[0].rstrip(",") for line in lines[1:-1]] == ["removed", "moved", "changed"]
    assert "ash/oak-0.png" in lines[2]
    assert cli.main(["data", "diff", str(before), str(root), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["old_images"], told["new_images"]) == (20, 19)
    assert told["counts"] == dict.fromkeys(KINDS, 0) | {"removed": 1, "changed": 1, "moved": 1, "relabelled": 1}
    moved = next(change for change in told["changes"] if "moved" in change["kinds"])
    assert (moved["old"]["label"], moved["new"]["label"]) == ("oak", "ash")
    assert moved["old"]["sha256"] == moved["new"]["sha256"]


def test_another_seed_splits_anew(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifests = [listed(root, seed) for seed in (0, 1)]
    for n, manifest in enumerate(manifests):
        manifest.write(tmp_path / f"{n}.json")
    assert cli.main(["data", "diff", str(tmp_path / "0.json"), str(tmp_path / "1.json"), "--json"]) == 1
    other = sum(one.split != two.split for one, two in zip(*(manifest.samples for manifest in manifests), strict=True))
    assert other > 0
    assert json.loads(capsys.readouterr().out)["counts"] == dict.fromkeys(KINDS, 0) | {"resplit": other}


def test_trouble_is_neither_same_nor_different(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for place, code in ((tmp_path / "nothing.json", "data.invalid"), (tmp_path / "empty", "data.invalid")):
        assert cli.main(["data", "diff", str(root), str(place)]) == 2
        assert capsys.readouterr().err.startswith(f"visor: {code}: {place}")
    with pytest.raises(DataError):
        read_version(tmp_path / "empty")


def test_a_long_list_is_cut(root: Path, capsys: pytest.CaptureFixture[str], plant: Plant) -> None:
    other = plant(*(f"elm/{n}.png" for n in range(50)), root="other")
    assert cli.main(["data", "diff", str(root), str(other)]) == 1
    shown = capsys.readouterr().out
    assert "and 30 more, which --json lists" in shown
    assert "20 images before, 50 after: 50 added, 20 removed" in shown


def test_labels_in_another_unicode_form_are_no_difference(tmp_path: Path, plant: Plant) -> None:
    """A manifest of an earlier version has labels as the file system spelt them."""
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = plant(*(f"{label}/{n}.png" for label in (nfd, "tea", "water") for n in range(8)))
    made = build(root, DataConfig(source="imagefolder", path=root, classes=(nfc, "tea")))
    samples = tuple(replace(sample, label=nfd if sample.label == nfc else sample.label) for sample in made.samples)
    old = replace(made, labels=(nfd, "tea"), samples=samples)
    old.write(tmp_path / "old.json")
    made.write(tmp_path / "new.json")
    verify(root, old)
    assert compare(*read_versions(tmp_path / "old.json", tmp_path / "new.json")) == []


def test_a_folder_is_read_as_the_manifest_beside_it_was(tmp_path: Path, plant: Plant) -> None:
    """A version that took train, test and extra for labels, as earlier ones did, has the same images as the folder."""
    root = plant(*(f"{top}/cat/{n}.png" for top in ("train", "test", "extra") for n in range(8)))
    with pytest.raises(DataError, match=r"data\.layout"):
        read_versions(root, root)
    listed = build(root, DataConfig(source="imagefolder", path=root, layout="labels"))
    listed.write(tmp_path / "labels.json")
    assert compare(*read_versions(tmp_path / "labels.json", root)) == []
    assert compare(*read_versions(root, tmp_path / "labels.json")) == []


def test_second_names_are_no_images_but_where_the_other_version_lists_them(root: Path) -> None:
    first = listed(root)
    (root / "oak/again.png").symlink_to("1.png")
    assert [one.path for one in read_version(root)] == [sample.path for sample in first.samples]
    manifest = root.parent / "older.json"
    one = next(sample for sample in first.samples if sample.path == "oak/1.png")
    more = sorted([*first.samples, replace(one, path="oak/again.png")], key=lambda sample: sample.path)
    replace(first, samples=tuple(more)).write(manifest)
    old, new = read_versions(manifest, root)
    assert compare(old, new) == []
    new, old = read_versions(root, manifest)
    assert compare(old, new) == []

"""The next version of a data set: what was there stays as it was, what people labelled comes to it, and the lineage says so."""

import hashlib
import io
import json
import logging
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.configs import make_config
from tests.unit.reviews import audit, line, write_export
from training import runs
from training.config import DataConfig, SplitConfig
from training.data import derived, sources
from training.data.manifest import Manifest
from training.data.versions import compare, read_version
from training.errors import ConfigError, DataChanged, DataError, FolderError, ReviewsInvalid
from training.jobs.erase import ErasurePlaces, erase
from training.jobs.from_reviews import Parent, from_reviews, read_parent
from visor.cli import main

SPLITS = SplitConfig(val=0.2, calibration=0.2, test=0.2)
GROUP = r"([a-z]+/[0-9]+)-"


def picture(seed: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pairs of pictures of two labels, and a mask."""
    folder = tmp_path / "trees"
    for number in range(40):
        label = ("ash", "oak")[number % 2]
        path = folder / label / f"{number // 4:02}-{number // 2 % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (folder / "masks/oak").mkdir(parents=True)
    (folder / "masks/oak/03-0.png").write_bytes(picture(99))
    return folder


@pytest.fixture
def parent(root: Path) -> Parent:
    data = DataConfig(source="imagefolder", path=root, splits=SPLITS, group_pattern=GROUP)
    return Parent(root, sources.build_manifest(root, data), data)


def config_of(folder: Path) -> DataConfig:
    """Other splits and groups than the first data set's: they have no say."""
    return DataConfig(source="imagefolder", path=folder, splits=SplitConfig(val=0.3), seed=5, group_pattern="(z)")


NEW = [picture(number, form) for number, form in ((100, "PNG"), (101, "JPEG"), (102, "WEBP"), (103, "BMP"), (104, "TIFF"))]


def test_what_was_there_stays_and_what_was_labelled_comes_to_it(tmp_path: Path, parent: Parent) -> None:
    lines = [line(one, "ash", reviewer="p1", time=f"2026-11-30T12:00:{at:02}Z") for at, one in enumerate(NEW[:4])]
    lines += [line(NEW[3], "ash", reviewer="p2", archive="b" * 64), audit(NEW[4], "oak", reviewer="p2", archive=None)]
    export = write_export(tmp_path / "export", lines, NEW)
    added = from_reviews(export, parent, tmp_path / "next", tmp_path / "home")
    before = {sample.path: sample for sample in parent.manifest.samples}
    assert {sample.path: sample for sample in added.manifest.samples if sample.path in before} == before
    new = {sample.sha256: sample for sample in added.manifest.samples if sample.path not in before}
    assert {sample.path for sample in new.values()} == {
        *(f"ash/reviewed/{digest(one)}{suffix}" for one, suffix in zip(NEW, (".png", ".jpg", ".webp", ".bmp"), strict=False)),
        f"oak/audits/{digest(NEW[4])}.tif",
    }
    assert [new[digest(one)].split in ("train", "val") for one in NEW] == [True] * 4 + [False]
    assert [sample.sha256 for sample in derived.audits_of(added.manifest)] == [digest(NEW[4])]
    changes = compare(read_version(parent.root, "labels"), read_version(tmp_path / "next"))
    assert Counter(kind for change in changes for kind in change.kinds) == {"added": 5}
    made = added.reviews
    assert made is not None
    assert (made.parent_digest, made.export_digest) == (
        parent.manifest.digest,
        digest((export / "reviews.jsonl").read_bytes()),
    )
    assert sum(made.taken.values()) == 5
    assert made.taken["sealed"] == 1
    assert made.left_out == {}
    assert made.reviewers == {"p1": 4, "p2": 2}
    assert made.archives == {"a" * 64: 4, "b" * 64: 1, "unknown": 1}
    assert (made.first, made.last) == (datetime(2026, 11, 30, 12, tzinfo=UTC), datetime(2026, 11, 30, 12, 0, 3, tzinfo=UTC))


def test_a_training_takes_its_splits_as_they_are(tmp_path: Path, parent: Parent, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    export = write_export(tmp_path / "export", [line(NEW[0], "ash"), audit(NEW[1], "oak")], NEW)
    added = from_reviews(export, parent, tmp_path / "next", tmp_path / "home")
    config = config_of(tmp_path / "next")
    root = sources.prepare(config, tmp_path / "home")
    assert sources.build_manifest(root, config) == added.manifest == Manifest.read(tmp_path / "next/manifest.json")
    assert derived.read_reviews(root) == (added.reviews,)
    sources.check(root, config)
    assert not caplog.records  # nor is anything said of the files that lie beside the images
    (root / "ash/reviewed/stranger.png").write_bytes(picture(7))
    with pytest.raises(DataChanged, match=r"extra ash/reviewed/stranger\.png"):
        sources.build_manifest(root, config)


def test_the_same_reviews_make_the_same_version_and_more_of_them_move_none(tmp_path: Path, parent: Parent) -> None:
    lines = [line(one, "ash") for one in NEW]
    few = from_reviews(write_export(tmp_path / "few", lines[:3], NEW), parent, tmp_path / "one", tmp_path / "home")
    again = from_reviews(write_export(tmp_path / "again", lines[:3], NEW), parent, tmp_path / "two", tmp_path / "home")
    more = from_reviews(write_export(tmp_path / "more", lines, NEW), parent, tmp_path / "three", tmp_path / "home")
    assert few.manifest.digest == again.manifest.digest != more.manifest.digest
    assert set(few.manifest.samples) < set(more.manifest.samples)


def test_versions_follow_each_other(tmp_path: Path, parent: Parent) -> None:
    export = write_export(tmp_path / "export", [line(NEW[0], "ash"), audit(NEW[1], "oak", reviewer="p2")], NEW)
    first = from_reviews(export, parent, tmp_path / "one", tmp_path / "home")
    more = [line(NEW[0], "ash"), audit(NEW[1], "oak", reviewer="p2"), line(NEW[2], "ash", reviewer="p3")]
    later = from_reviews(
        write_export(tmp_path / "later", more, NEW), read_parent(tmp_path / "one", [], tmp_path), tmp_path / "two", tmp_path
    )
    assert later.left_out == {"in_parent": 2}
    assert derived.read_reviews(tmp_path / "two") == (first.reviews, later.reviews)
    assert later.reviews is not None
    assert later.reviews.parent_digest == first.manifest.digest
    assert derived.audits_of(later.manifest) == derived.audits_of(first.manifest)
    said = [json.loads(one) for one in (tmp_path / "two/reviews.jsonl").read_text().splitlines()]
    assert [(one["reviewer"], one["why"], one["path"].split("/")[1]) for one in said] == [
        *sorted([("p1", "review", "reviewed"), ("p2", "audit", "audits")], key=lambda one: digest(NEW[one[0] == "p2"])),
        ("p3", "review", "reviewed"),
    ]


def test_what_is_no_gain_is_left_out_and_said(tmp_path: Path, parent: Parent, caplog: pytest.LogCaptureFixture) -> None:
    there = {split: parent.manifest.samples_of(split)[0] for split in ("train", "test")}
    same = (parent.root / there["train"].path).read_bytes()
    other = "oak" if there["train"].label == "ash" else "ash"
    copy = io.BytesIO()
    Image.open(parent.root / there["test"].path).resize((48, 48), Image.Resampling.BICUBIC).save(copy, "PNG")
    bad, gone = b"no picture", picture(300)
    lines = [line(same, other), line(copy.getvalue(), "oak"), line(bad, "oak"), line(gone, "oak")]
    lines += [line(NEW[0], None), line(NEW[1], "yew"), line(NEW[2], "oak")]
    export = write_export(tmp_path / "export", lines, [same, copy.getvalue(), bad, *NEW])
    added = from_reviews(export, parent, tmp_path / "next", tmp_path / "home")
    assert added.left_out == {
        "in_parent": 1, "like_held_out": 1, "unreadable": 1, "missing": 1, "skipped": 1, "unknown_label": 1,
    }  # fmt: skip
    assert added.reviews is not None
    assert added.reviews.left_out == added.left_out
    assert f"{digest(copy.getvalue())[:12]} as {there['test'].path} (test)" in caplog.text
    assert f"{there['train'].path} ({other})" in caplog.text
    assert f"the picture {digest(bad)[:12]} cannot be decoded" in caplog.text
    assert len(added.manifest.samples) == len(parent.manifest.samples) + 1


def test_nothing_new_writes_nothing(tmp_path: Path, parent: Parent) -> None:
    added = from_reviews(write_export(tmp_path / "export", [line(NEW[0], None)], NEW), parent, tmp_path / "next", tmp_path)
    assert (added.reviews, added.manifest, added.left_out) == (None, parent.manifest, {"skipped": 1})
    assert not (tmp_path / "next").exists()


def test_folders_of_splits_get_theirs(tmp_path: Path) -> None:
    root, number = tmp_path / "trees", 0
    for split in ("Training", "valid", "calibration", "test"):
        for label in ("ash", "oak"):
            for n in range(3):
                (root / split / label).mkdir(parents=True, exist_ok=True)
                (root / split / label / f"{n}.png").write_bytes(picture(number := number + 1))
    lines = [line(one, "oak") for one in NEW[:4]] + [audit(NEW[4], "ash")]
    parent = read_parent(root, [], tmp_path)
    added = from_reviews(write_export(tmp_path / "export", lines, NEW), parent, tmp_path / "next", tmp_path)
    tops = {"train": "Training", "val": "valid", "sealed": "sealed"}
    for sample in added.manifest.samples:
        if sample.sha256 in map(digest, NEW):
            top, label, kind, _ = sample.path.split("/")
            assert (top, label) == (tops[sample.split], sample.label)
            assert kind == ("audits" if sample.split == "sealed" else "reviewed")
    config = config_of(tmp_path / "next")
    assert sources.build_manifest(tmp_path / "next", config) == added.manifest


def test_a_run_is_taken_as_it_was_trained(tmp_path: Path, parent: Parent) -> None:
    run = tmp_path / "run"
    run.mkdir()
    runs.write_config(run, make_config(data=parent.data.model_dump(mode="json")))
    parent.manifest.write(run / runs.MANIFEST)
    known = {"mlflow_run_id": "r", "tracking_uri": "x", "git_commit": "unknown", "git_dirty": None, "versions": {}}
    digests = {"dataset_digest": parent.manifest.digest, "config_digest": "c"}
    runs.write_record(run, runs.Record(dataset_root=parent.root, **known, **digests))
    for named in (run, run / runs.MANIFEST):
        found = read_parent(named, [], tmp_path)
        assert (found.root, found.manifest, found.data) == (parent.root, parent.manifest, parent.data)
    with pytest.raises(ConfigError, match="leave --set out"):
        read_parent(run, ["data.seed=1"], tmp_path)
    moved = parent.root.rename(tmp_path / "moved")
    export = write_export(tmp_path / "export", [line(NEW[0], "oak")], NEW)
    with pytest.raises(DataChanged):
        from_reviews(export, found, tmp_path / "next", tmp_path)
    assert not (tmp_path / "next").exists()
    listed = read_parent(run / runs.MANIFEST, [], tmp_path, moved)
    assert from_reviews(export, listed, tmp_path / "next", tmp_path).reviews is not None


def test_a_config_or_a_folder_is_split_as_a_training_would(tmp_path: Path, parent: Parent) -> None:
    overrides = ["data.group_pattern=" + json.dumps(GROUP), "data.splits={val: 0.2, calibration: 0.2, test: 0.2}"]
    assert read_parent(parent.root, overrides, tmp_path).manifest == parent.manifest
    lone = tmp_path / "lone.json"
    parent.manifest.write(lone)
    with pytest.raises(DataError, match="name their folder by --images"):
        read_parent(lone, [], tmp_path)


def test_a_parent_that_is_not_there_may_have_been_meant_as_anything(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"runs/nope is not there; name a training config, a folder .*, a run's folder") as raised:
        read_parent(tmp_path / "runs/nope", [], tmp_path)
    assert "data.path" not in str(raised.value)


def test_a_version_is_never_changed(tmp_path: Path, parent: Parent) -> None:
    export = write_export(tmp_path / "export", [line(NEW[0], "oak")], NEW)
    (tmp_path / "next").mkdir()
    with pytest.raises(FolderError, match="a version is never changed"):
        from_reviews(export, parent, tmp_path / "next", tmp_path)


def test_a_changed_image_of_the_parent_is_no_version(tmp_path: Path, parent: Parent) -> None:
    export = write_export(tmp_path / "export", [line(NEW[0], "oak")], NEW)
    (parent.root / parent.manifest.samples[0].path).write_bytes(picture(500))
    with pytest.raises(DataChanged):
        from_reviews(export, parent, tmp_path / "next", tmp_path)
    assert not (tmp_path / "next").exists()


def test_what_is_no_version_is_said(tmp_path: Path, parent: Parent) -> None:
    export = write_export(tmp_path / "export", [line(NEW[0], "oak")], NEW)
    with pytest.raises(ReviewsInvalid):
        from_reviews(tmp_path, parent, tmp_path / "next", tmp_path)
    from_reviews(export, parent, tmp_path / "next", tmp_path)
    chosen = DataConfig(source="imagefolder", path=tmp_path / "next", top_classes=2)
    with pytest.raises(DataError, match=r"leave data\.classes and data\.top_classes out"):
        sources.build_manifest(tmp_path / "next", chosen)
    (tmp_path / "next/version.json").write_text('{"format": 1, "reviews": [{}]}')
    with pytest.raises(DataError, match=r"version\.json is not what `visor data from-reviews` writes: reviews\.0\.parent_digest"):
        derived.read_reviews(tmp_path / "next")


def test_an_erased_picture_is_gone_from_a_version(tmp_path: Path, parent: Parent) -> None:
    lines = [line(NEW[0], "oak"), line(NEW[1], "oak")]
    made = from_reviews(write_export(tmp_path / "export", lines, NEW), parent, tmp_path / "next", tmp_path / "cached")
    (tmp_path / "home").mkdir()
    erase([digest(NEW[0])], ErasurePlaces(tmp_path / "home", tmp_path / "store", (tmp_path / "next",)), write=True)
    left = sources.build_manifest(tmp_path / "next", config_of(tmp_path / "next"))
    assert set(made.manifest.samples) - set(left.samples) == {
        sample for sample in made.manifest.samples if sample.sha256 == digest(NEW[0])
    }
    assert not any(path.is_file() and path.read_bytes() == NEW[0] for path in (tmp_path / "next").rglob("*"))


def test_the_command_says_what_was_added_and_ends_with_3_where_nothing_is_new(
    tmp_path: Path, parent: Parent, capsys: pytest.CaptureFixture[str]
) -> None:
    export = write_export(tmp_path / "export", [line(NEW[0], "oak"), audit(NEW[1], "ash"), line(NEW[2], None)], NEW)
    command = ["data", "from-reviews", str(export), "--home", str(tmp_path / "home"), "--parent"]
    assert main([*command, str(parent.root), "--out", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    assert f"digest       {Manifest.read(tmp_path / 'one/manifest.json').digest}\ndata set     {tmp_path / 'one'}" in shown
    assert "left out          1 without a label" in shown
    assert "sealed            1 images, 1 of them new" in shown
    assert main([*command, str(tmp_path / "one"), "--out", str(tmp_path / "two")]) == 3
    assert "nothing to add; no folder was written" in capsys.readouterr().out
    assert main([*command, str(parent.root), "--out", str(parent.root / "new")]) == 1
    assert "lies in the folder of the images" in capsys.readouterr().err

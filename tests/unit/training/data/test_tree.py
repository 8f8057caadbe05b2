"""Which files of a folder are images, and of what."""

import logging
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data.tree import SUFFIXES, scan
from training.errors import DataError

Plant = Callable[..., Path]


def test_reads_labels_at_any_depth_and_suffixes_in_any_case(plant: Plant) -> None:
    root = plant("oak/a.png", "oak/deep/er/b.JPG", "ash/c.TIFF", "ash/d.webp", "ash/e.bmp", "ash/f.jpeg", "ash/g.tif")
    tree = scan(root)
    assert tree.labels == ("ash", "oak")
    assert tree.splits == ()
    assert [(image.path, image.label) for image in tree.images][-2:] == [("oak/a.png", "oak"), ("oak/deep/er/b.JPG", "oak")]
    assert len(tree.images) == 7


def test_reads_given_splits(plant: Plant) -> None:
    root = plant("train/oak/a.png", "Validation/oak/b.png", "test/ash/x/c.png", "calibration/ash/d.png")
    tree = scan(root)
    assert {image.path: image.split for image in tree.images} == {
        "train/oak/a.png": "train",
        "Validation/oak/b.png": "val",
        "test/ash/x/c.png": "test",
        "calibration/ash/d.png": "calibration",
    }
    assert tree.splits == ("train", "val", "calibration", "test")
    assert tree.labels == ("ash", "oak")


def test_train_is_a_label_among_other_labels(plant: Plant) -> None:
    tree = scan(plant("train/a.png", "plane/b.png"))
    assert tree.labels == ("plane", "train")
    assert tree.splits == ()


def test_splits_need_training_images(plant: Plant) -> None:
    with pytest.raises(DataError, match="test, val but no train"):
        scan(plant("test/oak/a.png", "val/oak/b.png"))


def test_a_split_has_one_folder(plant: Plant) -> None:
    with pytest.raises(DataError, match="names a split twice: train, val, validation"):
        scan(plant("train/oak/a.png", "val/oak/b.png", "validation/oak/b.png"))


def test_masks_are_no_label_and_lie_beside_their_images(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    root = plant("oak/a.jpg", "oak/x/b.jpg", "ash/c.jpg", "masks/oak/a.png", "masks/oak/x/b.png", "masks/ash/other.png")
    with caplog.at_level(logging.WARNING):
        tree = scan(root)
    assert tree.labels == ("ash", "oak")
    assert {image.path: image.mask for image in tree.images} == {
        "ash/c.jpg": None,
        "oak/a.jpg": "masks/oak/a.png",
        "oak/x/b.jpg": "masks/oak/x/b.png",
    }
    assert caplog.messages == ["1 mask belongs to no image, such as 'masks/ash/other.png'"]


def test_masks_mirror_given_splits(plant: Plant) -> None:
    tree = scan(plant("train/oak/a.jpg", "train/ash/a.jpg", "masks/train/oak/a.png"))
    assert [image.mask for image in tree.images] == [None, "masks/train/oak/a.png"]


def test_a_label_called_masks_is_asked_about(plant: Plant) -> None:
    """Row 21."""
    for name, place in (("a", "masks"), ("b", "masks/blue")):
        root = plant("hats/1.png", "hats/2.png", "scarves/1.png", f"{place}/1.png", f"{place}/2.png", root=name)
        with pytest.raises(DataError, match=r"masks holds 2 masks of no image, .* If it is a label, rename the folder"):
            scan(root)
    tree = scan(plant(*(f"{split}/{label}/1.png" for split in ("train", "test") for label in ("hats", "masks")), root="c"))
    assert tree.labels == ("hats", "masks")


def test_a_label_is_in_unicode_s_composed_form(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    """Row 20."""
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = plant(f"{nfc}/1.png", f"{nfd}/2.png", "tea/1.png", f"masks/{nfd}/2.png")
    with caplog.at_level(logging.WARNING):
        tree = scan(root)
    assert tree.labels == (nfc, "tea")
    assert {image.path: image.label for image in tree.images} == {f"{nfc}/1.png": nfc, f"{nfd}/2.png": nfc, "tea/1.png": "tea"}
    assert [image.mask for image in tree.images if image.mask] == [f"masks/{nfd}/2.png"]
    assert caplog.messages == [f"folders that differ only in how Unicode spells an accent are one label: {nfc!r}"]


def test_a_mask_is_found_whose_accent_is_spelt_in_another_way(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    with caplog.at_level(logging.WARNING):
        tree = scan(plant(f"{nfc}/{nfc}.png", "tea/1.png", f"masks/{nfd}/{nfd}.png"))
    assert [image.mask for image in tree.images] == [f"masks/{nfd}/{nfd}.png", None]
    assert caplog.messages == []


def test_labels_that_differ_by_case_are_said(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert scan(plant("Oak/1.png", "oak/1.png", "ash/1.png")).labels == ("Oak", "ash", "oak")
    assert caplog.messages == ["labels that differ only by case are labels of their own: 'Oak', 'oak'"]


def test_hidden_files_are_left_out_and_others_counted(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    root = plant("oak/a.png", "oak/.b.png", ".git/c.png", "ash/d.png", "loose.png")
    (root / "oak" / "notes.txt").write_text("x")
    (root / "Thumbs.db").write_text("x")
    (root / "sky.gif").write_text("x")
    with caplog.at_level(logging.WARNING):
        assert [image.path for image in scan(root).images] == ["ash/d.png", "oak/a.png"]
    read = ", ".join(sorted(SUFFIXES))
    assert caplog.messages == [
        f"3 files are not images and are left out: 1 .db, 1 .gif, 1 .txt; images end in {read}, so save others as one of these",
        "1 image lies in no label's folder and is left out; put each into LABEL/, such as 'loose.png'",
    ]


def test_odd_names_are_read(plant: Plant) -> None:
    names = ["oak/ä b\nc.png", "oak/'\"%s\\.png", "Übel/ .png", "Übel/日本.png"]
    assert [image.path for image in scan(plant(*names)).images] == sorted(names)


def test_odd_labels_are_read_and_sorted_as_text(plant: Plant) -> None:
    """Row 22."""
    labels = ["007", "10", "2", "a,b", "a;b", "[x]", "no", "v1.2", "x.jpg"]
    tree = scan(plant(*(f"{label}/deep/{'n' * 246}.png" for label in labels)))
    assert tree.labels == tuple(sorted(labels))
    assert sorted(image.label for image in tree.images) == sorted(labels)


def test_names_outside_utf8_are_named(plant: Plant) -> None:
    root = plant("oak/a.png")
    (root / "oak" / os.fsdecode(b"b\xff.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"b'b\\xff.png' in oak is not UTF-8"):
        scan(root)


def test_a_data_set_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing is not a folder"):
        scan(tmp_path / "missing")
    (tmp_path / ("x" * 201)).mkdir()
    with pytest.raises(DataError, match="201 characters"):
        scan(tmp_path)


def test_an_unreadable_folder_is_named(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who runs the tests may be root, for whom every folder is readable.
    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    root = plant("oak/a.png")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        scan(root)

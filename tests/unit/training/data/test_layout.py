"""Trees as other tools publish them, and trees that can be read in two ways."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from training.config import DataConfig
from training.data.layout import SPLIT_FOLDERS, read_layout
from training.data.manifest import build, verify
from training.data.tree import Tree, scan
from training.errors import DataError

Plant = Callable[..., Path]


def pictures(folder: str, count: int, name: str = "{}.jpg") -> list[str]:
    return [f"{folder}/{name.format(n)}" for n in range(count)]


def given(tree: Tree) -> dict[tuple[str | None, str], int]:
    return Counter((image.split, image.label) for image in tree.images)


def config(root: Path, layout: str = "auto") -> DataConfig:
    return DataConfig.model_validate({"source": "imagefolder", "path": root, "layout": layout})


@pytest.fixture
def roboflow(plant: Plant) -> Path:
    """Roboflow's export "Folder Structure" of a classification project."""
    root = plant(
        *(
            picture
            for split, count in (("train", 12), ("valid", 4), ("test", 2))
            for label in ("Cat", "Dog")
            for picture in pictures(f"{split}/{label}", count, label + "-{}_jpg.rf.f02ad8558ce1c88213b4f83c0bc66bc8.jpg")
        )
    )
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (root / name).write_text("exported\n")
    return root


@pytest.fixture
def fastai(plant: Plant) -> Path:
    """fastai's MNIST_TINY: labelled train and valid, test without labels, files and an empty folder of its learners."""
    root = plant(
        *pictures("train/3", 12, "7{}.png"), *pictures("train/7", 12, "9{}.png"),
        *pictures("valid/3", 4, "78{}.png"), *pictures("valid/7", 4, "79{}.png"),
        *pictures("test", 5, "20{}.png"),
    )  # fmt: skip
    (root / "models").mkdir()
    for name in ("labels.csv", "cleaned.csv", "history.csv", "export.pkl"):
        (root / name).write_text("x")
    return root


@pytest.fixture
def kaggle(plant: Plant) -> Path:
    """Kaggle's brain tumour MRI set."""
    tumours = {"glioma": "gl", "meningioma": "me", "notumor": "no", "pituitary": "pi"}
    return plant(
        *(
            picture
            for label, short in tumours.items()
            for picture in (
                *pictures(f"Training/{label}", 8, f"Tr-{short}_00{{}}.jpg"),
                *pictures(f"Testing/{label}", 2, f"Te-{short}_00{{}}.jpg"),
            )
        )
    )


@pytest.fixture
def keras(plant: Plant) -> Path:
    """cats_and_dogs_small of Keras' author."""
    return plant(
        *(
            picture
            for split, count in (("train", 10), ("validation", 5), ("test", 5))
            for label in ("cat", "dog")
            for picture in pictures(f"{split}/{label}s", count, label + ".{}.jpg")
        )
    )


def test_roboflow(roboflow: Path) -> None:
    """Row 1."""
    assert given(scan(roboflow)) == {
        ("train", "Cat"): 12, ("train", "Dog"): 12, ("val", "Cat"): 4, ("val", "Dog"): 4, ("test", "Cat"): 2, ("test", "Dog"): 2,
    }  # fmt: skip
    manifest = build(roboflow, config(roboflow))
    # Calibration is the split that lacks: 12 middles at 1/24, 3/24 ... of which two lie below its share of 0.15.
    assert Counter((sample.split, sample.label) for sample in manifest.samples) == {
        ("train", "Cat"): 10, ("train", "Dog"): 10, ("calibration", "Cat"): 2, ("calibration", "Dog"): 2,
        ("val", "Cat"): 4, ("val", "Dog"): 4, ("test", "Cat"): 2, ("test", "Dog"): 2,
    }  # fmt: skip
    verify(roboflow, manifest)


def test_fastai_and_a_test_without_labels(fastai: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows 1 and 18."""
    with caplog.at_level(logging.WARNING):
        tree = scan(fastai)
    assert given(tree) == {("train", "3"): 12, ("train", "7"): 12, ("val", "3"): 4, ("val", "7"): 4}
    assert tree.labels == ("3", "7")
    assert f"{fastai / 'test'} is left out: it holds 5 images and no folder of a label; the test split is cut out of train" in (
        caplog.messages
    )
    assert any("4 files are not images and are left out: 3 .csv, 1 .pkl" in message for message in caplog.messages)
    manifest = build(fastai, config(fastai))
    assert {sample.split for sample in manifest.samples if sample.path.startswith("train/")} == {"train", "calibration", "test"}
    verify(fastai, manifest)


def test_kaggle(kaggle: Path) -> None:
    """Row 2."""
    tree = scan(kaggle)
    assert tree.labels == ("glioma", "meningioma", "notumor", "pituitary")
    assert given(tree) == {(split, label): n for label in tree.labels for split, n in (("train", 8), ("test", 2))}
    verify(kaggle, build(kaggle, config(kaggle)))


def test_kaggle_competition(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    """Row 18: train/LABEL and test/*.png without labels, in a folder of its own or not."""
    labelled = [*pictures("train/Maize", 8), *pictures("train/Charlock", 8)]
    for place in ("test", "test/unknown"):
        root = plant(*labelled, *pictures(place, 3), root=place.replace("/", "-"))
        (root / "sample_submission.csv").write_text("file,species\n")
        with caplog.at_level(logging.WARNING):
            manifest = build(root, config(root))
        assert manifest.labels == ("Charlock", "Maize")
        assert not any(sample.path.startswith("test/") for sample in manifest.samples)
        assert {sample.split for sample in manifest.samples} == {"train", "val", "calibration", "test"}
        assert any(f"{root / 'test'} is left out" in message for message in caplog.messages)


def test_keras(keras: Path) -> None:
    """Row 1, with validation spelt out; `cats_and_dogs_filtered` has the same without test, and a script beside."""
    assert Counter(image.split for image in scan(keras).images) == {"train": 20, "val": 10, "test": 10}
    assert scan(keras).labels == ("cats", "dogs")


def test_an_archive_s_own_folder_is_no_split_and_no_label(keras: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Row 11."""
    shadow = keras / "__MACOSX/train/cats"
    shadow.mkdir(parents=True)
    for name in ("._cat.0.jpg", "._cat.1.jpg"):
        (shadow / name).write_bytes(b"\0\5\x16\7")
    with caplog.at_level(logging.WARNING):
        manifest = build(keras, config(keras))
    assert manifest.labels == ("cats", "dogs")
    assert caplog.messages == [
        f"{keras / '__MACOSX'}, which archivers, file managers or file servers make, is left out with 2 files"
    ]


@pytest.mark.parametrize(("name", "split"), [*SPLIT_FOLDERS.items(), ("Train", "train"), ("VALID", "val"), ("Eval", "test")])
def test_every_name_in_any_case(plant: Plant, name: str, split: str) -> None:
    others = ["oak/x.png"] if split == "train" else []
    root = plant(*(f"{name}/{label}/1.png" for label in ("oak", "ash")), *(f"train/{label}/2.png" for label in ("oak", "ash")))
    if others:
        root = plant(*(f"{name}/{label}/1.png" for label in ("oak", "ash")), root="alone")
    assert {image.split for image in scan(root).images} == {"train", split}


def test_dev_validates_and_eval_tests(plant: Plant) -> None:
    tree = scan(plant(*(f"{split}/{label}/1.png" for split in ("training", "dev", "eval") for label in ("oak", "ash"))))
    assert {image.path.split("/")[0]: image.split for image in tree.images} == {"training": "train", "dev": "val", "eval": "test"}


def test_pictures_of_trains(plant: Plant) -> None:
    """A label may be called train, at any depth, and test beside it where the config says so."""
    assert scan(plant("train/a.png", "plane/b.png", root="a")).labels == ("plane", "train")
    assert scan(plant("train/steam/a.png", "train/c.png", "plane/jet/b.png", root="b")).labels == ("plane", "train")
    root = plant("train/a.png", "test/b.png", root="c")
    with pytest.raises(DataError, match=r"test \(1 image\), train \(1 image\), but no folder of a label .*data.layout: labels"):
        scan(root)
    assert scan(root, "labels").labels == ("test", "train")


AMBIGUOUS = {
    "a further folder": (["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "extra/1.png"], "extra"),
    "a further folder with labels": (["train/cat/1.png", "extra/cat/1.png"], "extra"),
    "dogs-vs-cats": (
        ["train/cat/1.png", "train/dog/1.png", "valid/cat/1.png", "test1/1.png", "sample/train/1.png"],
        "sample, test1",
    ),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_folders_beside_splits_are_asked_about(plant: Plant, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Row 3."""
    paths, odd = AMBIGUOUS[name]
    root = plant(*paths)
    with pytest.raises(DataError) as caught:
        scan(root)
    said = str(caught.value)
    assert (
        f"move {odd} away, or say data.layout: splits in the config (--set data.layout=splits), which leaves "
        f"{'them' if ', ' in odd else 'it'} out" in said
    )
    assert "If each of these folders is a label, say data.layout: labels" in said
    assert "train (cat" in said
    with caplog.at_level(logging.WARNING):
        splits, labels = scan(root, "splits"), scan(root, "labels")
    assert {image.path.split("/")[0] for image in splits.images} == {path.split("/")[0] for path in paths} - set(odd.split(", "))
    assert labels.labels == tuple(sorted({path.split("/")[0] for path in paths}))
    assert labels.splits == ()
    for top in odd.split(", "):
        assert any(f"{root / top} is left out: it holds" in message for message in caplog.messages)


def test_of_many_folders_some_are_shown(plant: Plant) -> None:
    root = plant("train/cat/1.png", "test/cat/1.png", *(f"a{n:02}/1.png" for n in range(30)))
    with pytest.raises(DataError) as caught:
        scan(root)
    assert "holds test (cat), train (cat), a00 (1 image), a01 (1 image)," in str(caught.value)
    assert "a03 (1 image) and 26 more: these can be" in str(caught.value)
    assert "move a00, a01, a02, a03 and 26 more away" in str(caught.value)


def test_names_that_only_speak_of_splits_are_asked_about(plant: Plant) -> None:
    for names in (("training_set", "test_set"), ("seg_train", "seg_test", "seg_pred")):
        root = plant(*(f"{name}/{name}/{label}/1.png" for name in names for label in ("cat", "dog")), root=names[0])
        with pytest.raises(DataError, match="rename them train, val, calibration and test, with the folders of labels directly"):
            scan(root)
        assert scan(root, "labels").labels == tuple(sorted(names))
        with pytest.raises(DataError, match="but no train"):
            scan(root, "splits")


def test_one_name_that_speaks_of_a_split_is_a_label(plant: Plant) -> None:
    assert scan(plant("train_station/a.png", "bus_station/a.png")).labels == ("bus_station", "train_station")
    assert scan(plant("test strip/a.png", "swab/a.png", root="b")).labels == ("swab", "test strip")
    assert scan(plant("valid/site/a.png", "invalid/site/a.png", root="c")).labels == ("invalid", "valid")


def test_an_empty_folder_beside_a_label_called_train_is_an_empty_label(plant: Plant) -> None:
    root = plant("train/steam/a.png", "train/diesel/a.png")
    (root / "plane").mkdir()
    split = r"; if train is a split and no label, say data\.layout: splits in .* \(--set data\.layout=splits\), which leaves"
    with pytest.raises(DataError, match=f"holds no image of label 'plane'; fill the folder or remove it{split}"):
        build(root, config(root))
    assert scan(root, "splits").labels == ("diesel", "steam")


def test_a_training_split_without_labels_is_named(plant: Plant) -> None:
    with pytest.raises(DataError, match=r"train has no folders of labels; put its images into train/LABEL"):
        scan(plant("train/1.png", "test/cat/1.png", "test/dog/1.png"))
    with pytest.raises(DataError, match="these can be splits or labels"):
        scan(plant("test/cat/1.png", "val/cat/1.png", "extra/cat/1.png", root="b"))


def test_a_manifest_knows_its_layout(plant: Plant) -> None:
    """A data set that a config's layout made readable is verified without that config."""
    paths = [f"{split}/{label}/{n}.png" for split in ("train", "test") for label in ("cat", "dog") for n in range(12)]
    root = plant(*paths, *(f"extra/{n}.png" for n in range(12)))
    for layout in ("splits", "labels"):
        manifest = build(root, config(root, layout))
        assert read_layout([(sample.path, sample.label) for sample in manifest.samples]) == layout
        verify(root, manifest)


def test_only_a_folder_of_one_s_own_has_a_layout() -> None:
    with pytest.raises(ValidationError, match=r"data\.layout is for source imagefolder"):
        DataConfig(source="digits", layout="labels")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("cat/train", "cat/test", "dog/train", "dog/test"), "splits below labels"),
        (("good/train", "good/test", "bad/test"), "splits below labels"),
        (("trainset/cat", "trainset/dog", "testset/cat", "testset/dog"), "can be splits or labels"),
        (("train/cat", "train/dog", "unlabeled"), "can be splits or labels"),
        (("train/cat", "train/dog", "extra/bird", "extra/horse"), "can be splits or labels"),
        (("cat", "dog", "Masks/cat", "Masks/dog"), "masks lie in a folder named masks"),
        (("cat", "dog", "mask/cat"), "masks lie in a folder named masks"),
    ],
    ids=" ".join,
)
def test_what_can_be_read_in_two_ways_is_refused_with_what_was_seen(plant: Plant, folders: tuple[str, ...], words: str) -> None:
    root = plant(*(picture for folder in folders for picture in pictures(folder, 8)))
    with pytest.raises(DataError, match=words):
        scan(root)
    tops = {folder.split("/")[0] for folder in folders}
    assert set(scan(root, "labels").labels) == tops


@pytest.mark.parametrize(
    ("tops", "below", "refused"),
    [
        (("site0", "site1"), ("heil", "schaden"), True),
        (("north", "south"), ("cat", "dog"), True),
        (("cat", "dog"), ("north", "south"), True),
        (("site0", "site1"), ("class0", "class1"), True),
        (("cat", "dog"), ("site0", "site1"), False),
        (("cat", "dog"), ("2023", "2024", "2025"), False),
        (("cat", "dog"), ("photos",), False),
    ],
)
def test_folders_that_all_hold_the_same_are_refused_unless_numbers_tell(
    plant: Plant, tops: tuple[str, ...], below: tuple[str, ...], refused: bool
) -> None:
    """Sites that each have all labels, or labels that each have all sites: nobody can tell."""
    root = plant(*(picture for top in tops for name in below for picture in pictures(f"{top}/{name}", 8)))
    assert scan(root, "labels").labels == tops
    if not refused:
        assert scan(root).labels == tops
        return
    with pytest.raises(DataError) as caught:
        scan(root)
    assert str(caught.value) == (
        f"data.invalid: {root} holds {', '.join(tops)}, and each of them holds {', '.join(below)}: nobody can tell which are the "
        "labels. If those at the top are, say data.layout: labels in the config (--set data.layout=labels). If those below are, "
        f"put them at the top, such as {below[0]}/{tops[0]}/... and {below[1]}/{tops[0]}/..., and say data.layout: labels, too"
    )


@pytest.mark.parametrize(
    ("folders", "shared"),
    [
        (("siteA/apps", "siteA/devices", "siteA/places", "siteB/apps", "siteB/places"), "apps, places"),  # 2 of 3 names
        (("a/cat", "a/dog", "b/dog", "b/elk", "c/cat"), "cat, dog"),  # 2 of 3, in no two the same
        (("8x8/apps", "16x16/apps", "16x16/places", "32x32/apps", "32x32/places"), "apps, places"),
        (("a/cat", "a/dog", "b/dog", "b/elk"), ""),  # 1 of 3
        (("a/new", "a/old", "b/old"), ""),  # b holds one
        (("oak/new", "oak/old", "ash/new", "ash/old", "elm/x", "elm/y"), ""),  # 2 of 4 are no more than half
        (("cat/2023", "cat/2024", "dog/2023", "dog/2024", "dog/2025"), ""),
    ],
)
def test_folders_that_share_most_of_their_folders_are_refused(plant: Plant, folders: tuple[str, ...], shared: str) -> None:
    """Sites one of which lacks a label: read as labels, they would be learnt in the place of what the pictures show."""
    root = plant(*(picture for folder in folders for picture in pictures(folder, 8)))
    tops = tuple(sorted({folder.split("/")[0] for folder in folders}))
    assert scan(root, "labels").labels == tops
    if not shared:
        assert scan(root).labels == tops
        return
    with pytest.raises(DataError) as caught:
        scan(root)
    one, other = shared.split(", ")
    first = [min(folder.split("/")[0] for folder in folders if folder.endswith(name)) for name in (one, other)]
    assert f"{root} holds {', '.join(tops)}, and several of them hold {shared}: nobody can tell which are the labels" in str(
        caught.value
    )
    assert f"such as {one}/{first[0]}/... and {other}/{first[1]}/..., and say data.layout: labels, too" in str(caught.value)


def test_masks_of_no_label_are_a_label_of_their_own(plant: Plant) -> None:
    """Pictures of people who wear one."""
    root = plant(*pictures("mask", 8), *pictures("bare", 8))
    assert scan(root).labels == ("bare", "mask")

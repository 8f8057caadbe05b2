"""Each cause of a label that is not in every split has its own advice."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from training.config import DataConfig
from training.data.manifest import build
from training.errors import DataError

Plant = Callable[..., Path]


def grow(tree: dict[str, int]) -> list[str]:
    return [f"{folder}/{n}-0.png" for folder, count in tree.items() for n in range(count)]


CAUSES = {
    "no folder": (
        {
            "train/cat": 8,
            "train/dog": 8,
            "Valid/cat": 2,
            "Valid/dog": 2,
            "test/cat": 2,
            "test/dog": 2,
            "test/elk": 2,
            "train/elk": 8,
        },
        r"'elk' is not in every split: none in val .*Valid/ holds no image of 'elk': fill Valid/elk/, move Valid/ away, or",
    ),
    "case": (
        {"train/Cat": 8, "train/dog": 8, "test/cat": 2, "test/dog": 2},
        r"'Cat' .* none in test .*test/ holds 'cat', which differs from 'Cat' by case alone: rename one of them$",
    ),
    "spelling": (
        {"train/no damage": 8, "train/damaged": 8, "test/no_damage": 2, "test/damaged": 2},
        r"'no damage' .* none in test .*test/ holds 'no_damage', which may be 'no damage' in another spelling: rename one",
    ),
    "a slip": (
        {"train/damaged": 8, "train/intact": 8, "test/damged": 2, "test/intact": 2},
        r"test/ holds 'damged', which may be 'damaged' in another spelling",
    ),
    "not in train": (
        {"train/cat": 8, "train/dog": 8, "test/cat": 2, "test/dog": 2, "test/bee": 2},
        r"'bee' .* none in train, val, calibration .*\. train/ holds no image of 'bee': fill train/bee/[^.]*by data\.classes$",
    ),
    "too few": (
        {"cat": 60, "dog": 60, "elk": 1},
        r"'elk' .*too few images to cut .* train, val, calibration, test need one each, and there are 1; add 3 or more",
    ),
    "too few in train": (
        {"train/cat": 8, "train/dog": 8, "train/elk": 2, "test/cat": 2, "test/dog": 2, "test/elk": 9},
        r"'elk' .*too few images to cut .* train, val, calibration need one each, and there are 2; add 1 or more",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_advice_is_that_of_the_cause(plant: Plant, cause: str) -> None:
    """Rows 16, 18 and 19."""
    tree, words = CAUSES[cause]
    root = plant(*grow(tree))
    with pytest.raises(DataError, match=words):
        build(root, DataConfig(source="imagefolder", path=root))


def test_too_few_groups_are_said(plant: Plant) -> None:
    root = plant(*grow({"cat": 40, "dog": 40}), *(f"elk/{group}-{n}.png" for group in "abc" for n in range(5)))
    with pytest.raises(DataError, match=r"15 images are of too few groups, 3, and train, .*; add images of 1 more groups, or"):
        build(root, DataConfig(source="imagefolder", path=root, group_pattern=r"(\w+/\w+)-"))


def test_a_label_is_one_however_its_accent_is_spelt(plant: Plant) -> None:
    """Rows 19 and 20."""
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = plant(*grow({f"train/{nfc}": 8, "train/tea": 8, f"test/{nfd}": 2, "test/tea": 2}))
    manifest = build(root, DataConfig(source="imagefolder", path=root))
    assert manifest.labels == (nfc, "tea")
    assert {sample.split for sample in manifest.samples if sample.label == nfc} == {"train", "val", "calibration", "test"}
    assert {sample.path.split("/")[1] for sample in manifest.samples} == {nfc, nfd, "tea"}

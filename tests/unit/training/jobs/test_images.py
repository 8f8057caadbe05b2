import numpy as np

from training.data.manifest import Manifest, Sample, Split
from training.jobs.common import images_of


def manifest() -> Manifest:
    splits: tuple[Split, ...] = ("train", "val", "train", "test", "train")  # image n of a label is of split n modulo 5
    samples = [
        Sample(f"{label}/{n:03d}.png", 1, "0" * 64, label, splits[n % 5])
        for label, count in (("ash", 100), ("oak", 50))
        for n in range(count)
    ]
    return Manifest(("ash", "oak"), tuple(samples))


PIXELS = np.zeros((150, 1, 1, 3), np.uint8)


def test_a_splits_images_are_its_rows_of_the_cache() -> None:
    val = images_of(PIXELS, manifest(), "val")
    assert val.rows.tolist() == list(range(1, 150, 5))
    assert val.labels.tolist() == [0] * 20 + [1] * 10


def test_a_fraction_is_of_the_split_and_of_each_label() -> None:
    few = images_of(PIXELS, manifest(), "train", fraction=0.1, seed=3)
    assert np.bincount(few.labels).tolist() == [6, 3]  # of 60 and 30
    assert all(manifest().samples[row].split == "train" for row in few.rows)
    assert [manifest().labels[label] for label in few.labels] == [manifest().samples[row].label for row in few.rows]
    assert not np.array_equal(few.rows, images_of(PIXELS, manifest(), "train", fraction=0.1, seed=4).rows)

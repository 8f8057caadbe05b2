"""What weights have seen goes with them from run to run, and none of it may judge a later one."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.unit.configs import make_config
from training import runs
from training.data.manifest import Manifest, Sample
from training.errors import DataLeak
from training.fitting.pretrained import make_model, origin, write_backbone
from training.jobs.seen import DIGITS, Seen, check_seen, describe, seen


def digest(n):
    return f"{n:064x}"[::-1]


def manifest(**splits):
    """Images by number, in splits by name."""
    samples = sorted((f"{n:03}.png", n, split) for split, numbers in splits.items() for n in numbers)
    return Manifest(("x", "y"), tuple(Sample(path, 1, digest(n), "x", split) for path, n, split in samples))


def config(pretrained=None, leaks=None, seed=0):
    data, model = {"source": "digits", "leaks": leaks}, {"network": "small_cnn", "pretrained": pretrained}
    return make_config(data=data, model=model, seed=seed)


FIRST = manifest(train=range(10), val=range(10, 14), calibration=range(14, 17), test=range(17, 20))


def weights(folder, made=FIRST, before=None):
    """Write weights as `visor train` does."""
    folder.mkdir()
    shown = Seen.of(made.samples_of("train"), made.samples_of("val"))
    runs.write_weights(folder, make_model(config(), 2).state_dict(), describe("train", config(before), made, shown))
    return str(folder / runs.WEIGHTS)


def test_weights_say_what_they_have_seen_and_lineage_where_they_come_from(tmp_path):
    path = weights(tmp_path / "a")
    found = seen(config(path))
    assert found.learnt == {digest(n)[:DIGITS] for n in range(10)}
    assert found.chosen_by == {digest(n)[:DIGITS] for n in range(10, 14)}
    facts = origin(config(path))
    assert (facts.method, facts.dataset_digest, facts.config_digest) == ("train", FIRST.digest, None)
    with safe_open(path, "pt") as file:
        assert set(json.loads(file.metadata()["visor"])) == {"method", "dataset_digest", "learnt", "chosen_by"}
    assert seen(config()) == seen(config("imagenet")) == Seen()
    assert make_model(config(path), 2)


def test_the_same_weights_and_images_make_the_same_bytes(tmp_path):
    one, other = (Path(weights(tmp_path / name)).read_bytes() for name in "ab")
    assert one == other


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"train": range(10, 30), "test": [3, 40]}, r"1 image that this run holds out \(test 1\): 003\.png \(test\)"),
        (
            {"train": range(20, 30), "val": [3], "calibration": [4, 5], "test": [6]},
            r"4 .*\(calibration 2, test 1, val 1\).* 1 more",
        ),
        ({"train": range(20, 30), "calibration": [11]}, "chosen by, 1 image"),
        ({"train": range(20, 30), "sealed": [2]}, "sealed"),
    ],
)
def test_an_image_that_was_seen_judges_no_later_run(tmp_path, splits, words):
    path = weights(tmp_path / "a")
    with pytest.raises(DataLeak, match=words):
        check_seen(manifest(**splits), config(path))
    with pytest.raises(DataLeak, match=r"data\.leak"):
        check_seen(manifest(**splits), config(path, "error"))
    check_seen(manifest(**splits), config(path, "allow"))


def test_a_warning_where_the_config_says_so(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    check_seen(manifest(train=[30], test=[1]), config(weights(tmp_path / "a"), "warn"))
    assert "has learnt from" in caplog.text


@pytest.mark.parametrize(
    "later",
    [
        FIRST,  # the same split again: it learns on, validated by the same images
        manifest(train=range(20), test=range(30, 40)),
        manifest(train=[*range(20, 30), 3], test=[40]),
        manifest(train=[3], test=[3]),  # a twin, which near-duplicates report
        manifest(train=range(20, 30), val=range(10, 14), test=range(14, 20)),  # nobody learnt from the earlier test split
    ],
)
def test_what_leaks_nothing_is_let_be(tmp_path, later):
    check_seen(later, config(weights(tmp_path / "a")))


def test_the_chain_is_kept_through_further_runs_and_pretraining(tmp_path):
    first = weights(tmp_path / "a")
    second = weights(tmp_path / "b", manifest(train=range(20, 30), val=[30], test=[31]), first)
    assert seen(config(second)).learnt == {digest(n)[:DIGITS] for n in [*range(10), *range(20, 30)]}
    backbone = tmp_path / "backbone.safetensors"
    made = manifest(train=range(50, 60), val=[61])
    write_backbone(backbone, make_model(config(), 2), describe("simclr", config(second), made, Seen.of(made.samples_of("train"))))
    assert seen(config(str(backbone))).learnt == {digest(n)[:DIGITS] for n in [*range(10), *range(20, 30), *range(50, 60)]}
    for number in (1, 21, 51):
        with pytest.raises(DataLeak):
            check_seen(manifest(train=[70], test=[number]), config(str(backbone)))
    check_seen(manifest(train=[70], test=[61]), config(str(backbone)))  # pretraining chooses nothing by its validation images


def test_files_of_others_say_nothing(tmp_path):
    torch.save(make_model(config(), 2).state_dict(), tmp_path / "theirs.pth")
    assert seen(config(str(tmp_path / "theirs.pth"))) == Seen()

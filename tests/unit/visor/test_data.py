"""`visor.explore`: what it says is what the files are, counted and read anew."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visor
from tests.unit.configs import make_config
from training.jobs.common import prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of twenty noisy pictures, one saved again under the other label, one black, one file that is none."""
    root, generator = tmp_path_factory.mktemp("data") / "leaves", np.random.default_rng(0)
    for label in ("oak", "elm"):
        (root / label).mkdir(parents=True)
        for n in range(20):
            cells = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
            Image.fromarray(cells).save(root / label / f"{n:02}.png")
    Image.open(root / "oak/00.png").save(root / "elm/again.jpg", quality=95)
    Image.fromarray(np.zeros((48, 48, 3), dtype=np.uint8)).save(root / "oak/black.png")
    (root / "elm/none.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> visor.DataSet:
    return visor.explore(folder, home=folder.parent / "home")


def test_it_says_what_is_there(folder: Path, data: visor.DataSet) -> None:
    assert (data.name, data.root, data.labels, len(data)) == ("leaves", folder, ("elm", "oak"), 42)
    assert {label: sum(held.values()) for label, held in data.counts.items()} == {"elm": 21, "oak": 21}
    assert set(data.unreadable) == {"elm/none.png"}
    assert data.blank == ("oak/black.png",)
    assert data.brightness[0].path == "oak/black.png"
    assert data.brightness[0].score < 0
    assert data.balance().width > 100


def test_pairs_are_those_within_so_many_bits(data: visor.DataSet) -> None:
    assert {(pair.one, pair.other) for pair in data.near_duplicates()} == {("elm/again.jpg", "oak/00.png")}
    [pair] = data.near_duplicates(bits=16)
    assert pair.bits <= 16
    every = data.near_duplicates(bits=256)
    assert [pair.bits for pair in every] == sorted(pair.bits for pair in every)
    assert len(every) > 400


def test_another_seed_changes_splits_alone(folder: Path, data: visor.DataSet) -> None:
    other = visor.explore(folder, home=folder.parent / "home", data={"seed": 1})
    changes = other.changes_from(data)
    assert Counter(change.kinds for change in changes) == {("resplit",): len(changes)}
    assert all(change.path == change.old_path and change.split != change.old_split for change in changes)
    assert data.changes_from(data) == []


def test_its_page_is_written(data: visor.DataSet, tmp_path: Path) -> None:
    assert "oak/black.png" in data.write(tmp_path / "data.html").read_text()


def test_what_cannot_be_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(visor.ConfigError, match=r"data\.layot: no such key"):
        visor.explore(folder, home=tmp_path, data={"layot": "labels"})
    with pytest.raises(visor.DataError):
        visor.explore(tmp_path, home=tmp_path)


def test_what_training_would_refuse_is_what_training_refuses(tmp_path: Path) -> None:
    """For leaks, for files that are no pictures, for both; and not where data.leaks lets leaks through."""
    generator = np.random.default_rng(1)
    for split in ("train", "val", "calibration", "test"):
        for label in ("oak", "elm"):
            place = tmp_path / "set" / split / label
            place.mkdir(parents=True)
            for n in range(2):
                cells = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
                Image.fromarray(cells).save(place / f"{n}.png")

    def refusal(leaks: str) -> str | None:
        seen = visor.explore(tmp_path / "set", home=tmp_path / "home", data={"leaks": leaks})
        config = make_config(name="x", data={"source": "imagefolder", "path": str(tmp_path / "set"), "leaks": leaks})
        if seen.refusal is None:
            prepare(config, tmp_path / "home")
        else:
            with pytest.raises(visor.DataError, match=re.escape(seen.refusal.splitlines()[0])):
                prepare(config, tmp_path / "home")
        return seen.refusal

    assert refusal("error") is None
    shutil.copy(tmp_path / "set/train/oak/0.png", tmp_path / "set/test/oak/again.png")
    assert "data.leak: 1 pair of near-duplicates lies in two splits: test/oak/again.png (test)" in (refusal("error") or "")
    assert refusal("warn") is refusal("allow") is None
    (tmp_path / "set/train/elm/0.png").write_bytes(b"no picture")
    unreadable, leak = (refusal("error") or "").splitlines()
    assert unreadable.startswith("data.unreadable: ")
    assert leak.startswith("data.leak: ")
    assert (refusal("warn") or "").splitlines() == [unreadable]

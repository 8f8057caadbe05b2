"""Generated roofs: the same for ever, masks that mark the damage, sets that are whole or absent."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from training.config import DataConfig
from training.data.roofs import roofs
from training.data.roofs.damage import KINDS
from training.data.roofs.roofs import DAMAGED, INTACT, Roof, generate, render
from training.data.sources import build_manifest
from training.errors import DataError

SIZE = 96
COUNT = 80


@pytest.fixture(scope="module")
def pictures() -> list[Roof]:
    return [render(5, index, SIZE) for index in range(COUNT)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("home") / "data" / "roofs", COUNT, SIZE, 5)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pictures_are_rgb_of_the_size(pictures: list[Roof]) -> None:
    for picture in pictures:
        assert picture.image.shape == (SIZE, SIZE, 3)
        assert picture.mask.shape == (SIZE, SIZE)
        assert picture.image.dtype == picture.mask.dtype == np.uint8
        assert set(np.unique(picture.mask)) <= {0, 255}
        assert picture.image.std() > 8


def test_each_building_is_seen_whole_and_damaged(pictures: list[Roof]) -> None:
    assert [picture.label for picture in pictures] == [INTACT, DAMAGED] * (COUNT // 2)
    assert [picture.building for picture in pictures] == [index // 2 for index in range(COUNT)]
    kinds = Counter(picture.kind for picture in pictures)
    assert kinds[None] == COUNT // 2
    assert set(KINDS) < set(kinds)


def test_damage_is_found_in_the_mask_alone(pictures: list[Roof]) -> None:
    for index, picture in enumerate(pictures):
        if picture.label == INTACT:
            assert not picture.mask.any()
            continue
        whole = render(5, index, SIZE, repaired=True)
        assert whole.label == INTACT
        changed = np.abs(picture.image.astype(int) - whole.image).max(-1) > 12
        near = np.asarray(Image.fromarray(picture.mask).filter(ImageFilter.MaxFilter(9))) > 0
        assert not (changed & ~near).any(), f"picture {index}, {picture.kind}: damage outside of its mask"
        marked = changed[picture.mask > 0].mean()
        assert marked > 0.5, f"picture {index}, {picture.kind}: {marked:.0%} of the mask looks damaged"


def test_damage_is_neither_tiny_nor_everywhere(pictures: list[Roof]) -> None:
    for picture in pictures:
        if picture.label == DAMAGED:
            rows, columns = np.nonzero(picture.mask)
            side = max(np.ptp(rows), np.ptp(columns)) + 1
            assert 0.10 * SIZE <= side <= 0.5 * SIZE


def test_the_same_index_is_the_same_picture(pictures: list[Roof]) -> None:
    again = render(5, 33, SIZE)
    assert np.array_equal(again.image, pictures[33].image)
    assert np.array_equal(again.mask, pictures[33].mask)
    assert not np.array_equal(render(6, 33, SIZE).image, pictures[33].image)


def test_size_changes_the_resolution_and_not_the_scene(pictures: list[Roof]) -> None:
    for index in (1, 3, 5):
        large = render(5, index, 2 * SIZE)
        shrunk = np.asarray(Image.fromarray(large.mask).reduce(2)) > 127
        small = pictures[index].mask > 0
        assert (shrunk & small).sum() / (shrunk | small).sum() > 0.8


def test_a_set_is_a_tree_with_masks(root: Path) -> None:
    names = set(files(root))
    assert f"{INTACT}/00007-0.jpg" in names
    assert f"{DAMAGED}/00007-1.jpg" in names
    assert f"masks/{DAMAGED}/00007-1.png" in names
    assert len(names) == COUNT + COUNT // 2 + 1
    for index in (14, 15):
        drawn = render(5, index, SIZE)
        stored = np.asarray(Image.open(root / drawn.label / f"00007-{index % 2}.jpg"))
        assert np.abs(stored.astype(int) - drawn.image).mean() < 6
    assert np.array_equal(np.asarray(Image.open(root / f"masks/{DAMAGED}/00007-1.png")), render(5, 15, SIZE).mask)


def test_manifest_groups_by_building(root: Path) -> None:
    manifest = build_manifest(root, DataConfig(source="roofs", count=COUNT, size=SIZE, seed=5))
    assert manifest.labels == (DAMAGED, INTACT)
    assert Counter(sample.group for sample in manifest.samples) == {f"{n:05d}": 2 for n in range(COUNT // 2)}
    splits = {sample.group: set[str]() for sample in manifest.samples}
    for sample in manifest.samples:
        splits[sample.group].add(sample.split)
        assert (sample.mask is None) == (sample.label == INTACT)
    assert all(len(found) == 1 for found in splits.values())


def test_a_smaller_set_is_the_start_of_a_larger_one(root: Path, tmp_path: Path) -> None:
    small = files(generate(tmp_path / "roofs", 50, SIZE, 5))
    large = files(root)
    assert {name: large[name] for name in small if name != roofs.MARKER} == {
        name: data for name, data in small.items() if name != roofs.MARKER
    }


def test_a_finished_set_is_left_as_it_is(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert generate(root, COUNT, SIZE, 5) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("marker", [None, "{", json.dumps({"count": 1})])
def test_a_place_that_holds_something_else_is_named(tmp_path: Path, marker: str | None) -> None:
    if marker is not None:
        (tmp_path / roofs.MARKER).write_text(marker)
    with pytest.raises(DataError, match="exists and is not the set"):
        generate(tmp_path, COUNT, SIZE, 5)


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = roofs.render

    def interrupted(seed: int, index: int, size: int) -> Roof:
        if index == 20:
            raise KeyboardInterrupt
        return draw(seed, index, size)

    monkeypatch.setattr(roofs, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "roofs", COUNT, 48, 0)
    assert list(tmp_path.iterdir()) == []


def test_jpeg_quality_is_as_written(root: Path) -> None:
    stored = (root / INTACT / "00000-0.jpg").read_bytes()
    buffer = io.BytesIO()
    Image.fromarray(render(5, 0, SIZE).image).save(buffer, "JPEG", quality=roofs.QUALITY)
    assert stored == buffer.getvalue()

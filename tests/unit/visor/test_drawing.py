"""A file of its own for each picture that is drawn."""

import os
from pathlib import Path

import pytest
from PIL import Image

from visor.drawing import place, place_below, save
from visor.system import of_system


def test_two_pictures_never_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["claim-1/photos/1.jpg", "claim-2/photos/1.jpg", "claim-1/photos-1.jpg", "photos/1.jpg"]
    named = {place(Path("out"), Path(path)) for path in paths}
    assert len(named) == len(paths)
    assert all(path.parent == Path("out") for path in named)
    assert place(Path("out"), Path("claim-1/../photos/1.jpg")) == place(Path("out"), Path("photos/1.jpg"))
    listed = ["a/1.png", "../a/1.png", "/a/1.png", "a/../1.png", "1.png", "b/1.png"]
    below = {place_below(tmp_path, path) for path in listed}
    assert len(below) == len(listed)
    assert all(Path(os.path.normpath(path)).is_relative_to(tmp_path) for path in below)
    assert place_below(tmp_path, "a/1.png") == tmp_path / "a/1.png-heatmap.png"


def test_a_full_disk_is_told_by_the_drawing(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        save(Image.new("RGB", (64, 64)), path)
    assert str(of_system(raised.value)).startswith(f"disk.full: no space is left for {path}; free some")

"""A file of its own for each picture that is drawn."""

import os
from pathlib import Path

import pytest

from visor.drawing import place, place_below


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

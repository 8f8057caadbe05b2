"""Folders that appear whole or not at all."""

from pathlib import Path

import pytest

from training.data.folders import whole


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "set"
    with whole(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert target.stat().st_mode & 0o777 == 0o755
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_does_not_appear_when_its_block_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with whole(tmp_path / "set") as folder:
            (folder / "a").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_who_comes_first_stays(tmp_path: Path) -> None:
    with whole(tmp_path / "set") as slow:
        (slow / "a").write_text("slow")
        with whole(tmp_path / "set") as fast:
            (fast / "a").write_text("fast")
    assert (tmp_path / "set" / "a").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("mine")
    with pytest.raises(NotADirectoryError), whole(tmp_path / "set"):
        pass
    assert (tmp_path / "set").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]

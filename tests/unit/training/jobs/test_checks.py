"""Folders that cannot be written to and disks that are too small, as they are."""

from pathlib import Path

import pytest

from training.errors import DiskFull, FolderError
from training.jobs.checks import check_space, check_writable


def test_a_folder_that_is_not_there_yet_is_tried_above(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_and_a_place_where_nothing_can_be_made_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        FolderError, match=rf"{tmp_path}/file/home cannot be made: {tmp_path}/file cannot be written to \(Not a dir"
    ):
        check_writable(tmp_path / "file" / "home")
    with pytest.raises(
        FolderError, match=r"^folder.unwritable: /proc/none cannot be made: /proc cannot be written to .*; give it"
    ):
        check_writable(Path("/proc/none"), advice="give it to me")


def test_what_one_disk_has_to_hold_is_added_up(tmp_path: Path) -> None:
    check_space({tmp_path: 1, tmp_path / "run": 1})
    with pytest.raises(
        DiskFull, match=rf"^disk.full: {tmp_path} and {tmp_path}/run may need 1000000000000 MB, and [0-9]+ MB are"
    ):
        check_space({tmp_path: 4 * 10**17, tmp_path / "run": 6 * 10**17})

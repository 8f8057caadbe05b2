"""Files and folders that appear whole or not at all, and files that are files."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from archives.files import atomic_folder, naming, open_plain, printable, replacing


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "set"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert target.stat().st_mode & 0o777 == 0o755
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_does_not_appear_when_its_block_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "set") as folder:
            (folder / "a").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_who_comes_first_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "set") as slow:
        (slow / "a").write_text("slow")
        with atomic_folder(tmp_path / "set") as fast:
            (fast / "a").write_text("fast")
    assert (tmp_path / "set" / "a").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_full_disk_is_told_by_the_place_that_is_written(tmp_path: Path) -> None:
    """The system names the file where it opens it, and none where it has begun to write."""
    with pytest.raises(OSError, match="No space left") as begun, naming(tmp_path):
        Path("/dev/full").write_text("1")
    assert begun.value.filename == str(tmp_path)
    with pytest.raises(OSError, match="No space left") as opened, naming(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/file")
    assert opened.value.filename == "/x/file"
    with pytest.raises(OSError, match="No space left") as made, atomic_folder(tmp_path / "set"):
        Path("/dev/full").write_text("1")
    assert made.value.filename == str(tmp_path / "set")


def test_a_full_disk_is_told_of_a_tree_s_copy_too(tmp_path: Path) -> None:
    def copy(source: str, target: str, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)

    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("1")
    with pytest.raises(OSError, match="No space left") as raised, naming(tmp_path / "store"):
        shutil.copytree(tmp_path / "tree", tmp_path / "copy", copy_function=copy)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "store"))


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("mine")
    with pytest.raises(NotADirectoryError), atomic_folder(tmp_path / "set"):
        pass
    assert (tmp_path / "set").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_midway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        fail_midway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_in_a_sentence_stays_in_its_line() -> None:
    assert printable(Path("a/räume 1.mar")) == "a/räume 1.mar"
    assert printable(Path("a\nb\x1b[2J.mar")) == r"'a\nb\x1b[2J.mar'"


def test_what_is_opened_to_read_is_a_file(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_text("text")
    link.symlink_to(file)
    os.mkfifo(pipe)
    for path in (file, link):
        with open_plain(path) as opened:
            assert opened.read() == b"text"
    for path in (pipe, tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match="it is no file"):
            open_plain(path)
    with pytest.raises(OSError, match="symbolic links"):
        open_plain(link, os.O_NOFOLLOW)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "none")


def test_an_error_names_the_path_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    for path, kind in (
        ("file/x.html", NotADirectoryError),
        ("none/x.html", FileNotFoundError),
        ("folder.html", IsADirectoryError),
    ):
        with pytest.raises(kind) as caught, replacing(tmp_path / path) as temporary:
            temporary.write_text("x")
        assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / path), None)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.html"}

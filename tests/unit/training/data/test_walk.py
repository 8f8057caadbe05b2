"""Links, pipes and what file managers leave behind."""

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from training.config import DataConfig
from training.data.manifest import build, verify
from training.data.tree import scan
from training.data.walk import count_suffixes, walk
from training.errors import DataError
from visor import cli

Plant = Callable[..., Path]


def config(root: Path) -> DataConfig:
    return DataConfig(source="imagefolder", path=root)


def test_links_to_files_are_files_wherever_they_lead(plant: Plant) -> None:
    """Row 5: what DVC's cache.type symlink leaves; the digest is that of the same files without links."""
    paths = [f"{label}/{n}.png" for label in ("oak", "ash") for n in range(8)]
    root, plain = plant(*paths), plant(*paths, root="plain")
    assert build(root, config(root)).digest == build(plain, config(plain)).digest
    before = build(root, config(root))
    for n, path in enumerate(paths):
        kept = plant(root="cache") / f"{n:02}"
        kept.parent.mkdir(exist_ok=True)
        (root / path).rename(kept)
        (root / path).symlink_to(kept)
    assert build(root, config(root)).digest == before.digest
    verify(root, before)


def test_a_link_to_itself_is_a_sentence(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """Row 26."""
    root = plant("oak/1.png", "ash/1.png")
    (root / "oak/2.png").symlink_to("2.png")
    (root / "ash/2.png").symlink_to("3.png")
    (root / "ash/3.png").symlink_to("2.png")
    with pytest.raises(DataError, match=r"(?s)holds 3 links .*oak/2\.png is a link that leads back to itself; remove it"):
        scan(root)
    assert cli.main(["data", "report", str(root)]) == 1
    assert "is a link that leads back to itself" in capsys.readouterr().err
    looped = root / "root"
    looped.symlink_to("root")
    assert cli.main(["data", "report", str(looped)]) == 1


def test_links_to_folders_and_to_nothing_are_sentences(plant: Plant) -> None:
    """Row 27."""
    root, elsewhere = plant("oak/1.png", "ash/1.png"), plant("1.png", root="elsewhere")
    for name, target in (("elm", elsewhere), ("oak/loop", root / "oak"), ("oak/up", root), ("ash/inside", root / "oak")):
        (root / name).symlink_to(target)
        with pytest.raises(DataError, match=rf"{name} is a link to a folder, {target}; only links to files are followed"):
            scan(root)
        (root / name).unlink()
    (root / "oak/gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png is a link that leads to .*nowhere\.png: No such file"):
        scan(root)
    (root / "oak/gone.png").unlink()
    linked = root.with_name("linked")
    linked.symlink_to(root)
    assert len(scan(linked).images) == 2


def test_all_links_that_cannot_be_followed_are_told_at_once(plant: Plant) -> None:
    root = plant("oak/1.png", "ash/1.png")
    for n in range(12):
        (root / f"oak/gone{n:02}.png").symlink_to(f"nowhere{n:02}.png")
    (root / "ash/oak").symlink_to(root / "oak")
    with pytest.raises(DataError) as caught:
        scan(root)
    first, *shown, last = str(caught.value).splitlines()
    assert first == f"data.invalid: {root} holds 13 links that cannot be followed:"
    assert shown[0].startswith(f"{root}/ash/oak is a link to a folder, {root}/oak; only links to files are followed")
    gone = "is a link that leads to nowhere{:02}.png: No such file or directory; remove it, or bring back what it stands for"
    assert shown[1:] == [f"{root}/oak/gone{n:02}.png {gone.format(n)}" for n in range(9)]
    assert last == "and 3 more"


def test_pipes_sockets_and_devices_are_never_opened(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    """Row 28: to open a pipe that nobody writes into is to wait for ever."""
    root = plant(*(f"{label}/{n}.png" for label in ("oak", "ash") for n in range(6)))
    os.mkfifo(root / "oak/p.png")
    (root / "ash/null.png").symlink_to("/dev/null")
    place = Path.cwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(root / "oak")  # a socket's path has 108 characters at most
        try:
            listening.bind("s.png")
        finally:
            os.chdir(place)
        with caplog.at_level(logging.WARNING):
            manifest = build(root, config(root))
        verify(root, manifest)
    assert len(manifest.samples) == 12
    assert caplog.messages[0] == "3 pipes, sockets or devices are left out, such as 'ash/null.png'"


def test_what_file_managers_leave_is_counted(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    """Rows 11 and 12: thumbnails of file servers are pictures, and no label."""
    root = plant(
        "oak/1.png", "ash/1.png", "oak/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/2.png",
        ".ipynb_checkpoints/3.png", "oak/.ipynb_checkpoints/3.png", "oak/._1.jpg",
    )  # fmt: skip
    (root / ".DS_Store").write_bytes(b"x")
    for name in ("Thumbs.db", "desktop.ini"):
        (root / "oak" / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        tree = scan(root)
    assert [image.path for image in tree.images] == ["ash/1.png", "oak/1.png"]
    assert tree.labels == ("ash", "oak")
    made = "which archivers, file managers or file servers make, is left out with 1 file"
    assert caplog.messages[:2] == [f"{root / '$RECYCLE.BIN'}, {made}", f"{root / 'oak/@eaDir'}, {made}"]
    assert "2 files are not images and are left out: 1 .db, 1 .ini" in caplog.messages[2]


def test_suffixes_are_counted_the_most_frequent_first() -> None:
    paths = [*(f"{n}.GIF" for n in range(12)), *(f"a/{n}.gif" for n in range(2)), "x.heic", "y.heic", "README", "a.tar.gz"]
    assert count_suffixes(paths) == "14 .gif, 2 .heic, 1 .gz, 1 without a suffix"
    assert count_suffixes([f"x.{letter}" for letter in "abcdefgh"]) == "1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 3 others"


def test_linked_folders_are_listed_once_where_they_are_followed(plant: Plant) -> None:
    root, elsewhere = plant("b/1.png"), plant("x/2.png", root="elsewhere")
    for name, target in {"a": root / "b", "c": elsewhere, "d": elsewhere, "e": root.parent, "f": "f"}.items():
        (root / name).symlink_to(target)
    found = walk(root, linked_folders=True)
    assert found.files == ["b/1.png", "c/x/2.png"]
    assert sorted(found.links) == ["a", "d", "e/elsewhere", "e/set", "f"]

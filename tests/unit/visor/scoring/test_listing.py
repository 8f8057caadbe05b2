"""Which images are scored, and in which order."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from training.data.manifest import Manifest, Sample
from training.errors import DataError
from visor.scoring import listing


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_folder_s_images_come_by_path_at_any_depth(tmp_path, caplog):
    touch(tmp_path, "b/2.png", "b/1.JPG", "a.tiff", "b/deep/er/x.webp", "notes.txt", ".hidden/x.png", "b/.x.png")
    found = listing.read(tmp_path)
    assert [image.path for image in found.images] == ["a.tiff", "b/1.JPG", "b/2.png", "b/deep/er/x.webp"]
    assert found.root == tmp_path
    assert f"below {tmp_path}, 1 file is not named as images are and is left out: 1 .txt" in caplog.text


def test_links_are_followed_and_no_image_is_listed_twice(tmp_path, caplog):
    touch(tmp_path, "images/a.png", "elsewhere/b.png", "elsewhere/deep/d.png")
    (tmp_path / "images/c.png").symlink_to(tmp_path / "elsewhere/b.png")
    (tmp_path / "images/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images/loop").symlink_to(tmp_path / "images")
    (tmp_path / "images/gone.png").symlink_to("nowhere.png")
    found = listing.read(tmp_path / "images")
    assert [image.path for image in found.images] == ["a.png", "c.png", "linked/b.png", "linked/deep/d.png"]
    assert caplog.messages == [
        "2 links are left out, which lead nowhere, or to a folder that is listed already, such as 'gone.png'"
    ]


def test_what_is_left_out_is_counted(tmp_path, caplog):
    touch(tmp_path, "a.png", "a.gif", "b.GIF", "notes.txt", "@eaDir/a.png", "__MACOSX/._a.png")
    os.mkfifo(tmp_path / "p.png")
    assert [image.path for image in listing.read(tmp_path).images] == ["a.png"]
    assert "1 pipe, socket or device is left out, such as 'p.png'" in caplog.messages
    assert f"below {tmp_path}, 3 files are not named as images are and are left out: 2 .gif, 1 .txt" in caplog.messages
    assert sum("is left out with 1 file" in message for message in caplog.messages) == 2


def test_a_manifest_says_digests_too(tmp_path):
    digest = hashlib.sha256(b"a").hexdigest()
    Manifest(("x", "y"), (Sample("x/1.png", 1, digest, "x", "test"), Sample("y/1.png", 1, digest, "y", "train"))).write(
        tmp_path / "manifest.json"
    )
    touch(tmp_path, "images/x/1.png", "y/1.png")
    found = listing.read(tmp_path / "manifest.json", tmp_path / "images")
    assert found.images == (listing.ListedImage("x/1.png", digest), listing.ListedImage("y/1.png", digest))
    assert found.root == tmp_path / "images"
    assert listing.read(tmp_path / "manifest.json").root == tmp_path


def test_a_list_keeps_its_order(tmp_path):
    touch(tmp_path, "a b.png")  # one is enough: the others are rows with an error
    (tmp_path / "list.txt").write_text("z.png\n\na b.png\n")
    assert [image.path for image in listing.read(tmp_path / "list.txt").images] == ["z.png", "a b.png"]


def test_a_list_of_notepad_s(tmp_path):
    touch(tmp_path, "a.png", "b/c.png")
    (tmp_path / "list.txt").write_bytes("\ufeffa.png\r\nb/c.png \r\n".encode())
    assert [image.path for image in listing.read(tmp_path / "list.txt").images] == ["a.png", "b/c.png"]
    (tmp_path / "list.txt").write_text("a.png\nb\\c.png\n")
    with pytest.raises(DataError, match=r"names 'b\\\\c\.png', which is not below .*, but 'b/c\.png' is; write paths with /"):
        listing.read(tmp_path / "list.txt")
    touch(tmp_path, "b\\c.png")
    assert listing.read(tmp_path / "list.txt").images[1].path == "b\\c.png"


def test_the_digest_is_of_paths_digests_and_order_and_not_of_the_place(tmp_path):
    images = (listing.ListedImage("ä.png"), listing.ListedImage("b.png", "0" * 64))
    lines = b"".join(json.dumps(pair).encode() + b"\n" for pair in (["ä.png", None], ["b.png", "0" * 64]))
    assert listing.Listing(tmp_path, images).digest == hashlib.sha256(lines).hexdigest()
    assert listing.Listing(Path("/"), images).digest == listing.Listing(tmp_path, images).digest
    assert listing.Listing(tmp_path, images[::-1]).digest != listing.Listing(tmp_path, images).digest


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("list.txt", b"a.png\nb.png\na.png\n", "names 'a.png' twice"),
        ("list.txt", b"\xe4.png\n", "list.txt is not UTF-8; save it as UTF-8$"),
        ("list.txt", b"\x89PNG\r\n\x1a\n\x00", "list.txt holds bytes that are no text"),
        ("list.txt", b"\n", "holds no image"),
        ("manifest.json", b"{}", "is not a manifest"),
        (
            "images.csv",
            b"a.png\n",
            "neither a folder nor a manifest .*: write the column of the paths, without its head",
        ),
        ("folder/readme.md", b"", "neither"),
    ],
)
def test_what_cannot_be_a_listing_is_said(tmp_path, name, content, words):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        listing.read(tmp_path / name)


def test_what_is_not_there_is_said_so(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/none is not there; name a folder of images, a manifest"):
        listing.read(tmp_path / "none")


def test_a_folder_without_images_and_a_root_that_nothing_needs(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        listing.read(tmp_path)
    with pytest.raises(DataError, match="need no --root"):
        listing.read(tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "list.txt"])
def test_a_root_that_is_not_there_or_has_none_of_the_files(tmp_path, name):
    Manifest(("x",), (Sample("x/1.png", 1, "0" * 64, "x", "test"), Sample("x/2.png", 1, "0" * 64, "x", "test"))).write(
        tmp_path / "manifest.json"
    )
    (tmp_path / "list.txt").write_text("x/1.png\nx/2.png\n")
    touch(tmp_path, "images/x/2.png", "other/y/2.png")
    assert listing.read(tmp_path / name, tmp_path / "images").root == tmp_path / "images"
    with pytest.raises(DataError, match=f"the 2 images that .*{name} names is below {tmp_path}, such as 'x/1.png'; .*--root"):
        listing.read(tmp_path / name)
    with pytest.raises(DataError, match="none of the 2 images"):
        listing.read(tmp_path / name, tmp_path / "other")
    with pytest.raises(DataError, match=f"--root {tmp_path}/nowhere is not there"):
        listing.read(tmp_path / name, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"list\.txt is no folder"):
        listing.read(tmp_path / name, tmp_path / "list.txt")


def test_a_name_that_is_not_utf_8(tmp_path):
    (tmp_path / "\udcff.png").write_bytes(b"")
    with pytest.raises(DataError, match="not UTF-8"):
        listing.read(tmp_path)

"""Pictures in a folder and in S3: whole or not there, under their digests."""

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.reviews.errors import PictureGone, PicturesDown
from console.reviews.pictures import Pictures, digest_of, open_pictures
from tests.s3 import OWN, S3, s3_server

CONTENT = b"a picture" * 1000


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as running:
        yield running


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return str(tmp_path / "pictures")
    s3, bucket = request.getfixturevalue("s3"), f"bucket-{secrets.token_hex(4)}"
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    with s3.client() as client:
        client.create_bucket(Bucket=bucket)
    return f"s3://{bucket}/kept/here"


@pytest.fixture
def pictures(place: str) -> Pictures:
    return open_pictures(place)


def test_a_picture_is_there_until_it_is_removed(pictures) -> None:
    digest = digest_of(CONTENT)
    assert not pictures.has(digest)
    pictures.put(digest, CONTENT)
    pictures.put(digest, CONTENT)
    assert pictures.has(digest)
    assert pictures.get(digest) == CONTENT
    assert [name for name, _ in pictures.digests()] == [digest]
    pictures.remove(digest)
    pictures.remove(digest)
    assert not pictures.has(digest)
    assert list(pictures.digests()) == []
    with pytest.raises(PictureGone):
        pictures.get(digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "a" * 63])
def test_nothing_but_a_digest_names_a_picture(pictures, name: str) -> None:
    for act in (pictures.get, pictures.remove, pictures.has):
        with pytest.raises(PictureGone):
            act(name)


def test_more_than_a_page_of_pictures_is_listed(pictures) -> None:
    digests = {digest_of(b"%d" % n) for n in range(30)}
    for digest in digests:
        pictures.put(digest, b"x")
    assert {name for name, _ in pictures.digests()} == digests


def test_what_a_killed_process_left_is_no_picture_and_goes(tmp_path: Path) -> None:
    pictures = open_pictures(str(tmp_path))
    left, other = (tmp_path / f".{digest_of(CONTENT)}.{name}.part" for name in ("1234", "5678"))
    for path, age_s in ((left, 3700), (other, 0)):  # one of a killed process, and one of another that writes just now
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s,) * 2)
    assert list(pictures.digests()) == []
    open_pictures(str(tmp_path))
    assert list(tmp_path.iterdir()) == [other]


def test_a_place_that_is_not_there_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PicturesDown, match="file"):
        open_pictures(str(tmp_path / "file"))
    if place.startswith("s3"):
        with pytest.raises(PicturesDown, match="no-such-bucket"):
            open_pictures("s3://no-such-bucket")


def test_a_picture_that_is_deleted_while_they_are_listed_is_left_out(tmp_path: Path) -> None:
    pictures = open_pictures(str(tmp_path))
    digests = [digest_of(b"%d" % n) for n in range(3)]
    folder = tmp_path / digests[0][:2]
    for digest in digests:
        pictures.put(digest, b"x")
    (folder / ("0" * 64)).symlink_to(folder / "nowhere")  # listed, and gone when it is looked at
    assert sorted(digest for digest, _ in pictures.digests()) == sorted(digests)

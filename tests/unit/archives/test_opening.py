"""An archive is opened as the copy that was verified, and only where it is the one that its place and the caller say."""

import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from archives import opening, signing
from archives.errors import ArchiveRefused, ArchiveUnexpected, KeyFileError
from archives.opening import examine, opened, reopen, take
from handlers.errors import ArchiveBroken
from tests.unit.archives.crafted import move, put
from tests.unit.specs import LINEAGE, make_spec


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return signing.make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def archive(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """Version 3 of tiny, in a store."""
    return put(tmp_path / "store", keys[0], version="3")


def digest_of(archive: Path) -> str:
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def test_an_archive_is_what_its_verified_copy_says(archive: Path, keys: tuple[Path, Path]) -> None:
    with opened(archive, keys[1], digest_of(archive)) as found:
        assert (found.spec, found.digest) == (make_spec(version="3"), digest_of(archive))
        assert found.key == hashlib.sha256(keys[1].read_bytes()).hexdigest()  # the file is the key's PEM form
        assert found.path != archive
        assert sorted(path.name for path in found.path.parent.iterdir()) == ["tiny.mar", "tiny.mar.sig"]
        assert stat.S_IMODE(found.path.parent.stat().st_mode) == 0o700
        assert found.read().lineage == LINEAGE
        with found.unpacked() as folder:
            assert sorted(path.name for path in folder.iterdir()) == ["lineage.json", "spec.json"]
    assert not found.path.parent.exists()


def test_the_key_is_said_by_its_fingerprint(archive: Path, keys: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), opened(archive, keys[1]) as found:
        pass
    key = hashlib.sha256(keys[1].read_bytes()).hexdigest()
    assert caplog.messages == [f"tiny version 3 (archive {found.digest}, torch) is signed by the key {keys[1]} (SHA-256 {key})"]


def test_what_is_read_is_what_was_verified_whatever_happens_to_the_original(
    archive: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original is exchanged right before its copy is verified, and once more right after."""
    whole, verify = archive.read_bytes(), signing.verify

    def exchange_then_verify(*arguments: Path) -> str:
        archive.write_bytes(b"something else")
        try:
            return verify(*arguments)
        finally:
            archive.write_bytes(b"and something else again")

    monkeypatch.setattr(signing, "verify", exchange_then_verify)
    with opened(archive, keys[1]) as found:
        assert found.digest == hashlib.sha256(whole).hexdigest()
        assert found.path.read_bytes() == whole
        assert found.read().digest == found.digest


RENAMED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "another name": (lambda path: path.with_name("other.mar"), "holds version 3 of 'tiny', so it was renamed"),
    "another model's place": (
        lambda path: path.parents[2] / "leaves/3/leaves.mar",
        "holds version 3 of 'tiny', so it was renamed",
    ),
    "a newer version's place": (lambda path: path.parents[1] / "9/tiny.mar", "where version 9 belongs"),
    "an older version's place": (lambda path: path.parents[1] / "1/tiny.mar", "where version 1 belongs"),
    "configuration": (
        lambda path: path.with_name("t\nallowed_urls=.*\n#.mar"),
        r"t\\nallowed_urls=\.\*\\n#\.mar' holds version 3",
    ),
}


@pytest.mark.parametrize(("where", "words"), RENAMED.values(), ids=RENAMED)
def test_an_archive_in_anothers_place_is_refused(
    archive: Path, keys: tuple[Path, Path], where: Callable[[Path], Path], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = move(archive, where(archive))
    with pytest.raises(ArchiveUnexpected, match=rf"^archive\.unexpected: .*{words}"), opened(moved, keys[1]):
        pass
    monkeypatch.chdir(moved.parent)  # a place is the same, however it is named
    with pytest.raises(ArchiveUnexpected), opened(Path(moved.name), keys[1]):
        pass
    with pytest.raises(ArchiveUnexpected), opened(Path("..", moved.parent.name, moved.name), keys[1]):
        pass


@pytest.mark.parametrize("where", ["tiny.mar", "7/tiny.mar", "latest/tiny.mar", "tiny/latest/tiny.mar", "tiny/03/tiny.mar"])
def test_elsewhere_the_name_alone_is_compared(archive: Path, keys: tuple[Path, Path], tmp_path: Path, where: str) -> None:
    with opened(move(archive, tmp_path / "elsewhere" / where), keys[1]) as found:
        assert found.spec.version == "3"


def test_an_older_archive_is_refused_where_another_digest_was_asked_for(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = digest_of(archive)
    older = put(tmp_path / "older", keys[0], version="2")
    shutil.copy(older, archive)
    shutil.copy(signing.signature_of(older), signing.signature_of(archive))
    loose = move(archive, tmp_path / "tiny.mar")
    with opened(loose, keys[1]):
        pass  # nobody has asked for a version
    with (
        pytest.raises(ArchiveUnexpected, match=f"has the digest {digest_of(older)} and not {asked}"),
        opened(loose, keys[1], asked),
    ):
        pass


def test_what_is_not_signed_is_refused_before_its_place_is_looked_at(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    moved = Path(shutil.copy(archive, tmp_path / "other.mar"))
    with (
        pytest.raises(ArchiveRefused, match=r"other\.mar has no signature \(other\.mar\.sig is missing\)"),
        opened(moved, keys[1]),
    ):
        pass
    _, stranger = signing.make_keys(tmp_path / "stranger")
    with (
        pytest.raises(ArchiveRefused, match=f"does not hold for this key, .*{signing.fingerprint(stranger)}"),
        opened(archive, stranger),
    ):
        pass
    with pytest.raises(KeyFileError), opened(archive, tmp_path / "none.pub"):
        pass
    with archive.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArchiveRefused, match=rf"^archive\.refused: {archive} is refused: its bytes"), opened(archive, keys[1]):
        pass


def test_a_signed_file_that_is_no_archive_is_broken_by_its_own_name(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    path = tmp_path / "tiny.mar"
    path.write_bytes(b"signed, but no zip")
    signing.sign(path, keys[0])
    with pytest.raises(ArchiveBroken, match=rf"^archive\.broken: {path} is not a visor archive"), opened(path, keys[1]):
        pass


def test_what_is_no_file_of_an_archives_size_is_not_copied(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "pipe.mar", tmp_path / "folder.mar", tmp_path / "none.mar"):
        if path.stem == "pipe":
            os.mkfifo(path)
        elif path.stem == "folder":
            path.mkdir()
        with pytest.raises(ArchiveRefused, match=f"{path} "), opened(path, keys[1]):
            pass
    signature = signing.signature_of(archive)
    signature.write_bytes(b" " * (opening.MAX_SIGNATURE_BYTES + 1))
    with pytest.raises(ArchiveRefused, match=r"tiny\.mar\.sig has more than 65536 bytes"), opened(archive, keys[1]):
        pass
    monkeypatch.setattr(opening, "MAX_BYTES", archive.stat().st_size - 1)
    with pytest.raises(ArchiveRefused, match=r"tiny\.mar has more than"), opened(archive, keys[1]):
        pass


def test_an_archive_that_was_taken_is_opened_again_where_it_lies(archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    taken = take(archive, keys[1], folder)
    assert taken.path == folder / "tiny.mar"
    again = reopen(taken.path, keys[1], taken.digest)
    assert (again.path, again.digest, again.key) == (taken.path, taken.digest, taken.key)
    with pytest.raises(ArchiveUnexpected):
        reopen(taken.path, keys[1], "0" * 64)


def test_a_refused_archive_is_still_examined(archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    found = examine(archive, keys[1], digest_of(archive))
    assert (found.contents.digest, found.contents.lineage) == (digest_of(archive), LINEAGE)
    assert (found.key, found.refusal, found.surprise) == (signing.fingerprint(keys[1]), None, None)

    found = examine(archive, keys[1], "0" * 64)
    assert (found.refusal, str(found.surprise).split(":")[0]) == (None, "archive.unexpected")

    moved = move(archive, tmp_path / "store/tiny/4/tiny.mar")
    signing.signature_of(moved).unlink()
    found = examine(moved, tmp_path / "none.pub")
    assert (found.contents.spec.version, found.key) == ("3", None)
    assert [str(one).split(":")[0] for one in (found.refusal, found.surprise)] == ["key.invalid", "archive.unexpected"]

    moved.write_bytes(b"no zip")
    with pytest.raises(ArchiveRefused, match="has no signature"):
        examine(moved, keys[1])

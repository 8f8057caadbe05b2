"""An archive says what it is by reading alone; what is none, and members that would land elsewhere, are refused by name."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from archives.contents import read, read_spec, unpacked
from archives.errors import ArchiveRefused
from handlers.errors import ArchiveBroken
from tests.unit.specs import make_spec


def test_an_archive_is_its_spec_and_its_digest(tmp_path: Path) -> None:
    path, spec = tmp_path / "x.mar", make_spec()
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("spec.json", spec.model_dump_json())
    assert read_spec(path) == (spec, hashlib.sha256(path.read_bytes()).hexdigest())


def test_archives_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ArchiveBroken, match="cannot be read: No such file"):
        read_spec(tmp_path / "none.mar")
    (tmp_path / "text.mar").write_text("no zip")
    with pytest.raises(ArchiveBroken, match="not a visor archive"):
        read_spec(tmp_path / "text.mar")
    with zipfile.ZipFile(tmp_path / "other.mar", "w") as file:
        file.writestr("model.pt", b"")
    with pytest.raises(ArchiveBroken, match=r"spec\.json"):
        read_spec(tmp_path / "other.mar")
    with zipfile.ZipFile(tmp_path / "bad.mar", "w") as file:
        file.writestr("spec.json", b"{}")
    with pytest.raises(ArchiveBroken, match="not a valid spec"):
        read_spec(tmp_path / "bad.mar")


@pytest.mark.parametrize("what", ["no zip", "no spec", "no lineage"])
def test_what_is_no_archive_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.mar"
    if what == "no zip":
        path.write_bytes(b"no zip")
    else:
        with zipfile.ZipFile(path, "w") as mar:
            if what == "no lineage":
                mar.writestr("spec.json", make_spec().model_dump_json())
    with pytest.raises(ArchiveBroken, match=r"x\.mar is not a visor archive"):
        read(path)


def test_a_member_that_would_land_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("../outside.txt", "x")
    with pytest.raises(ArchiveRefused, match=r"\.\./outside\.txt"), unpacked(path):
        pass
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_broken_zip_cannot_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.mar"
    path.write_bytes(b"no zip")
    with pytest.raises(ArchiveBroken, match="cannot be unpacked"), unpacked(path):
        pass

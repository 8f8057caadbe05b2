"""An archive says what it is by reading alone; what is none, and members that would land elsewhere, are refused by name."""

import hashlib
import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from archives import contents
from archives.contents import open_zip, read, read_reference, read_spec, unpacked
from archives.errors import ArchiveRefused
from archives.signing import damaged_members
from handlers.errors import ArchiveBroken
from tests.unit.archives.crafted import directory, pack
from tests.unit.references import make_reference
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


BIG = bytes(200 << 10)
OUT_OF_BOUNDS = {
    "members": (directory(1001), "it has 1001 members; at most 1000 are read"),
    "directory": (directory(25_000), "its directory has more than 1 MiB"),
    "names": (directory(2), "two of its members have one name"),
}


@pytest.mark.parametrize(("data", "words"), OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS)
def test_a_directory_is_bounded_before_it_is_read(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x.mar"
    path.write_bytes(data)
    with pytest.raises(zipfile.BadZipFile, match=words), open_zip(path):
        pass
    for read_it in (read, read_spec):
        with pytest.raises(ArchiveBroken, match=words):
            read_it(path)
    with pytest.raises(ArchiveBroken, match=words), unpacked(path):
        pass


def test_a_member_is_bounded_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "x.mar", zeros=BIG)  # 200 KiB of zeros are about 220 bytes
    with pytest.raises(zipfile.BadZipFile, match=r"its members have \d+ bytes; at most \d+ are unpacked"), open_zip(path):
        pass
    monkeypatch.setattr(contents, "MAX_RATIO", 10_000)
    with open_zip(path) as mar:
        assert len(mar.namelist()) == 3
    monkeypatch.setattr(contents, "MAX_UNPACKED", len(BIG))  # spec and lineage are more
    with pytest.raises(zipfile.BadZipFile, match=f"at most {len(BIG)} are unpacked"), open_zip(path):
        pass


def test_a_member_that_is_larger_than_it_says_is_broken(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.mar", zeros=BIG[:1000])
    data = path.read_bytes()
    size = (1000).to_bytes(4, "little")
    assert data.count(size) == 2  # before the member, and in the directory
    path.write_bytes(data.replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(ArchiveBroken, match="Bad CRC-32 for file 'zeros'"), unpacked(path):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_without_a_bound_is_not_read(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w", method) as mar:
        mar.writestr("spec.json", make_spec().model_dump_json())
    with pytest.raises(ArchiveBroken, match=f"'spec.json' is packed by method {method}; deflate is read"):
        read_spec(path)


def test_the_texts_have_a_bound_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "x.mar")
    size = len(make_spec().model_dump_json())
    monkeypatch.setattr(contents, "MAX_READ", size - 1)
    with pytest.raises(ArchiveBroken, match=f"spec.json has {size} bytes; at most {size - 1} are read"):
        read(path)


def test_the_drift_reference_is_read_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_reference(pack(tmp_path / "none.mar")) is None
    reference, file = make_reference(), io.BytesIO()
    np.savez(file, **reference.arrays)
    path = pack(tmp_path / "x.mar", **{"reference.npz": file.getvalue()})
    found = read_reference(path)
    assert found is not None
    assert (found.figures, found.images) == (reference.figures, reference.images)
    assert [counts.tolist() for counts in found.counts] == [counts.tolist() for counts in reference.counts]
    before = io.BytesIO()
    np.savez(before, centre=reference.centre)
    assert read_reference(pack(tmp_path / "before.mar", **{"reference.npz": before.getvalue()})) is None
    with pytest.raises(ArchiveBroken, match=r"reference\.npz"):
        read_reference(pack(tmp_path / "broken.mar", **{"reference.npz": b"no zip"}))
    monkeypatch.setattr(contents, "MAX_READ", len(file.getvalue()) - 1)
    with pytest.raises(ArchiveBroken, match=r"reference.npz has \d+ bytes; at most \d+ are read"):
        read_reference(path)


def test_members_beyond_one_piece_are_read_whole(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(contents.PIECE * 2 + 5)
    with unpacked(pack(tmp_path / "x.mar", noise=noise)) as folder:
        assert (folder / "noise").read_bytes() == noise


def test_a_damaged_archive_is_an_error_of_ours_wherever_the_damage_is(tmp_path: Path) -> None:
    """Every third byte of a small archive in turn, and so each field of the zip's own, is another one."""
    path, refused = tmp_path / "x.mar", 0
    whole = pack(path).read_bytes()
    tried = range(0, len(whole), 3)
    for position in tried:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        damaged_members(path)
        try:
            read(path)
        except ArchiveBroken:
            refused += 1
    assert refused > len(tried) / 2

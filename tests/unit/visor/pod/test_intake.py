"""What a pod takes from storage, and what it leaves there."""

import hashlib
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from archives import signing
from archives.errors import ArchiveAmbiguous, ArchiveRefused, ArchiveUnexpected, KeyFileError
from handlers.errors import ArchiveBroken
from tests.unit.specs import make_spec
from visor.errors import ArchiveMissing
from visor.pod import intake
from visor.serving.memory import of_archive

# A file's name that would be further lines of TorchServe's configuration, and load an archive from elsewhere.
HOSTILE_NAME = "r\nallowed_urls=.*\nload_models=probe=http:\\u002f\\u002f127.0.0.1:9\\u002fprobe.mar\n#.mar"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.mar, its signature and the keys."""
    folder = tmp_path_factory.mktemp("signed")
    private, _ = signing.make_keys(folder)
    with zipfile.ZipFile(folder / "tiny.mar", "w") as mar:
        mar.writestr("spec.json", make_spec().model_dump_json())
    signing.sign(folder / "tiny.mar", private)
    return folder


@pytest.fixture
def models(signed: Path, tmp_path: Path) -> Path:
    """Storage that holds the archive."""
    folder = tmp_path / "models"
    put(signed, folder)
    return folder


def put(signed: Path, folder: Path, name: str = "tiny.mar") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for end in ("", ".sig"):
        shutil.copy(signed / f"tiny.mar{end}", folder / f"{name}{end}")


@pytest.mark.parametrize("where", [".", "1", "tiny/1"])
def test_the_archive_is_published_wherever_it_lay(signed: Path, tmp_path: Path, where: str) -> None:
    put(signed, tmp_path / "models" / where)
    work = tmp_path / "run" / "visor"
    taken = intake.publish_archive(tmp_path / "models", signed / "visor.pub", work, wait_s=0)
    needs = of_archive("torch", (signed / "tiny.mar").stat().st_size, make_spec().limits)
    assert taken == intake.VerifiedArchive(work / "archive" / "tiny.mar", "tiny", needs)
    assert sorted(path.name for path in work.rglob("*")) == ["archive", "tiny.mar", "tiny.mar.sig"]
    assert taken.path.read_bytes() == (signed / "tiny.mar").read_bytes()


@pytest.mark.parametrize("name", ["other.mar", HOSTILE_NAME])
def test_a_renamed_archive_is_refused(signed: Path, tmp_path: Path, name: str) -> None:
    put(signed, tmp_path / "models", name)
    with pytest.raises(
        ArchiveUnexpected, match=r"^archive\.unexpected: .* holds version 1 of 'tiny', so it was renamed"
    ) as refused:
        intake.publish_archive(tmp_path / "models", signed / "visor.pub", tmp_path / "work", wait_s=0)
    assert "\n" not in str(refused.value)
    assert list((tmp_path / "work").iterdir()) == []


def test_another_archive_of_the_same_signer_is_refused_by_its_digest(signed: Path, models: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((signed / "tiny.mar").read_bytes()).hexdigest()
    work = tmp_path / "work"
    with pytest.raises(ArchiveUnexpected, match=f"has the digest {digest} and not {'0' * 64}"):
        intake.publish_archive(models, signed / "visor.pub", work, wait_s=0, digest="0" * 64)
    assert list(work.iterdir()) == []
    first = intake.publish_archive(models, signed / "visor.pub", work, wait_s=0, digest=digest)
    assert intake.publish_archive(models, signed / "visor.pub", work, wait_s=0, digest=digest) == first
    with pytest.raises(ArchiveUnexpected):  # a container that is started again asks once more
        intake.publish_archive(models, signed / "visor.pub", work, wait_s=0, digest="0" * 64)


def test_a_version_in_anothers_place_is_refused(signed: Path, tmp_path: Path) -> None:
    put(signed, tmp_path / "models" / "tiny" / "2")
    with pytest.raises(ArchiveUnexpected, match="where version 2 belongs"):
        intake.publish_archive(tmp_path / "models", signed / "visor.pub", tmp_path / "work", wait_s=0)


def test_the_other_container_may_read_what_is_published(signed: Path, models: Path, tmp_path: Path) -> None:
    taken = intake.publish_archive(models, signed / "visor.pub", tmp_path / "work", wait_s=0)
    assert [path.stat().st_mode & 0o005 for path in (taken.path.parent, taken.path)] == [0o005, 0o004]


def test_an_archive_that_appears_late_is_waited_for(signed: Path, tmp_path: Path) -> None:
    later = threading.Timer(0.7, put, (signed, tmp_path / "models"))
    later.start()
    start = time.monotonic()
    assert intake.find_archive(tmp_path / "models", wait_s=30) == tmp_path / "models" / "tiny.mar"
    later.join()
    assert 0.7 <= time.monotonic() - start < 10


def test_no_archive_is_an_error_that_says_what_should_be_there(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(ArchiveMissing, match=rf"archive.missing: no .mar lies below {tmp_path} after 0.1 s; .*NAME.mar.sig"):
        intake.find_archive(tmp_path, wait_s=0.1)


def test_an_empty_folder_is_named_with_its_address_and_who_made_it(tmp_path: Path) -> None:
    models, note = tmp_path / "models", tmp_path / "note"
    models.mkdir()
    words = rf"no .mar lies below {models} \(archive.uri pvc://models/roofs/77\) after 0.1 s: the folder is empty, .* kubelet"
    with pytest.raises(ArchiveMissing, match=words):
        intake.find_archive(models, 0.1, "pvc://models/roofs/77", note)
    assert note.read_text() == f"waiting for an archive below {models} (archive.uri pvc://models/roofs/77)"


def test_what_is_waited_for_is_noted_for_as_long_as_it_is(signed: Path, models: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    assert intake.find_archive(models, 0, note=note) == models / "tiny.mar"
    assert not note.exists()
    late = tmp_path / "late"
    later = threading.Timer(0.5, put, (signed, late))
    later.start()
    intake.find_archive(late, 30, note=note)
    later.join()
    assert not note.exists()


def test_more_than_one_archive_is_an_error_that_names_them(signed: Path, tmp_path: Path) -> None:
    put(signed, tmp_path / "1")
    put(signed, tmp_path / "2")
    with pytest.raises(ArchiveAmbiguous, match=r"archive.ambiguous: 2 archives lie below .* \(1/tiny.mar, 2/tiny.mar\)"):
        intake.publish_archive(tmp_path, signed / "visor.pub", tmp_path / "work", wait_s=0)


def test_changed_bytes_are_refused_by_the_name_of_storage(signed: Path, models: Path, tmp_path: Path) -> None:
    with (models / "tiny.mar").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArchiveRefused, match=rf"archive.refused: {models}/tiny.mar is refused: its bytes are not the ones"):
        intake.publish_archive(models, signed / "visor.pub", tmp_path / "work", wait_s=0)
    assert list((tmp_path / "work").iterdir()) == []


def test_without_a_signature_it_is_refused(signed: Path, models: Path, tmp_path: Path) -> None:
    (models / "tiny.mar.sig").unlink()
    with pytest.raises(ArchiveRefused, match=r"tiny.mar has no signature"):
        intake.publish_archive(models, signed / "visor.pub", tmp_path / "work", wait_s=0)


def test_another_key_and_a_missing_key_have_their_own_words(models: Path, tmp_path: Path) -> None:
    _, other = signing.make_keys(tmp_path / "other")
    with pytest.raises(ArchiveRefused, match=r"does not hold for this key"):
        intake.publish_archive(models, other, tmp_path / "work", wait_s=0)
    with pytest.raises(KeyFileError, match=r"key.invalid: the public key .* cannot be read"):
        intake.publish_archive(models, tmp_path / "none.pub", tmp_path / "work", wait_s=0)


def test_a_signed_file_that_is_no_archive_is_broken(signed: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "tiny.mar").write_bytes(b"signed, but no zip")
    signing.sign(models / "tiny.mar", signed / "visor.key")
    with pytest.raises(ArchiveBroken, match=r"archive.broken"):
        intake.publish_archive(models, signed / "visor.pub", tmp_path / "work", wait_s=0)
    assert not (tmp_path / "work" / "archive").exists()


def test_a_container_that_is_started_again_stays_with_what_its_pod_serves(signed: Path, models: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = intake.publish_archive(models, signed / "visor.pub", work, wait_s=0)
    (work / ".taking-left").mkdir()  # by a container that was killed
    (models / "tiny.mar").write_bytes(b"meanwhile something else")
    assert intake.publish_archive(models, signed / "visor.pub", work, wait_s=0) == first
    assert [path.name for path in work.iterdir()] == ["archive"]
    with first.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArchiveRefused, match=r"work/archive/tiny.mar is refused"):
        intake.publish_archive(models, signed / "visor.pub", work, wait_s=0)


def test_what_verifying_imports_does_not_stay(signed: Path, models: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from visor.pod import intake;"
        "intake.publish_archive(*map(Path, sys.argv[1:]), wait_s=0);"
        "print([name for name in ('pydantic', 'cryptography', 'model_signing', 'numpy') if name in sys.modules])"
    )
    arguments = [str(path) for path in (models, signed / "visor.pub", tmp_path / "work")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

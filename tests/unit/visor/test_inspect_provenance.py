"""`visor inspect` tells what signature and provenance are worth, in words, in JSON and by its exit code."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from archives import provenance, signing
from archives.contents import read
from archives.errors import ArchiveRefused
from tests.unit.specs import LINEAGE, TINY
from visor.inspect import show, show_sbom


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return signing.make_keys(tmp_path / "keys")


@pytest.fixture
def archive(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """A signed archive without a provenance statement."""
    path = tmp_path / "tiny.mar"
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("spec.json", TINY.model_dump_json())
        mar.writestr("lineage.json", LINEAGE.model_dump_json())
    signing.sign(path, keys[0])
    return path


def test_no_provenance_is_fine(archive: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert show(archive, keys[1], as_json=False) == 0
    assert "\nprovenance none\n" in capsys.readouterr().out
    assert show(archive, keys[1], as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["provenance"] is None


def test_a_provenance_that_holds_is_shown(archive: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    statement = provenance.write(archive, read(archive), keys[0])
    assert show(archive, keys[1], as_json=False) == 0
    assert "\nprovenance holds: made by visor " in capsys.readouterr().out
    assert show(archive, keys[1], as_json=True) == 0
    found = json.loads(capsys.readouterr().out)["provenance"]
    assert found == {"holds": True, "path": str(statement), "reason": None, "statement": json.loads(statement.read_text())}


def test_a_wrong_provenance_is_said_and_the_exit_code_is_1(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, _ = signing.make_keys(tmp_path / "others")
    statement = provenance.write(archive, read(archive), private)
    assert show(archive, keys[1], as_json=False) == 1
    shown = capsys.readouterr().out
    assert "\nsignature  holds for " in shown
    assert f"\nprovenance DOES NOT HOLD: provenance.refused: {statement}: its signature does not hold for " in shown
    assert show(archive, keys[1], as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["signature"]["holds"] is True
    assert (found["provenance"]["holds"], found["provenance"]["statement"]) == (False, None)


def test_a_statement_of_another_archive_is_refused(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    provenance.write(archive, read(archive), keys[0])
    other = tmp_path / "other/tiny.mar"
    other.parent.mkdir()
    with zipfile.ZipFile(other, "w") as mar:
        mar.writestr("spec.json", TINY.model_dump_json())
        mar.writestr("lineage.json", LINEAGE.model_copy(update={"mlflow_run_id": "run-8"}).model_dump_json())
    signing.sign(other, keys[0])
    for path in provenance.beside(archive)[1:]:
        shutil.copy(path, other.parent)
    assert show(other, keys[1], as_json=False) == 1
    assert "is about another archive than" in capsys.readouterr().out


def test_a_bill_of_materials_is_of_a_verified_archive_alone(
    archive: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_sbom(archive, keys[1]) == 0
    assert json.loads(capsys.readouterr().out)["specVersion"] == "1.6"
    with archive.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArchiveRefused):
        show_sbom(archive, keys[1])
    assert capsys.readouterr().out == ""

"""What `visor inspect` prints of an archive and of its signature, and when it exits with 1."""

import hashlib
import json
from pathlib import Path

import pytest

from archives import signing
from tests.unit.archives import crafted
from tests.unit.archives.crafted import move, put
from tests.unit.specs import LINEAGE, make_spec
from visor import inspect
from visor.inspect import show


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return signing.make_keys(tmp_path_factory.mktemp("keys"))


def test_what_would_be_served_is_shown_with_its_key(
    keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, key = put(tmp_path, keys[0]), hashlib.sha256(keys[1].read_bytes()).hexdigest()
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert show(archive, keys[1], digest, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"archive    {archive}", f"digest     {digest}"]
    assert lines[4] == f"signature  holds for {keys[1]}, SHA-256 {key}"
    assert show(archive, keys[1], as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": str(archive),
        "archive_digest": digest,
        "bytes": archive.stat().st_size,
        "signature": {"holds": True, "public_key": str(keys[1]), "reason": None, "public_key_sha256": key},
        "place": {"holds": True, "reason": None},
        "provenance": None,
        "lacks": [],
        "spec": make_spec().model_dump(mode="json"),
        "lineage": LINEAGE.model_dump(mode="json"),
    }


def test_what_would_be_refused_is_shown_with_every_reason(
    keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = move(put(tmp_path, keys[0]), tmp_path / "tiny/2/tiny.mar")
    _, stranger = signing.make_keys(tmp_path / "stranger")
    assert show(archive, keys[1], as_json=False) == 1
    shown = capsys.readouterr().out
    assert f"signature  holds for {keys[1]}" in shown
    assert f"place      DOES NOT MATCH: archive.unexpected: {archive} holds version 1 of 'tiny', where version 2 belongs" in shown
    assert show(archive, stranger, as_json=False) == 1
    shown = capsys.readouterr().out
    assert f"signature  DOES NOT HOLD: archive.refused: {archive} is refused" in shown
    assert "place      DOES NOT MATCH" in shown
    assert show(archive, stranger, as_json=True) == 1
    facts = json.loads(capsys.readouterr().out)
    assert [facts[name]["holds"] for name in ("signature", "place")] == [False, False]
    assert facts["signature"]["public_key_sha256"] == signing.fingerprint(stranger)


def test_a_key_that_is_not_there_is_no_fault_of_the_archive(
    keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(put(tmp_path, keys[0]), tmp_path / "no.pub", as_json=False) == 1
    said = f"COULD NOT BE CHECKED: key.invalid: the public key {tmp_path}/no.pub cannot be read (No such file or directory); "
    shown = capsys.readouterr().out
    assert f"signature  {said}" in shown
    assert "DOES NOT HOLD" not in shown


def test_an_archive_before_0_3_says_what_it_lacks() -> None:
    old = make_spec(positive=("a",), review_below=0.1, review_above=0.0)
    band, *others = inspect._lacks(old)
    assert band.startswith("the review band's ends")
    assert inspect._lacks(make_spec(review_below=0.0, review_above=0.0)) == others
    assert inspect._lacks(make_spec(positive=("a",))) == []


def test_what_is_read_by_people_has_key_figures_and_a_band_only_where_something_is_flagged(
    keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"accuracy": 0.875, "decision": {"expected_cost": 0.75, "expected_cost_with_review": 0.5}}
    monkeypatch.setattr(crafted, "LINEAGE", LINEAGE.model_copy(update={"metrics": metrics}))
    show(put(tmp_path, keys[0]), keys[1], as_json=False)
    shown = capsys.readouterr().out
    assert "metrics: {accuracy: 0.875, expected_cost_with_review: 0.5, more: visor inspect --json}" in shown
    assert "review_below" not in shown


def test_labels_are_printed_as_they_are_written(
    keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = put(tmp_path, keys[0], spec=make_spec(("Blüte", "Blatt", "木"), name="tiny", version="1"))
    assert show(archive, keys[1], as_json=False) == 0
    assert "labels: [Blüte, Blatt, 木]" in capsys.readouterr().out


def test_long_tables_of_numbers_are_shown_by_their_length_and_names_whole() -> None:
    tree = {"curve": [[0.1, 0.2]] * 100, "short": [1] * 16, "labels": [f"l{n}" for n in range(40)], "in": {"axes": [1.0] * 17}}
    assert inspect._shortened(tree) == {
        "curve": "100 rows; visor inspect --json",
        "short": [1] * 16,
        "labels": tree["labels"],
        "in": {"axes": "17 rows; visor inspect --json"},
    }

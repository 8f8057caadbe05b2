"""What an erasure does beside a whole run, which tests/integration/training/jobs/test_erase.py has."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.configs import make_config
from tests.unit.runs import make_run
from training import runs
from training.data.manifest import Manifest, Sample
from training.errors import DataError, FolderError
from training.jobs import erase as job
from training.jobs.erase import GOING, ErasurePlaces, erase
from visor import cli

CHANGES = 13
"""Of files, in the erasure of two pictures."""


def write_picture(file: Path, seed: int) -> str:
    """A picture of a few large squares like no other; its SHA-256."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(cells.repeat(8, axis=0).repeat(8, axis=1)).save(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_run(folder: Path, root: Path, seeds: dict[str, int], mask: str | None = None) -> Manifest:
    """A finished run on pictures `a/N.png` and `b/N.png`, with a report that shows each of them."""
    samples, cases = [], []
    for path, seed in sorted(seeds.items()):
        digest = write_picture(root / path, seed)
        own = mask if path == "a/1.png" else None
        masked = write_picture(root / own, 99) if own else None
        samples.append(Sample(path, (root / path).stat().st_size, digest, path[0], "test", mask=own, mask_sha256=masked))
        uri = f"data:image/png;base64,{base64.b64encode((root / path).read_bytes()).decode()}"
        cases.append(f"<article><code>{path}</code><figure><img src='{uri}'></figure></article>")
    manifest = Manifest(("a", "b"), tuple(samples))
    make_run(folder, dataset_root=root, dataset_digest=manifest.digest, tracking_uri="sqlite:///x.db")
    runs.write_config(folder, make_config(data={"source": "imagefolder", "path": root}))
    manifest.write(folder / runs.MANIFEST)
    (folder / runs.REPORT).write_text("".join(cases))
    (folder / runs.METRICS).write_text(json.dumps({"worst": "a/1.png", "accuracy": 0.5}))
    return manifest


@pytest.fixture
def places(tmp_path: Path) -> ErasurePlaces:
    return ErasurePlaces(tmp_path / "home", tmp_path / "store", (), originals=True)


def test_the_same_name_in_another_data_set_is_another_picture(places: ErasurePlaces, tmp_path: Path) -> None:
    mine = write_run(places.home / "mine", tmp_path / "mine", {"a/1.png": 1, "b/1.png": 2})
    write_run(places.home / "theirs", tmp_path / "theirs", {"a/1.png": 3, "b/1.png": 4})
    before = {file: file.read_bytes() for file in (places.home / "theirs").iterdir()}
    [erased] = erase([mine.samples[0].sha256], places, write=True)
    assert {file: file.read_bytes() for file in (places.home / "theirs").iterdir()} == before
    assert erased.paths == ("a/1.png",)
    assert (tmp_path / "theirs/a/1.png").exists()
    assert not (tmp_path / "mine/a/1.png").exists()
    assert json.loads((places.home / "mine" / runs.METRICS).read_text()) == {"worst": "(erased)", "accuracy": 0.5}


def test_what_only_looks_like_it_stays_in_a_run_that_does_not_hold_it(places: ErasurePlaces, tmp_path: Path) -> None:
    mine = write_run(places.home / "mine", tmp_path / "mine", {"a/1.png": 1, "b/1.png": 2})
    theirs = places.home / "theirs"
    write_run(theirs, tmp_path / "theirs", {"a/5.png": 1, "b/1.png": 4})
    pixels = np.array(Image.open(tmp_path / "theirs/a/5.png"))
    pixels[0, 0] ^= 1  # another file, and another picture by its bytes alone
    Image.fromarray(pixels).save(tmp_path / "theirs/a/5.png")
    data = (tmp_path / "theirs/a/5.png").read_bytes()
    digest, uri = hashlib.sha256(data).hexdigest(), f"data:image/png;base64,{base64.b64encode(data).decode()}"
    other = Manifest.read(theirs / runs.MANIFEST).samples[1]
    Manifest(("a", "b"), (Sample("a/5.png", len(data), digest, "a", "test"), other)).write(theirs / runs.MANIFEST)
    (theirs / runs.REPORT).write_text(f"<article><code>a/5.png</code><img src='{uri}'></article>")
    before = {file: file.read_bytes() for file in theirs.iterdir()}
    [erased] = erase([mine.samples[0].sha256], places, write=True)
    assert {file: file.read_bytes() for file in theirs.iterdir()} == before
    alike = [finding.place for finding in erased.findings if finding.action == "alike"]
    assert sorted(alike) == sorted([str(theirs / runs.REPORT), str(tmp_path / "theirs/a/5.png")])
    assert (places.home / "mine" / runs.REPORT).read_text().count("(erased)") == 1


def test_the_same_picture_in_two_data_sets_goes_from_both(places: ErasurePlaces, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(places.home / name, tmp_path / name, {"a/1.png": 1, "b/1.png": 2})
    erase([str(tmp_path / "one/a/1.png")], places, write=True)
    for name in ("one", "two"):
        assert [sample.path for sample in Manifest.read(places.home / name / runs.MANIFEST).samples] == ["b/1.png"]
        assert "a/1.png" not in (places.home / name / runs.REPORT).read_text()
        assert not (tmp_path / name / "a/1.png").exists()


@pytest.mark.parametrize("inside", [True, False])
def test_its_mask_goes_along(places: ErasurePlaces, tmp_path: Path, inside: bool) -> None:
    root = (places.home / "data" if inside else tmp_path) / "set"
    manifest = write_run(places.home / "run", root, {"a/1.png": 1, "b/1.png": 2}, mask="masks/a/1.png")
    write_picture(root / "masks/b/1.png", 99)  # as both may be blank
    erase([manifest.samples[0].sha256[:8]], places, write=True)
    assert sorted(file.relative_to(root).as_posix() for file in root.rglob("*.png")) == ["b/1.png", "masks/b/1.png"]


@pytest.mark.parametrize("by", ["file", "digest", "copy"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("after", range(CHANGES + 1))
def test_an_erasure_that_was_interrupted_goes_on(
    places: ErasurePlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, inside: bool, by: str
) -> None:
    """Of two pictures, stopped before each change of a file; the command names them by files that go with the rest."""
    root = (places.home / "data" if inside else tmp_path) / "set"
    seeds = {"a/1.png": 1, "a/2.png": 3, "b/1.png": 2}
    manifest = write_run(places.home / "run", root, seeds)
    both, written = manifest.samples[:2], list[Path]()
    copies = [places.home / f"{sample.label}{n}.JPG" for n, sample in enumerate(both)]
    for copy, sample in zip(copies, both, strict=True):
        shutil.copy(root / sample.path, copy)
    wanted = [
        {"file": str(root / sample.path), "digest": sample.sha256[:8], "copy": str(copy)}[by]
        for copy, sample in zip(copies, both, strict=True)
    ]

    def interrupted(file: Path, data: bytes | None, write: bool) -> None:
        if write and len(written) == after:
            raise KeyboardInterrupt
        written.append(file)
        real(file, data, write)

    real = job._write
    monkeypatch.setattr(job, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt) if after < CHANGES else nullcontext():
        erase(wanted, places, write=True)
    assert len(written) == min(after, CHANGES)
    monkeypatch.setattr(job, "_write", real)
    if after < CHANGES:
        erase(wanted, places, write=True)
    for file in tmp_path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for sample in both:
            assert sample.sha256.encode() not in content, file
            assert sample.path.encode() not in content, file
            assert hashlib.sha256(content).hexdigest() != sample.sha256, file
    assert (root / "b/1.png").is_file()
    assert Manifest.read(places.home / "run" / runs.MANIFEST).samples == manifest.samples[2:]


def test_a_killed_command_is_given_again(places: ErasurePlaces, tmp_path: Path) -> None:
    """Killed as by power or memory, with its file gone and its manifest whole; the SHA-256 was said before."""
    manifest = write_run(places.home / "run", tmp_path / "set", {"a/1.png": 1, "b/1.png": 2})
    file = tmp_path / "set/a/1.png"
    flags = ["--home", str(places.home), "--store", str(places.store), "--originals", "--yes"]
    code = (
        "import os, sys; import training.jobs.erase as job; real = job._clean; from visor import cli\n"
        "die_at = lambda every, *rest: os._exit(9) if all(one.name == 'manifest.json' for one in every) else real(every, *rest)\n"
        "job._clean = die_at\n"
        "cli.main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "erase", str(file), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 9
    assert done.stderr.strip() == f"erasing {file}, SHA-256 {manifest.samples[0].sha256}"
    assert not file.exists()
    assert Manifest.read(places.home / "run" / runs.MANIFEST) == manifest
    assert (places.home / GOING).is_file()
    assert cli.main(["data", "erase", str(file), *flags]) == 0
    assert Manifest.read(places.home / "run" / runs.MANIFEST).samples == manifest.samples[1:]
    assert not (places.home / GOING).exists()


def test_a_file_that_is_gone_is_known_by_the_manifest_that_lists_it(places: ErasurePlaces, tmp_path: Path) -> None:
    manifest = write_run(places.home / "run", tmp_path / "set", {"a/1.png": 1, "b/1.png": 2})
    (tmp_path / "set/a/1.png").unlink()
    [erased] = erase([str(tmp_path / "set/a/1.png")], places, write=True)
    assert erased.sha256 == manifest.samples[0].sha256
    with pytest.raises(
        DataError, match=r"is neither a file nor .*; name a file that is there, .* `sha256` in RUN/manifest\.json"
    ):
        erase([str(tmp_path / "set/a/1.png")], places, write=True)


def test_nothing_is_changed_where_one_of_several_is_not_known(places: ErasurePlaces, tmp_path: Path) -> None:
    manifest = write_run(places.home / "run", tmp_path / "set", {"a/1.png": 1, "b/1.png": 2})
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(DataError):
        erase([manifest.samples[0].sha256, "no such file.png"], places, write=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and "phash" not in file.name} == before


def test_a_training_without_an_epoch_has_learnt_nothing(places: ErasurePlaces, tmp_path: Path) -> None:
    manifest = write_run(places.home / "run", tmp_path / "set", {"a/1.png": 1, "b/1.png": 2})
    write_run(places.home / "failed", tmp_path / "set", {"a/1.png": 1, "b/1.png": 2})
    (places.home / "failed" / runs.WEIGHTS).unlink()
    [erased] = erase([manifest.samples[0].sha256], places, write=False)
    assert [Path(one.place).name for one in erased.findings if one.action == "learnt"] == ["run"]


def test_a_file_that_cannot_be_changed_is_named(places: ErasurePlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = write_run(places.home / "run", tmp_path / "set", {"a/1.png": 1, "b/1.png": 2})

    def refuse(_self: Path, _data: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(FolderError, match=r"home/.* cannot be changed: Permission denied; when it can, the same command goes on"):
        erase([manifest.samples[0].sha256], places, write=True)


def test_links_are_not_followed_out_of_home(places: ErasurePlaces, tmp_path: Path) -> None:
    manifest = write_run(places.home / "run", tmp_path / "set", {"a/1.png": 1, "b/1.png": 2})
    (tmp_path / "elsewhere.html").write_text((places.home / "run" / runs.REPORT).read_text())
    (places.home / "run/link.html").symlink_to(tmp_path / "elsewhere.html")
    erase([manifest.samples[0].sha256], places, write=True)
    assert "a/1.png" in (tmp_path / "elsewhere.html").read_text()


def test_digits_of_two_pictures_are_refused(places: ErasurePlaces, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_run(places.home / "run", root, {"a/1.png": 1, "b/1.png": 2})
    manifest = Manifest.read(places.home / "run" / runs.MANIFEST)
    same = tuple(
        Sample(sample.path, sample.size, "0" * 10 + sample.sha256[10:], sample.label, "test") for sample in manifest.samples
    )
    Manifest(("a", "b"), same).write(places.home / "run" / runs.MANIFEST)
    with pytest.raises(DataError, match="begins the SHA-256 of 2 pictures"):
        erase(["0" * 10], places, write=False)

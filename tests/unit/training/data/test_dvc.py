"""What DVC has not brought is asked for by name; pointers are no images."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from training.config import DataConfig, SplitConfig
from training.data.dvc import check_pulled
from training.data.manifest import build
from training.data.sources import prepare
from training.errors import DataUnpulled

Plant = Callable[..., Path]
# As `dvc add` writes them (DVC 3).
FOLDER = "outs:\n- md5: f437247ec66d73ba66b0ade0246fcb49.dir\n  size: {size}\n  nfiles: {files}\n  hash: md5\n  path: {path}\n"
FILE = "outs:\n- md5: 8a8aaa6da1b5fb4b1d63b1ab1ec2e1a5\n  size: 12\n  hash: md5\n  path: {path}\n"
IMAGES = [f"{label}/{n}.png" for label in ("ash", "oak") for n in range(8)]


def point(root: Path, files: int | None = None, size: int | None = None) -> Path:
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    pointer = root.with_name(root.name + ".dvc")
    counts = {"files": len(sizes) if files is None else files, "size": sum(sizes) if size is None else size}
    pointer.write_text(FOLDER.format(path=root.name, **counts))
    return pointer


def test_a_pulled_folder_is_taken(plant: Plant, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = plant(*IMAGES)
    point(root)
    assert prepare(DataConfig(source="imagefolder", path=root), tmp_path) == root
    assert not caplog.records


@pytest.mark.parametrize("below", ["", "train/oak"])
def test_a_folder_that_was_never_pulled_is_asked_for(tmp_path: Path, below: str) -> None:
    pointer = point(tmp_path / "set", 16, 100)
    with pytest.raises(DataUnpulled, match=rf"^data\.unpulled: .* is not there.*: get the images with `dvc pull {pointer}`$"):
        prepare(DataConfig(source="imagefolder", path=tmp_path / "set" / below), tmp_path)


def test_a_folder_that_was_pulled_in_part_is_asked_for(plant: Plant) -> None:
    root = plant(*IMAGES)
    point(root)
    (root / "oak/3.png").unlink()
    with pytest.raises(DataUnpulled, match=r"holds 15 files of the 16 .*`dvc pull"):
        check_pulled(root)


def test_a_changed_folder_is_said(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    root = plant(*IMAGES)
    point(root)
    (root / "oak/3.png").write_bytes(b"other")
    check_pulled(root)
    assert "`dvc add` records it" in caplog.text


def test_single_files_are_asked_for_too(plant: Plant) -> None:
    root = plant(*IMAGES)
    (root / "oak/3.png.dvc").write_text(FILE.format(path="3.png"))
    check_pulled(root)
    (root / "oak/3.png").unlink()
    with pytest.raises(DataUnpulled, match=r"oak/3\.png is not there.*`dvc pull .*oak/3\.png\.dvc`"):
        check_pulled(root)


def test_a_label_that_is_a_pointer_is_asked_for(plant: Plant) -> None:
    root = plant(*IMAGES)
    point(root / "elm", 4, 100)
    with pytest.raises(DataUnpulled, match="elm is not there"):
        check_pulled(root)


def test_pointers_are_no_images(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    root = plant(*IMAGES)
    for name in IMAGES:
        (root / f"{name}.dvc").write_text(FILE.format(path=Path(name).name))
    (root / "oak/.gitignore").write_text("/3.png\n")
    (root / "oak/notes.dvc").write_text("not a pointer: [")
    config = DataConfig(source="imagefolder", path=root, splits=SplitConfig(val=0.2, calibration=0.2, test=0.2))
    check_pulled(root)
    assert [sample.path for sample in build(root, config).samples] == sorted(IMAGES)
    assert "17 files are not images and are left out: 17 .dvc;" in caplog.text

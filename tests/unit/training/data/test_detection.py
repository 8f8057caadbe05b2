"""Exports of detection and of several labels a picture, in their tools' published forms, are refused by what was seen."""

from pathlib import Path

import pytest

from training.config import DataConfig
from training.data import sources
from training.errors import DataError


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ("data.yaml", "train/images/1.jpg", "train/labels/1.txt", "valid/images/2.jpg", "valid/labels/2.txt"),
            "holds YOLO's boxes, such as train/labels/1.txt, ",
        ),
        (("data.yaml", "images/train/1.jpg", "labels/train/1.txt"), "holds YOLO's boxes, such as labels/train/1.txt, "),
        (("images/1.jpg", "labels/1.txt", "classes.txt"), "holds YOLO's boxes, such as labels/1.txt, "),
        (
            ("train/1.jpg", "train/_annotations.coco.json", "valid/2.jpg", "valid/_annotations.coco.json"),
            "holds COCO's annotations, such as train/_annotations.coco.json, ",
        ),
        (
            ("train2017/1.jpg", "annotations/instances_train2017.json"),
            "holds COCO's annotations, such as annotations/instances_train2017.json, ",
        ),
        (("train/1.jpg", "train/1.xml", "test/2.jpg", "test/2.xml"), "holds Pascal VOC's boxes, such as t[a-z]*/[12].xml, "),
        (("JPEGImages/1.jpg", "Annotations/1.xml"), "holds Pascal VOC's boxes, such as Annotations/1.xml, "),
        (("train/1.jpg", "train/_annotations.csv"), "holds boxes in a table, such as train/_annotations.csv, "),
        (("train/1.jpg", "train/_classes.csv"), "holds several labels a picture in a table, such as train/_classes.csv, "),
    ],
)
def test_an_export_of_another_task_is_refused(tmp_path: Path, files: tuple[str, ...], words: str) -> None:
    write(tmp_path / "export", *files)
    with pytest.raises(DataError, match=f"{words}and not one label a picture: .*export/LABEL/\\*.jpg"):
        sources.prepare(DataConfig(source="imagefolder", path=tmp_path / "export"), tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        ("oak/1.jpg", "oak/1.txt", "elm/2.jpg", "elm/2.xml"),
        ("labels/1.jpg", "labels/1.txt", "stamps/2.jpg"),  # a label that is called so, with notes
        ("train/oak/1.jpg", "train/elm/2.jpg", "README.roboflow.txt"),
    ],
)
def test_notes_beside_pictures_of_labels_are_none(tmp_path: Path, files: tuple[str, ...]) -> None:
    write(tmp_path, *files)
    assert sources.prepare(DataConfig(source="imagefolder", path=tmp_path), tmp_path / "home") == tmp_path


def write(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("0 0.5 0.5 0.1 0.1\n")

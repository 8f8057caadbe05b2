"""Exports that annotate boxes, or several labels a picture: refused by what they hold, as visor learns one label a picture.

Their forms are those of Ultralytics (https://docs.ultralytics.com/datasets/detect/), COCO (https://cocodataset.org/#format-data),
Pascal VOC and Roboflow, which writes one file of annotations into each split's folder.
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.layout import SPLIT_FOLDERS
from training.errors import DataError

FILES = {
    "_annotations.coco.json": "COCO's annotations",
    "_annotations.createml.json": "CreateML's boxes",
    "_annotations.csv": "boxes in a table",
    "_annotations.txt": "boxes in a list",
    "_classes.csv": "several labels a picture in a table",
}
"""Files of annotations by their names, in the folder of a split or of all images."""
TREES = {
    "labels/*.txt": "YOLO's boxes",
    "labels/*/*.txt": "YOLO's boxes",
    "annotations/*.json": "COCO's annotations",
    "Annotations/*.xml": "Pascal VOC's boxes",
}
"""Folders of annotations beside the images' own."""


def refuse(root: Path) -> None:
    """Raise DataError where a folder is an export of another task, with what was seen and what to do."""
    for place in _places(root):
        if seen := _seen(place):
            file, what = seen
            raise DataError(
                f"{root} holds {what}, such as {file.relative_to(root)}, and not one label a picture: export the data set for "
                f"classification, a folder of images for each label ({root.name}/LABEL/*.jpg or {root.name}/train/LABEL/*.jpg), "
                "or cut out what each box shows into a folder of its label"
            )


def _places(root: Path) -> Iterator[Path]:
    """The folder, and those in it that are named as splits are."""
    yield root
    yield from sorted(path for path in root.iterdir() if path.name.casefold() in SPLIT_FOLDERS and path.is_dir())


def _seen(place: Path) -> tuple[Path, str] | None:
    for name, what in FILES.items():
        if (place / name).is_file():
            return place / name, what
    for pattern, what in TREES.items():
        # A folder of text files is a label's where pictures lie in it, too: those of a person's notes beside them.
        for file in place.glob(pattern):
            if not _is_beside_a_picture(file):
                return file, what
            break
    for file in place.glob("*.xml"):
        if _is_beside_a_picture(file):
            return file, "Pascal VOC's boxes"
    return None


def _is_beside_a_picture(file: Path) -> bool:
    return any(file.with_suffix(suffix).is_file() for suffix in (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"))

"""A new version of a data set: the images of a run, as it split them, and the pictures that people have labelled since.

Reviews that were chosen, for their expected cost or as unusual, are learnt from: they go into the training split. Those that were
drawn at random, the audits, are of the world as it is and must not be: they go into the sealed split, which nothing looks at
until `visor compare --sealed` measures the run that was chosen.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from archives.files import atomic_folder
from archives.names import composed
from handlers.errors import unread
from training.data.manifest import Manifest, Sample, hash_file
from training.data.tree import MASKS, Split
from training.errors import DataError

TASKS, PICTURES = "tasks.json", "pictures"
"""What `visor console export` writes."""
PROVENANCE = "reviews.json"
AUDIT = "audit"
_BEGINNINGS: Sequence[tuple[bytes, int, str]] = (
    (b"\xff\xd8\xff", 0, ".jpg"),
    (b"\x89PNG", 0, ".png"),
    (b"WEBP", 8, ".webp"),
    (b"II*\0", 0, ".tif"),
    (b"MM\0*", 0, ".tif"),
    (b"BM", 0, ".bmp"),
    (b"ftyp", 4, ".heic"),
)


@dataclass(frozen=True)
class Review:
    """A labelled picture. `item`: its number in the queue; `lane`: audit, review or drift; `archive`: whose answer it was."""

    path: str
    sha256: str
    label: str
    split: Split
    item: int
    reviewer: str
    lane: str
    chance: float | None
    archive: str


@dataclass(frozen=True)
class Merged:
    """What became of the reviews. `left_out`: why others are not in the new version."""

    parent: str
    reviews: tuple[Review, ...]
    left_out: Mapping[str, int]


class _Data(BaseModel):
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    item: int
    reviewer: str
    lane: str
    chance: float | None
    archive: str


class _Task(BaseModel):
    """What of a task of Label Studio's, as the console writes it, is read here."""

    data: _Data
    annotations: list[dict[str, Any]] = Field(min_length=1)

    @property
    def label(self) -> str:
        return composed(str(self.annotations[0]["result"][0]["value"]["choices"][0]))


def merge(manifest: Manifest, root: Path, reviews: Path, out: Path) -> Merged:
    """Write the new version into a folder, SPLIT/LABEL/..., with PROVENANCE beside; whole or not at all.

    Files are linked where they lie on one disk, else copied. Of a picture that has several reviews the last one counts; one that
    the parent has already stays as it is there. Raises DataError.
    """
    if out.exists():
        raise DataError(f"{out} is there already; name a new folder, as versions of a data set do not change")
    tasks, left_out = _read(reviews), Counter[str]()
    known = {sample.sha256: sample for sample in manifest.samples}
    last = {task.data.digest: task for task in tasks}
    left_out["reviewed_again"] = len(tasks) - len(last)
    merged = []
    with atomic_folder(out) as folder:
        for sample in manifest.samples:
            _place_sample(root, sample, folder)
        for task in last.values():
            if reason := _reason(task, known, manifest):
                left_out[reason] += 1
                continue
            source = reviews / PICTURES / task.data.digest
            if not source.is_file() or hash_file(reviews, f"{PICTURES}/{task.data.digest}")[1] != task.data.digest:
                raise DataError(f"{source} is not the picture of that digest; export the reviews again")
            suffix = _suffix(source)
            if suffix is None:
                left_out["no_picture"] += 1
                continue
            split: Split = "sealed" if task.data.lane == AUDIT else "train"
            path = f"{split}/{task.label}/review-{task.data.digest[:32]}{suffix}"
            _place(source, folder / path)
            facts = task.data.model_dump(exclude={"digest"})
            merged.append(Review(path, task.data.digest, task.label, split, **facts))
        found = Merged(manifest.digest, tuple(merged), {name: count for name, count in sorted(left_out.items()) if count})
        content = {"format": 1, "parent": found.parent, "left_out": found.left_out, "reviews": [asdict(one) for one in merged]}
        (folder / PROVENANCE).write_text(json.dumps(content, indent=1) + "\n")
    return found


def _reason(task: _Task, known: Mapping[str, Sample], manifest: Manifest) -> str | None:
    """Why a review is left out, None where it is not."""
    if (sample := known.get(task.data.digest)) is not None:
        return "in_parent" if composed(sample.label) == task.label else "contradicts_parent"
    return None if task.label in map(composed, manifest.labels) else "unknown_label"


def _read(reviews: Path) -> list[_Task]:
    path = reviews / TASKS
    try:
        tasks = [_Task.model_validate(task) for task in json.loads(path.read_bytes())]
        return tasks if all(task.label for task in tasks) else []
    except OSError as err:
        raise DataError(f"{path} {unread(err)}; `visor console export --out {reviews}` writes one") from err
    except (ValidationError, ValueError, KeyError, TypeError, IndexError) as err:
        raise DataError(f"{path} is none that `visor console export` wrote; export the reviews again") from err


def _place_sample(root: Path, sample: Sample, folder: Path) -> None:
    rest = PurePosixPath(*_below_label(sample))
    _place(root / sample.path, folder / sample.split / sample.label / rest)
    if sample.mask:
        _place(root / sample.mask, folder / MASKS / sample.split / sample.label / rest.with_suffix(".png"))


def _below_label(sample: Sample) -> Iterator[str]:
    """The parts of a sample's path below its label's folder, which is the first or the second."""
    parts = sample.path.split("/")
    label = next(n for n, part in enumerate(parts[:2]) if composed(part) == composed(sample.label))
    yield from parts[label + 1 :]


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        os.link(source, target)
        return
    try:
        shutil.copy2(source, target)
    except OSError as err:
        raise DataError(f"{source} {unread(err)}; `visor data verify` tells what else changed") from err


def _suffix(picture: Path) -> str | None:
    """A file's suffix by how it begins, None for what is no picture."""
    with picture.open("rb") as file:
        head = file.read(16)
    return next((suffix for begin, at, suffix in _BEGINNINGS if head[at : at + len(begin)] == begin), None)

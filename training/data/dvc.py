"""Pointer files of DVC (NAME.dvc beside NAME): what they stand for has to be pulled before it can be read.

Format: https://dvc.org/doc/user-guide/project-structure/dvc-files. DVC itself is not needed here.
"""

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from handlers.errors import counted
from training.errors import DataUnpulled

logger = logging.getLogger(__name__)

SUFFIX = ".dvc"


@dataclass(frozen=True)
class Output:
    """The data that a pointer stands for: a path, its number of files (None for a single file) and of bytes where known."""

    pointer: Path
    path: Path
    files: int | None
    size: int | None


def check_pulled(root: Path) -> None:
    """Make sure that a data set is there as far as DVC's pointers beside and below it say.

    Raises DataUnpulled where something is missing; warns where a folder has been changed since `dvc add`.
    """
    folder = root.absolute()  # not resolved: a link's pointer lies beside the link
    if not folder.exists():
        for path in (folder, *folder.parents)[:-1]:
            if (pointer := _beside(path)).is_file():
                raise DataUnpulled(_advice(pointer, f"{root} is not there, but {pointer} is"))
        return
    if (pointer := _beside(folder)).is_file():
        for output in _read(pointer):
            _check(output)
    for pointer in sorted(folder.rglob(f"?*{SUFFIX}")) if folder.is_dir() else ():
        if pointer.is_file():
            for output in _read(pointer):
                _check(output)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _check(output: Output) -> None:
    if not output.path.exists():
        raise DataUnpulled(_advice(output.pointer, f"{output.path} is not there, but {output.pointer} is"))
    if output.files is None or not output.path.is_dir():
        return
    # DVC leaves out its own pointers and what .dvcignore says; git's list of what DVC keeps lies beside, not inside.
    sizes = [path.stat().st_size for path in output.path.rglob("*") if path.is_file()]
    if len(sizes) < output.files:
        raise DataUnpulled(
            _advice(
                output.pointer,
                f"{output.path} holds {counted(len(sizes), 'file')} of the {output.files} that {output.pointer} counts",
            )
        )
    if (len(sizes), sum(sizes)) != (output.files, output.size):
        logger.warning(
            "%s is not as %s has it: %s of %d bytes, not %d of %s; `dvc add` records it, `dvc checkout` puts it back",
            output.path, output.pointer, counted(len(sizes), "file"), sum(sizes), output.files, output.size,
        )  # fmt: skip


def _advice(pointer: Path, seen: str) -> str:
    return f"{seen}: get the images with `dvc pull {shlex.quote(str(pointer))}`"


def _read(pointer: Path) -> list[Output]:
    """A pointer's outputs. A file of that name which is no pointer has none."""
    try:
        tree: Any = yaml.safe_load(pointer.read_text())
        outs = tree["outs"]
        return [Output(pointer, pointer.parent / out["path"], out.get("nfiles"), out.get("size")) for out in outs]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []

"""Refuse to write where something else lies: a config, a data set's files, a file of another kind, a folder of images."""

from collections.abc import Iterable
from pathlib import Path

from visor.errors import OutputRefused

OWN = {".html": b'<meta name="generator" content="visor">', ".json": b'{\n "format": 1,\n "digest": "'}
"""What the files of visor's that may lie in a data set's folder hold at their beginning, by suffix: pages and manifests."""
HEAD = 2048
"""Bytes of a file in which that is searched."""


def check_output(file: Path, inputs: Iterable[Path] = (), data: Path | None = None) -> None:
    """Raise OutputRefused where writing `file` would replace what is no output, or where it is a folder.

    `inputs`: files that the same command reads, such as its config. `data`: the folder of the images, where only what visor
    wrote itself is replaced. Suffixes are checked at parsing (`visor.commands.arguments.output`).
    """
    if file.is_dir():
        raise OutputRefused(f"{file} is a folder, and what is to be written is a file; name one")
    for read in inputs:
        if _is_same(file, read):
            raise OutputRefused(f"{file} is what this command reads, and would be replaced; name another file to write")
    if data is not None and file.exists() and is_within(file, data) and not _is_own(file):
        raise OutputRefused(
            f"{file} lies in the folder of the images, {data}, and was not written by visor, so it is not "
            "replaced; name another file"
        )


def check_folder(folder: Path) -> None:
    """Raise OutputRefused where a folder cannot be, as it or what it lies in is a file: before any work is done for it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputRefused(f"{there} is a file, and {folder} is to be a folder; name another")


def check_apart(flag: str, folder: Path, images: Iterable[Path]) -> None:
    """Raise OutputRefused where a folder to write into is one of the folders of images, or lies in one.

    What is written there would be taken for images, or for a label, by whoever reads the folder next. `flag`: what names it.
    """
    for held in images:
        if is_within(folder, held):
            raise OutputRefused(
                f"{flag} {folder} lies in the folder of the images, {held}, where what is written would be taken for images or "
                "labels of them; name a folder elsewhere"
            )


def check_run_apart(out: Path | None, home: Path, images: Path | None) -> None:
    """Raise OutputRefused where a run would be written among the images that it learns from. `images`: None where built in."""
    held = [] if images is None else [images]
    check_apart("--home", home, held)
    if out is not None:
        check_apart("--out", out, held)


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path, which need not be there, is the folder or lies in it, whatever links lead to either."""
    return path.resolve().is_relative_to(folder.resolve())


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _is_own(file: Path) -> bool:
    mark = OWN.get(file.suffix.lower())
    with file.open("rb") as content:
        return mark is not None and mark in content.read(HEAD)

"""List the images that a batch scoring answers for, in the order of its rows."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.data.manifest import Manifest
from training.data.tree import SUFFIXES
from training.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedImage:
    """Names one image. `path`: POSIX, relative to the listing's root; `sha256`: digest of its bytes, where a manifest has one."""

    path: str
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """Holds each image once, in the order that the answers will have. `root`: the folder that their paths are relative to."""

    root: Path
    images: tuple[ListedImage, ...]

    @property
    def digest(self) -> str:
        """Return the SHA-256 over one line of JSON for each image, path and known digest, in order; the root does not enter."""
        lines = (json.dumps([image.path, image.sha256]) + "\n" for image in self.images)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(what: Path, root: Path | None = None) -> Listing:
    """List the images below a folder, in a manifest (.json) or in a text file with one path a line (.txt).

    A folder's images are those with an image's suffix, at any depth, by path; hidden ones are left out. `root`: what the
    paths of a manifest or list are relative to, its own folder by default. Raises DataError.
    """
    if what.is_dir():
        if root is not None:
            raise DataError(f"{what} is a folder, whose images need no --root")
        images = tuple(ListedImage(path) for path in _below(what))
    elif what.suffix == ".json":
        images = tuple(ListedImage(sample.path, sample.sha256) for sample in Manifest.read(what).samples)
    elif what.suffix == ".txt":
        images = tuple(ListedImage(path) for path in _lines(what))
    else:
        raise DataError(f"{what} is neither a folder nor a manifest (.json) nor a list of paths (.txt)")
    if not images:
        raise DataError(f"{what} holds no image; images end in {', '.join(sorted(SUFFIXES))}")
    return Listing(what if what.is_dir() else root or what.parent, images)


def _below(folder: Path) -> list[str]:
    paths, others = [], 0
    for path in _files(folder, folder):
        if PurePosixPath(path).suffix.lower() in SUFFIXES:
            paths.append(path)
        else:
            others += 1
    if others:
        logger.warning("%d files below %s are not named as images are and are left out", others, folder)
    return sorted(paths)


def _files(root: Path, folder: Path) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as err:
        raise DataError(f"{folder} cannot be listed: {err.strerror}") from err
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(root, folder / entry.name)
        elif entry.is_file():
            path = (folder / entry.name).relative_to(root).as_posix()
            try:
                path.encode()
            except UnicodeEncodeError as err:
                raise DataError(f"the name {os.fsencode(path)!r} below {root} is not UTF-8; rename the file") from err
            yield path


def _lines(file: Path) -> list[str]:
    try:
        paths = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{file} cannot be read as a list of paths in UTF-8: {err}") from err
    seen = set[str]()
    for path in paths:
        if path in seen:
            raise DataError(f"{file} names {path!r} twice; each image is answered for once")
        seen.add(path)
    return paths

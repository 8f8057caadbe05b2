"""List the images that a batch scoring answers for, in the order of its rows."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from handlers.errors import counted, undecoded, unread
from training.data.manifest import Manifest
from training.data.tree import SUFFIXES, is_table
from training.data.walk import count_suffixes, walk
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

    def folders(self, what: Path) -> set[Path]:
        """Return the folders that belong to the images of `what`: the root, or of a list of paths those of its images.

        A list's own root is none of them: anything may lie beside the folders that it names.
        """
        if what.suffix != ".txt" or what.is_dir():
            return {self.root}
        return {(self.root / image.path).parent for image in self.images} - {self.root}


def read(what: Path, root: Path | None = None) -> Listing:
    """List the images below a folder, in a manifest (.json) or in a text file with one path a line (.txt).

    A folder's images are those with an image's suffix, at any depth and behind links, by path; `training.data.walk` says what is
    left out. Of a list, blanks at the end of a line and a byte order mark do not count. `root`: what the paths of a manifest or
    list are relative to, its own folder by default. Raises DataError, also where no file of a manifest or list is below it.
    """
    if not what.exists():
        raise DataError(f"{what} is not there; name a folder of images, a manifest (.json) or a list of paths (.txt)")
    if root is not None:
        check_root(root)
    if what.is_dir():
        if root is not None:
            raise DataError(f"{what} is a folder, whose images need no --root")
        images = tuple(ListedImage(path) for path in _below(what))
    elif what.suffix == ".json":
        images = tuple(ListedImage(sample.path, sample.sha256) for sample in Manifest.read(what).samples)
    elif what.suffix == ".txt":
        images = tuple(ListedImage(path) for path in _lines(what, root or what.parent))
    else:
        table = ": write the column of the paths, without its head, into a file of one path a line" if is_table(what.name) else ""
        raise DataError(f"{what} is neither a folder nor a manifest (.json) nor a list of paths (.txt){table}")
    if not images:
        raise DataError(f"{what} holds no image; images end in {', '.join(sorted(SUFFIXES))}")
    root = what if what.is_dir() else root or what.parent
    if not any((root / image.path).is_file() for image in images):
        raise DataError(
            f"none of the {counted(len(images), 'image')} that {what} names is below {root}, such as {images[0].path!r}; "
            "name the folder that the paths are relative to by --root"
        )
    return Listing(root, images)


def check_root(root: Path) -> None:
    """Raise DataError where what --root names is not a folder."""
    if not root.is_dir():
        lacking = "is no folder" if root.exists() else "is not there"
        raise DataError(f"--root {root} {lacking}; name the folder that the paths of the images are relative to")


def _below(folder: Path) -> list[str]:
    files = walk(folder, linked_folders=True).files
    paths = [path for path in files if PurePosixPath(path).suffix.lower() in SUFFIXES]
    if others := set(files) - set(paths):
        said = count_suffixes(others)
        named = counted(len(others), "file is not named as images are and is", "files are not named as images are and are")
        logger.warning("below %s, %s left out: %s", folder, named, said)
    return paths


def _lines(file: Path, root: Path) -> list[str]:
    try:
        paths = [stripped for line in file.read_text("utf-8-sig").splitlines() if (stripped := line.rstrip())]
    except UnicodeDecodeError as err:
        raise DataError(f"{file} {undecoded(err)}") from err
    except OSError as err:
        raise DataError(f"{file} {unread(err)}") from err
    seen = set[str]()
    for path in paths:
        if path in seen:
            raise DataError(f"{file} names {path!r} twice; each image is answered for once")
        seen.add(path)
        slashed = path.replace("\\", "/")
        if slashed != path and not (root / path).exists() and (root / slashed).exists():
            raise DataError(f"{file} names {path!r}, which is not below {root}, but {slashed!r} is; write paths with /")
    return paths

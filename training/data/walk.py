"""The files below a folder: without hidden ones and what file managers leave behind, never a pipe, no folder twice."""

import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from handlers.errors import counted
from training.errors import DataError

logger = logging.getLogger(__name__)

LEFTOVERS = frozenset({"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""Folders, by their names in lower case, that archivers, file managers and file servers make: copies, thumbnails, bins."""
KINDS = 5
"""How many suffixes a count names."""
SHOWN = 10
"""How many links that cannot be followed an error names."""


@dataclass
class Walked:
    """What lies below a folder, as POSIX paths relative to it.

    `files`: sorted; links to files among them. `folders`: those that were listed. `specials`: pipes, sockets and devices.
    `links`: links that were not followed. `leftovers`: folders named in LEFTOVERS, and how many files each holds.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    specials: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    leftovers: Counter[str] = field(default_factory=Counter)


def walk(root: Path, *, linked_folders: bool) -> Walked:
    """List the files below a folder, and warn of what is left out. Nothing is opened, and links to files are files.

    `linked_folders`: whether links to folders are followed. Then each folder is listed once, under its own name where it lies
    below the root, and links that lead nowhere, or to a folder that is listed already, are counted. Else they are an error.

    Raises DataError for links that it cannot follow, folders that cannot be listed and names not in UTF-8.
    """
    found, listed, bad = Walked(), set[tuple[int, int]](), list[DataError]()
    waiting, linked, following = [""], list[str](), False
    while waiting or linked:
        following = following or not waiting
        folder = waiting.pop() if waiting else linked.pop()
        status = _stat(root / folder)
        if following and (status.st_dev, status.st_ino) in listed:
            found.links.append(folder)
            continue
        listed.add((status.st_dev, status.st_ino))
        found.folders.append(folder)
        for name in _names(root, folder):
            path = f"{folder}/{name}" if folder else name
            try:
                mode = _follow(root / path).st_mode
            except DataError as err:
                if not (root / path).is_symlink():
                    raise
                if linked_folders:
                    found.links.append(path)
                else:
                    bad.append(err)
                continue
            if not stat.S_ISDIR(mode):
                (found.files if stat.S_ISREG(mode) else found.specials).append(path)
            elif name.casefold() in LEFTOVERS:
                found.leftovers[path] = sum(len(files) for _, _, files in os.walk(root / path))
            elif not (root / path).is_symlink():
                waiting.append(path)
            elif linked_folders:
                linked = sorted([*linked, path], reverse=True)  # which of two links to one folder is followed is then no chance
            else:
                where = f"{root / path} is a link to a folder, {(root / path).readlink()}"
                bad.append(
                    DataError(
                        f"{where}; only links to files are followed, since images could count twice: put the folder itself "
                        "there, or links to its files"
                    )
                )
    if bad:
        raise _all(root, bad)
    found.files.sort()
    _report(root, found)
    return found


def count_suffixes(paths: Collection[str]) -> str:
    """Count files by suffix, the most frequent first: "12 .gif, 3 .heic, 1 without a suffix"."""
    counts = Counter(PurePosixPath(path).suffix.lower() or "without a suffix" for path in paths)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} {suffix}" for suffix, count in ordered[:KINDS]]
    more = sum(count for _, count in ordered[KINDS:])
    return ", ".join([*shown, counted(more, "other")] if more else shown)


def warn_of(one: str, many: str, paths: Collection[str]) -> None:
    """Log how many paths are concerned, if any, and the first of them. `one`, `many`: what is said of one, and of more."""
    if paths:
        logger.warning("%s, such as %r", counted(len(paths), one, many), min(paths))


def _report(root: Path, found: Walked) -> None:
    warn_of("pipe, socket or device is left out", "pipes, sockets or devices are left out", found.specials)
    nowhere = "left out, which {} nowhere, or to a folder that is listed already"
    warn_of(f"link is {nowhere.format('leads')}", f"links are {nowhere.format('lead')}", found.links)
    for folder, files in sorted(found.leftovers.items()):
        logger.warning(
            "%s, which archivers, file managers or file servers make, is left out with %s", root / folder, counted(files, "file")
        )


def _all(root: Path, bad: list[DataError]) -> DataError:
    """The error that says of all links what each one's says, those shown by their paths."""
    said = sorted(str(err.args[0]) for err in bad)
    if len(said) == 1:
        return bad[0]
    more = [f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else []
    return DataError("\n".join([f"{root} holds {len(said)} links that cannot be followed:", *said[:SHOWN], *more]))


def _follow(path: Path) -> os.stat_result:
    """Stat what a path leads to. Raises DataError."""
    try:
        return path.stat()
    except OSError as err:
        if not path.is_symlink():
            raise DataError(f"{path} cannot be looked at: {err.strerror}") from err
        where = "leads back to itself" if err.errno == errno.ELOOP else f"leads to {path.readlink()}: {err.strerror}"
        raise DataError(f"{path} is a link that {where}; remove it, or bring back what it stands for") from err


def _stat(folder: Path) -> os.stat_result:
    try:
        return folder.stat()
    except OSError as err:
        raise DataError(f"{folder} cannot be listed: {err.strerror}") from err


def _names(root: Path, folder: str) -> list[str]:
    try:
        shown = sorted(path.name for path in (root / folder).iterdir() if not path.name.startswith("."))
    except OSError as err:
        raise DataError(f"{root / folder} cannot be listed: {err.strerror}") from err
    for name in shown:
        try:
            name.encode()
        except UnicodeEncodeError as err:
            raise DataError(f"the name {os.fsencode(name)!r} in {folder or '.'} is not UTF-8; rename the file") from err
    return shown

"""A run that is made anew, beside the one that stands: that one is whole until its successor is finished.

The successor grows in the run's own folder, in `.fresh`, where it can be resumed. When it is finished, one rename says so, and
only then are the old files deleted and the new ones moved to their places; a process that is killed between the two leaves that
to the next one, whether it trains, evaluates, compares or archives.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from training import runs

logger = logging.getLogger(__name__)

BEGUN, DONE, MOVING = ".fresh", ".fresh-done", ".fresh-moving"
"""A successor that is not finished; one that is; one whose files are being moved, as the old ones are deleted."""


def place(run: Path, fresh: bool, goes_on: Callable[[Path], bool]) -> Path:
    """Return the folder to write to: the run's own, or with `fresh` its successor's where there is something to lose.

    `goes_on`: tells whether what an interrupted `--fresh` left there is of the same config and images; other leavings go.
    """
    settle(run)
    begun = run / BEGUN
    if not fresh or not runs.made(run):
        return run
    if begun.is_dir() and not goes_on(begun):
        shutil.rmtree(begun)
    elif begun.is_dir():
        logger.info("%s goes on, which an interrupted --fresh began", begun)
    return begun


def finish(folder: Path, run: Path) -> None:
    """Put a finished successor in the run's place; nothing to do for a run that was written to its own."""
    if folder != run:
        folder.rename(run / DONE)
        settle(run)


def settle(run: Path) -> None:
    """Do what `finish` began and could not end; each command that reads a run does this first. One process does it at a time."""
    done, moving = run / DONE, run / MOVING
    if not (done.is_dir() or moving.is_dir()):
        return
    with runs.exclusive(run.with_name(f".{run.name}.settling")):
        _settle(run, done, moving)


def _settle(run: Path, done: Path, moving: Path) -> None:
    if done.is_dir():
        runs.clear(run)
        done.rename(moving)
    if moving.is_dir():
        files = sorted(path for path in moving.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.name == runs.RECORD):  # the record last: without it there is no run
            target = run / path.relative_to(moving)
            target.parent.mkdir(exist_ok=True)
            path.replace(target)
        shutil.rmtree(moving)

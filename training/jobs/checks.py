"""What would fail after hours of fitting, found out before: folders, space, MLflow and its experiment."""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from archives.files import FULL
from training.config import Config
from training.data.manifest import Manifest
from training.errors import DiskFull, FolderError
from training.tracking import Tracker

MB = 10**6
ROOM = 50 * MB
"""Bytes that MLflow's database, reports and logs may take, by far."""


def check_writable(*folders: Path, advice: str = "let this user write there, or choose another folder") -> None:
    """Write to each folder, or where there is none yet to the nearest above it. Raises FolderError, DiskFull."""
    for folder in folders:
        above = _nearest(folder)
        try:
            with tempfile.TemporaryFile(dir=above) as file:
                file.write(b"0" * 4096)
        except OSError as err:
            if err.errno in FULL:
                raise DiskFull(f"no space is left for {folder}; free some, or choose another folder") from err
            what = f"{folder} cannot be made: {above}" if above != folder else f"{folder}"
            raise FolderError(f"{what} cannot be written to ({err.strerror}); {advice}") from err


def check_places(config: Config, manifest: Manifest, run: Path, home: Path, tracker: Tracker, experiment: str) -> None:
    """Check the folders and the store that a fit writes to. Raises FolderError, DiskFull, RunError and Tracking's errors."""
    from training.data import pixels  # which import what decodes and fits: `check_writable` does without
    from training.fitting import rehearsal

    check_writable(home, run)
    tracker.reach(experiment=experiment)
    cached = pixels.bytes_to_cache(manifest, config.preprocessing, config.limits, home / "cache")
    check_space({home: cached, run: ROOM + rehearsal.bytes_to_write(config, len(manifest.labels))})


def check_space(needed: Mapping[Path, int]) -> None:
    """Check that there are so many bytes free for each folder, those of one disk together. Raises DiskFull."""
    disks: dict[int, dict[Path, int]] = defaultdict(dict)
    for folder, count in needed.items():
        disks[_nearest(folder).stat().st_dev][folder] = count
    for folders in disks.values():
        free, wanted = shutil.disk_usage(_nearest(next(iter(folders)))).free, sum(folders.values())
        if free < wanted:
            raise DiskFull(
                f"{' and '.join(map(str, folders))} may need {wanted / MB:.0f} MB, and {free / MB:.0f} MB are left there; free "
                "some, or choose another --home and --out"
            )


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())

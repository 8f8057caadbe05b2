"""What weights and archives have of a picture, which nothing but another training takes out of them."""

import json
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from archives import contents, store
from handlers.errors import ArchiveBroken
from training import runs
from training.erasure.picture import Known, Picture
from training.fitting.pretrained import IMAGES, METADATA

DIGITS = 16
"""Digits of a SHA-256 by which weights know the images that they have seen: `training.jobs.seen`."""
LARGEST_HEADER = 100 << 20
ROLES = {"learnt": "has learnt from it", "chosen_by": "was chosen by it (validation)"}
SPLITS = {
    "train": "its weights have learnt from it",
    "val": "its weights were chosen by it (validation)",
    "calibration": "its thresholds were fitted on it, among others",
    "test": "its figures were measured on it, among others",
    "sealed": "its sealed figures were measured on it, among others",
}
WEIGHTS = (runs.WEIGHTS, runs.BACKBONE)


def of_weights(file: Path, picture: Picture) -> str | None:
    """Say what a .safetensors file has of a picture by its own list; None where it lists none, or not this one."""
    try:
        with file.open("rb") as opened:
            return _by_list(opened, picture)
    except OSError:
        return None


def of_run(known: Known) -> list[str]:
    """Say what a run's numbers have of a picture, by the splits that its manifest puts it in."""
    return [SPLITS[split] for split in SPLITS if any(sample.split == split for sample in known.samples)]


def of_archives(model_store: Path, picture: Picture, data_sets: dict[str, list[str]]) -> list[tuple[Path, str]]:
    """Say of each archive in a store what it has of a picture. `data_sets`: what runs have of it by their data sets' digests.

    The archives are read and not changed: their signatures hold for their bytes alone.
    """
    found = []
    names: Sequence[Path] = sorted(model_store.iterdir()) if model_store.is_dir() else []
    for name in names:
        for version in store.versions(model_store, name.name):
            path = store.path_of(model_store, name.name, version)
            try:
                said = _of_archive(path, picture, data_sets)
            except ArchiveBroken as err:
                said = f"cannot be read, and so may have learnt from it: {err}"
            if said:
                found.append((path, said))
    return found


def _of_archive(path: Path, picture: Picture, data_sets: dict[str, list[str]]) -> str | None:
    lineage = contents.read(path).lineage
    said = list(data_sets.get(lineage.dataset_digest, []))
    try:
        with contents.open_zip(path) as mar, mar.open(runs.WEIGHTS) as weights:
            listed = _by_list(weights, picture)
    except (OSError, *contents.DAMAGED) as err:
        raise ArchiveBroken(f"{path} cannot be read: {err}") from err
    if listed and not said:
        said = [f"its weights: {listed}"]
    return "; ".join(said) or None


def _by_list(file: IO[bytes] | zipfile.ZipExtFile, picture: Picture) -> str | None:
    """Read the metadata at the head of a .safetensors file."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > LARGEST_HEADER:
            return None
        facts = json.loads(json.loads(file.read(length)).get("__metadata__", {}).get(METADATA, "{}"))
    except (struct.error, ValueError, AttributeError):
        return None
    wanted = picture.sha256[:DIGITS]
    roles = []
    for name in IMAGES:
        listed = str(facts.get(name, ""))
        if wanted in {listed[at : at + DIGITS] for at in range(0, len(listed), DIGITS)}:
            roles.append(ROLES[name])
    return " and ".join(roles) or None

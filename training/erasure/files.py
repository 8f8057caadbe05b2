"""One file without one picture, by its kind: what becomes of its bytes."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from training import runs
from training.data.splits import evenly_spaced
from training.data.tree import SUFFIXES
from training.erasure import pages
from training.erasure.picture import Known, Picture

TEXTS = frozenset({".md", ".txt", ".csv", ".json", ".jsonl", ".log"})
TABLES = ".parquet"
REFERENCES = 500
"""Rows of reference.npz at most: `training.jobs.evaluate` writes them."""
HASHES, PIXELS = "phash-", "pixels-"
KINDS = frozenset({".html", ".npz", ".npy", TABLES, *TEXTS, *SUFFIXES})
"""The endings of files that may show or name a picture."""


@dataclass(frozen=True)
class Cleaned:
    """What becomes of a file: `data` is its new content, None where it goes as a whole; `what` was found in it."""

    what: str
    data: bytes | None = None


def clean(name: str, data: bytes, picture: Picture, known: Known | None, paths: frozenset[str]) -> Cleaned | None:
    """Take a picture out of a file; None where it is not in it.

    `name`: the file's; `known`: what the manifest beside it says, None where there is none or it does not list the picture;
    `paths`: the picture's in any data set, for files that no manifest lies beside.
    """
    if len(data) == picture.size and digest(data) == picture.sha256:
        return Cleaned("the picture itself")
    suffix = PurePosixPath(name).suffix.lower()
    named = frozenset(known.paths) if known else paths
    if name == runs.MANIFEST and known:
        return Cleaned("its line", manifest_without(known))
    if name.startswith(HASHES) and suffix == ".npz":
        return _arrays(data, lambda arrays: _hashes_without(arrays, picture), "its perceptual hash")
    if name == runs.PREDICTIONS and known:
        return _arrays(data, lambda arrays: _answers_without(arrays, named), "its answer")
    if name == runs.REFERENCE and known:
        return _arrays(data, lambda arrays: _features_without(arrays, known), "its features")
    if suffix == TABLES:
        return _table(data, picture, named)
    if suffix in {".html", *TEXTS}:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        if suffix == ".html":
            new, count = pages.clean(text, named, known.others if known else (), picture.is_alike)
        else:
            new, count = pages.replace_names(text, named)
        return Cleaned(f"{count} pictures and names of it" if suffix == ".html" else "its name", new.encode()) if count else None
    return None


def digest(data: bytes) -> str:
    """Compute the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def manifest_without(known: Known) -> bytes:
    """Write a manifest without the picture, as `Manifest.write` does."""
    left = known.without()
    return (json.dumps({"format": 1, "digest": left.digest, **asdict(left)}, indent=1) + "\n").encode()


def _arrays(data: bytes, without: Callable[[dict[str, Any]], dict[str, Any] | None], what: str) -> Cleaned | None:
    try:
        with np.load(io.BytesIO(data)) as file:
            arrays = without(dict(file))
    except (ValueError, KeyError, OSError, EOFError):
        return None  # no file of ours
    if arrays is None:
        return None
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return Cleaned(what, buffer.getvalue())


def _hashes_without(arrays: dict[str, Any], picture: Picture) -> dict[str, Any] | None:
    keep = arrays["digests"] != picture.sha256.encode()
    return None if keep.all() else {name: arrays[name][keep] for name in ("digests", "hashes")}


def _answers_without(arrays: dict[str, Any], paths: frozenset[str]) -> dict[str, Any] | None:
    """predictions.npz: the rows of each split that have the picture's path."""
    changed = False
    for key in [key for key in arrays if key.endswith("_paths")]:
        keep = ~np.isin(arrays[key], sorted(paths))
        if not keep.all():
            changed = True
            split = key.removesuffix("paths")
            arrays |= {name: arrays[name][keep] for name in arrays if name.startswith(split)}
    return arrays if changed else None


def _features_without(arrays: dict[str, Any], known: Known) -> dict[str, Any] | None:
    """reference.npz: the rows of the picture among those evenly spaced over the calibration split, which have no names."""
    calibration = known.manifest.samples_of("calibration")
    rows = evenly_spaced(len(calibration), len(arrays["features"])) if calibration else []
    keep = np.array([calibration[row] not in known.samples for row in rows], dtype=bool)
    if keep.all() or len(keep) != len(arrays["features"]) or len(rows) != min(len(calibration), REFERENCES):
        return None
    return {**arrays, **{name: arrays[name][keep] for name in ("features", "probabilities", "labels")}}


def _table(data: bytes, picture: Picture, paths: frozenset[str]) -> Cleaned | None:
    """Scores: the rows of the picture's digest or path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid:
        return None
    keep = np.ones(table.num_rows, dtype=bool)
    for column, wanted in (("digest", {picture.sha256}), ("path", paths)):
        if column in table.column_names:
            keep &= ~np.isin(np.array(table.column(column).to_pylist(), dtype=object), list(wanted))
    if keep.all():
        return None
    sink = io.BytesIO()
    pq.write_table(table.filter(pa.array(keep)), sink)
    return Cleaned("its row", sink.getvalue())

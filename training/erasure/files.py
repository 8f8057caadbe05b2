"""One file without one picture, by its kind: what becomes of its bytes."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from training import runs
from training.data.splits import evenly_spaced
from training.data.tree import SUFFIXES
from training.erasure import pages
from training.erasure.picture import Known, Picture
from training.errors import RunError

TEXTS = frozenset({".md", ".txt", ".csv", ".json", ".jsonl", ".log"})
TABLES = ".parquet"
REFERENCES = 500
"""Rows of reference.npz at most: `training.jobs.reference` writes them."""
ROWS = ("features", "probabilities", "labels", "rows")
"""The arrays of reference.npz that have a row for each picture."""
UNTOLD = "may hold its features in a row that cannot be told; `visor evaluate` of the run writes the file anew without it"
HASHES, PIXELS = "phash-", "pixels-"
KINDS = frozenset({".html", ".npz", ".npy", TABLES, *TEXTS, *SUFFIXES})
"""The endings of files that may show or name a picture."""


@dataclass(frozen=True)
class Cleaned:
    """What becomes of a file: `data` is its new content, None where it goes as a whole; `what` was found in it.

    `left`: nothing becomes of it, since what is the picture's in it cannot be told.
    """

    what: str
    data: bytes | None = None
    left: bool = False


def clean(
    name: str, data: bytes, picture: Picture, known: Known | None, paths: frozenset[str], others: frozenset[str] = frozenset()
) -> Cleaned | None:
    """Take a picture out of a file; None where it is not in it.

    `name`: the file's; `known`: what the manifest beside it says, None where there is none or it does not list the picture;
    `paths`: the picture's in any data set, for files that no manifest lies beside; `others`: those of the other pictures.
    """
    if picture.size in {None, len(data)} and digest(data) == picture.sha256:
        return Cleaned("the picture itself")
    suffix = PurePosixPath(name).suffix.lower()
    named, others = (frozenset(known.paths), known.others) if known else (paths, others)
    if name == runs.MANIFEST and known:
        return Cleaned("its line", manifest_without(known))
    if name.startswith(HASHES) and suffix == ".npz":
        return _arrays(data, lambda arrays: _hashes_without(arrays, picture), "its perceptual hash")
    if name == runs.PREDICTIONS and known:
        return _arrays(data, lambda arrays: _answers_without(arrays, named), "its answer")
    if name == runs.REFERENCE and known:
        return _reference(data, picture, known)
    if name == runs.REFERENCE_ROWS:
        return _rows_without(data, picture)
    if suffix == TABLES:
        return _table(data, picture, named)
    if suffix in {".html", *TEXTS}:
        text = data.decode(errors="surrogateescape")  # the same bytes again, whatever they are
        if suffix == ".html":
            new, count = pages.clean(text, named, others, picture.is_alike)
        else:
            new, count = pages.replace_names(text, named, others)
        what = f"{count} pictures and names of it" if suffix == ".html" else "its name"
        return Cleaned(what, new.encode(errors="surrogateescape")) if count else None
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


def _reference(data: bytes, picture: Picture, known: Known) -> Cleaned | None:
    """reference.npz: the rows of the picture, which have no names.

    They are known by the list beside it, or by a manifest from which nothing was taken yet.
    """
    calibration = [sample.sha256 for sample in known.manifest.samples_of("calibration")]
    if picture.sha256 not in calibration:
        return None
    run = known.file.parent
    try:
        with np.load(io.BytesIO(data)) as file:
            length, places = len(file["features"]), file["rows"].tolist() if "rows" in file else None
    except (ValueError, KeyError, OSError, EOFError):
        return None  # no file of ours
    rows: list[str | None]
    if places is not None:
        listed = _listed(run / runs.REFERENCE_ROWS)
        rows = [listed[place] for place in places] if places and max(places) < len(listed) else []
    elif length == min(len(calibration), REFERENCES) and _is_whole(known):  # of a run from before there was a list
        rows = [calibration[row] for row in evenly_spaced(len(calibration), length)]
    else:
        rows = []
    if len(rows) != length:
        return Cleaned(UNTOLD, left=True)
    keep = np.array([row not in {None, picture.sha256} for row in rows], dtype=bool)
    if keep.all():
        return None
    return _arrays(data, lambda arrays: arrays | {name: arrays[name][keep] for name in ROWS if name in arrays}, "its features")


def _listed(file: Path) -> list[str | None]:
    """The digests of reference-rows.json, None in the place of one that was erased; none where it cannot be read."""
    try:
        listed = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return []
    return listed if isinstance(listed, list) else []


def _rows_without(data: bytes, picture: Picture) -> Cleaned | None:
    """reference-rows.json: the others keep their places. A row of reference.npz without a digest goes: either may be first."""
    new = data.replace(f'"{picture.sha256}"'.encode(), b"null")
    return None if new == data else Cleaned("its row's digest", new)


def _is_whole(known: Known) -> bool:
    """Tell whether no picture was taken out of a run's manifest yet."""
    try:
        return runs.read_record(known.file.parent).dataset_digest == known.manifest.digest
    except RunError:
        return False


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

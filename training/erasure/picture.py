"""The picture that is looked for, and under which names the manifests of a home know it."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handlers.arrays import UInt64
from handlers.decode import decode
from handlers.errors import ImageError
from handlers.spec import Limits
from training import runs
from training.data.duplicates import VIEW, hash_pixels
from training.data.manifest import Manifest, Sample
from training.errors import DataError

DIGITS = 64
LEAST_DIGITS = 8
"""Fewest digits of a SHA-256 that are taken for a picture's."""
ALIKE_BITS = 16
"""Two pictures whose hashes differ in no more of their 256 bits are taken for one: `data.near_duplicate_bits`."""


@dataclass(frozen=True)
class Picture:
    """A picture by its SHA-256. `size`: in bytes, None where no manifest lists it and no file has it. `views`: the perceptual
    hashes of its eight views, (8, 4), None where its bytes are nowhere, or are no picture."""

    sha256: str
    size: int | None = None
    views: UInt64 | None = None

    def bits_to(self, views: UInt64) -> int | None:
        """Count in how many bits the nearest view, of (V, 4) hashes, differs from this picture's; None without its hashes."""
        if self.views is None:
            return None
        return int(np.bitwise_count(self.views[0] ^ views).sum(axis=-1).min())

    def is_alike(self, data: bytes) -> bool:
        """Tell whether an encoded picture looks like this one; False for what cannot be decoded."""
        if self.views is None or (views := hash_of(data)) is None:
            return False
        return int(np.bitwise_count(self.views[0] ^ views).sum(axis=-1).min()) <= ALIKE_BITS


@dataclass(frozen=True)
class Known:
    """What a manifest says of a picture. `samples`: its lines about it; `others`: the paths of the rest."""

    file: Path
    manifest: Manifest
    samples: tuple[Sample, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The picture's paths in the data set."""
        return tuple(sample.path for sample in self.samples)

    @property
    def others(self) -> frozenset[str]:
        """The paths of the other pictures."""
        return frozenset(sample.path for sample in self.manifest.samples) - set(self.paths)

    def without(self) -> Manifest:
        """The manifest without the picture; its digest is another one."""
        left = tuple(sample for sample in self.manifest.samples if sample not in self.samples)
        return Manifest(tuple(sorted({sample.label for sample in left})), left, self.manifest.chosen)


def manifests(places: Iterable[Path]) -> list[tuple[Path, Manifest]]:
    """Read every manifest below the places, by path: of runs, and of their copies among MLflow's artifacts."""
    found = []
    for file in sorted({file for place in places for file in place.rglob(runs.MANIFEST)}):
        try:
            found.append((file, Manifest.read(file)))
        except DataError:
            continue  # another program's file of that name
    return found


def known(listed: Iterable[tuple[Path, Manifest]], sha256: str) -> list[Known]:
    """Choose the manifests that list a picture."""
    found = []
    for file, manifest in listed:
        if samples := tuple(sample for sample in manifest.samples if sample.sha256 == sha256):
            found.append(Known(file, manifest, samples))
    return found


def find(what: str, listed: Sequence[tuple[Path, Manifest]], roots: Mapping[Path, Path]) -> Picture:
    """Find the picture that a file, a SHA-256 or its first digits name; the file may be gone where a manifest lists it.

    `roots`: of manifests' data sets, in which its bytes are looked for. Raises DataError for what is neither, for digits that fit
    no picture or several.
    """
    path = Path(what)
    if path.is_file():
        return _of_bytes(path.read_bytes())
    place = path.resolve()
    gone = {
        sample.sha256
        for file, manifest in listed
        if file in roots and place.is_relative_to(root := roots[file].resolve())
        for sample in manifest.samples
        if place == root / sample.path
    }
    if len(gone) == 1:
        return find(gone.pop(), listed, roots)
    if not re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},{DIGITS}}}", what):
        raise DataError(
            f"{what} is neither a file nor {LEAST_DIGITS} to {DIGITS} digits of a picture's SHA-256; name a file that is there, "
            f"the path at which a run's data set had it, or the picture's `sha256` in RUN/{runs.MANIFEST}"
        )
    fitting = [(file, sample) for file, manifest in listed for sample in manifest.samples if sample.sha256.startswith(what)]
    digests = {sample.sha256: sample.size for _, sample in fitting}
    if len(digests) > 1:
        raise DataError(f"{what} begins the SHA-256 of {len(digests)} pictures; give more digits")
    if not digests and len(what) < DIGITS:
        raise DataError(f"no manifest lists a picture whose SHA-256 begins with {what}; give all {DIGITS} digits, or a file")
    digest, size = next(iter(digests.items()), (what, None))
    for copy in (roots[file] / sample.path for file, sample in fitting if file in roots):
        if copy.is_file() and copy.stat().st_size == size and (picture := _of_bytes(copy.read_bytes())).sha256 == digest:
            return picture
    return Picture(digest, size)


def _of_bytes(data: bytes) -> Picture:
    return Picture(hashlib.sha256(data).hexdigest(), len(data), hash_of(data))


def hash_of(data: bytes) -> UInt64 | None:
    """Hash the eight views of an encoded picture, (8, 4), as `training.data.duplicates` does; None for what is no picture."""
    try:
        return hash_pixels(decode(data, VIEW, Limits()))
    except ImageError:
        return None

"""Near-duplicates are found by perceptual hash: the same picture saved again, scaled, or with another brightness.

The hash has 256 bits: which of the 16 x 16 lowest coefficients of the discrete cosine transform of the grey picture of
64 x 64 pixels lie above their median (the imagehash library's phash; Zauner 2010, "Implementation and Benchmarking of
Perceptual Image Hash Functions", section 3.2.1). docs/data.md says which bound on the Hamming distance finds what.
"""

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from archives.files import replacing
from handlers.arrays import Int64, UInt64
from handlers.spec import Limits, Preprocessing
from training.config import BUILT_IN, Config, DataConfig
from training.data.manifest import Manifest, Sample
from training.data.pixels import DECODER, decode_good
from training.data.published import is_published
from training.errors import DataLeak
from training.progress import show_progress

logger = logging.getLogger(__name__)

SIDE = 16
BITS = SIDE * SIDE
VIEW = Preprocessing(height=4 * SIDE, width=4 * SIDE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BLOCK = 1 << 19
"""Pairs compared at a time: what a CPU's cache holds."""
NAMED = 3
"""How many pairs an error names."""


@dataclass(frozen=True)
class Near:
    """Two images that look alike: their hashes differ in `bits` of 256 bits."""

    one: Sample
    other: Sample
    bits: int


def check_leaks(root: Path, manifest: Manifest, config: Config, home: Path) -> None:
    """Look for near-duplicates in two splits. Raises DataLeak, or warns, as `data.leaks` says; raises as `hash_images`."""
    policy = config.data.leaks or default_policy(config.data)
    if policy == "allow":
        return
    hashes = hash_images(root, manifest.samples, config.limits, home / "cache")
    leaks = [near for near in find_near(manifest.samples, hashes, config.data.near_duplicate_bits) if is_leak(near)]
    if not leaks:
        return
    shown = "; ".join(
        f"{near.one.path} ({near.one.split}) and {near.other.path} ({near.other.split}), {near.bits} bits apart"
        for near in leaks[:NAMED]
    )
    more = f"; and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
    sentence = f"{len(leaks)} pairs of near-duplicates lie in two splits: {shown}{more}"
    if policy == "warn":
        logger.warning("%s", sentence)
        return
    raise DataLeak(
        f"{sentence}. What a test shares with training makes it easier than the world is: keep such images together with "
        "data.group_pattern, remove them, or say data.leaks: warn; `visor data report` shows them"
    )


def default_policy(data: DataConfig) -> str:
    """Return "error", but "warn" where nobody here chose the splits: for built-in sets and sets published with theirs."""
    published = data.source in (*BUILT_IN, "cifar10", "fashion-mnist") or (data.path is not None and is_published(data.path))
    return "warn" if published else "error"


def is_leak(near: Near) -> bool:
    """Tell whether the two images lie in two splits."""
    return near.one.split != near.other.split


def hash_images(root: Path, samples: Sequence[Sample], limits: Limits, cache: Path | None = None) -> UInt64:
    """Compute perceptual hashes, (N, 4) uint64. A file in the folder `cache` keeps them by the images' SHA-256.

    Raises DataUnreadable naming all bad images, DataChanged for one unlike its sample.
    """
    path = cache / f"phash-{BITS}-{DECODER}.npz" if cache else None
    known = _read(path)
    new = [sample for sample in samples if sample.sha256 not in known]
    for pixels, sample in zip(decode_good(root, new, VIEW, limits, "looking for near-duplicates"), new, strict=True):
        bits = imagehash.phash(Image.fromarray(pixels), hash_size=SIDE).hash
        known[sample.sha256] = np.packbits(bits).view(np.uint64)
    if path and new:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, digests=np.array(list(known), "S64"), hashes=np.array(list(known.values()), np.uint64))
    return np.array([known[sample.sha256] for sample in samples], np.uint64).reshape(-1, BITS // 64)


def _read(path: Path | None) -> dict[str, UInt64]:
    try:
        if path is None:
            return {}
        with np.load(path) as file:
            return dict(zip((digest.decode() for digest in file["digests"]), file["hashes"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}  # it is only a cache


def find_near(samples: Sequence[Sample], hashes: UInt64, bits: int) -> list[Near]:
    """Find pairs of images whose hashes differ in at most `bits`, the nearest first.

    Of images with one and the same hash, each is paired with the first alone, and further ones with another hash only
    where they lie in another split: a thousand blank pictures are a thousand pairs and not half a million.
    """
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    members: list[list[int]] = [[] for _ in unique]
    for index, which in enumerate(inverse.reshape(-1).tolist()):
        members[which].append(index)
    found = [(0, held[0], index) for held in members for index in held[1:]]
    # Twins of the first image that lie in a third split leak too.
    heads = [list({samples[index].split: index for index in reversed(held)}.values()) for held in members]
    for one, other, distance in near_pairs(unique, bits).tolist():
        pairs = [(i, j) for i in heads[one] for j in heads[other]]
        torn = [(i, j) for i, j in pairs if samples[i].split != samples[j].split]
        found += [(distance, min(pair), max(pair)) for pair in torn or pairs[:1]]
    return [Near(samples[i], samples[j], distance) for distance, i, j in sorted(found)]


def near_pairs(hashes: UInt64, bits: int) -> Int64:
    """Find pairs of hashes, (N, W) uint64, at a Hamming distance of at most `bits`: (P, 3), rows i < j and their distance."""
    rows = max(1, BLOCK // max(len(hashes), 1))
    starts = range(0, len(hashes), rows)
    found = [np.zeros((0, 3), np.int64)]
    for start in show_progress(starts, len(starts), "comparing images"):
        block, rest = hashes[start : start + rows], hashes[start:]
        # A pair that differs too much in the first word needs no look at the others.
        i, j = np.nonzero(np.bitwise_count(block[:, None, 0] ^ rest[None, :, 0]) <= bits)
        i, j = i[i < j], j[i < j]
        distance = np.bitwise_count(block[i] ^ rest[j]).sum(axis=1, dtype=np.int64)
        near = distance <= bits
        found.append(np.stack([i[near] + start, j[near] + start, distance[near]], axis=1))
    return np.concatenate(found)

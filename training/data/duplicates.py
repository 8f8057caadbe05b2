"""Near-duplicates are found by perceptual hash: the same picture saved again, scaled, mirrored, turned, or made brighter.

The hash has 256 bits: which of the 16 x 16 lowest coefficients of the discrete cosine transform of the grey picture of
64 x 64 pixels lie above their median (the imagehash library's phash; Zauner 2010, "Implementation and Benchmarking of
Perceptual Image Hash Functions", section 3.2.1). A picture's mirrored and turned views, eight with itself, have the hashes of
its transform with other signs, or transposed. docs/data.md says which bound on the Hamming distance finds what.

A blank picture, one of a single colour, has no such coefficients: its hash is 0, which is near no other's.
"""

import logging
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from archives.files import replacing
from handlers.arrays import Bools, Int64, UInt8, UInt64
from handlers.errors import counted
from handlers.spec import DECODING, DecodingRule, Limits, Preprocessing
from training.config import BUILT_IN, Config, DataConfig
from training.data.manifest import Manifest, Sample
from training.data.pixels import DECODER, decode_good
from training.data.published import is_published
from training.errors import DataLeak
from training.progress import show_progress

logger = logging.getLogger(__name__)

SIDE = 16
BITS = SIDE * SIDE
WORD, VIEWS = 64, 8
WORDS = BITS // WORD
VIEW = Preprocessing(height=4 * SIDE, width=4 * SIDE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BLOCK = 1 << 19
"""Pairs compared at a time: what a CPU's cache holds."""
NAMED = 3
"""How many pairs an error names."""
BLANK = 4
"""Levels of 255 within which all pixels of a blank picture lie, in each colour."""
MET = {
    "calibration": ("train", "val"),
    "test": ("train", "val", "calibration"),
    "sealed": ("train", "val", "calibration"),
}
"""What a model has met before it meets the images of a split."""
SHORTEST = 8
"""Bits of a part by which it is worth looking for pairs: it then leaves out most of them."""


@dataclass(frozen=True)
class Near:
    """Two images that look alike: the hash of one and that of a view of the other differ in `bits` of 256 bits."""

    one: Sample
    other: Sample
    bits: int


def check_leaks(root: Path, manifest: Manifest, config: Config, home: Path) -> dict[str, int] | None:
    """Look for near-duplicates in two splits. Raises DataLeak, or warns, as `data.leaks` says; raises as `hash_images`.

    Warns of those under two labels, wherever they lie: one of the labels is wrong, or the labels do not exclude each other; and
    of blank pictures. Returns what `count_known` counts of leaks that were let through, None where nothing was looked for.
    """
    policy = policy_of(config.data)
    if policy == "allow":
        return None
    logger.info("looking for near-duplicates among %s", counted(len(manifest.samples), "image"))
    hashes = hash_images(root, manifest.samples, config.limits, home / "cache", config.preprocessing.decoding)
    if said := say_blank(blank_of(manifest.samples, hashes)):
        logger.warning("%s; `visor data report` lists them", said)
    found = find_near(manifest.samples, hashes, config.data.near_duplicate_bits)
    if said := under_two_labels(found):
        logger.warning("%s; `visor data report` shows them", said)
    leaks = [near for near in found if is_leak(near)]
    if refused := refuse_leaks(leaks, policy):
        raise DataLeak(f"{refused}; `visor data report` shows them")
    if leaks:
        logger.warning("%s", say_leaks(leaks))
    return count_known(found)


def say_leaks(leaks: Sequence[Near]) -> str:
    """Say how many pairs lie in two splits, and name the first."""
    shown = "; ".join(
        f"{near.one.path} ({near.one.split}) and {near.other.path} ({near.other.split}), {near.bits} bits apart"
        for near in leaks[:NAMED]
    )
    more = f"; and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
    return f"{counted(len(leaks), 'pair of near-duplicates lies', 'pairs of near-duplicates lie')} in two splits: {shown}{more}"


def refuse_leaks(leaks: Sequence[Near], policy: str) -> str:
    """Say why training stops at these pairs, and what to do; "" where it does not. `policy`: by `policy_of`."""
    if not leaks or policy != "error":
        return ""
    return (
        f"{say_leaks(leaks)}. What a test shares with training makes it easier than the world is: keep such images together with "
        "data.group_pattern, remove them, or say data.leaks: warn"
    )


def count_known(found: Sequence[Near]) -> dict[str, int]:
    """Count the images of each held-out split that are near one which the model has met before: which was learnt from or chosen
    by, or, for the splits that judge it, calibrated on. `found`: all pairs, by `find_near`.

    Of images with the same hash `find_near` pairs each with the first alone, so that what one is near, all of them are.
    """
    first: dict[str, str] = {}
    for near in found:
        if near.bits == 0:
            first.setdefault(near.other.path, first.get(near.one.path, near.one.path))
    samples = {sample.path: sample for near in found for sample in (near.one, near.other)}
    splits: dict[str, set[str]] = {}
    for path, sample in samples.items():
        splits.setdefault(first.get(path, path), set()).add(sample.split)
    beside = {same: {same} for same in splits}
    for near in found:
        one, other = (first.get(sample.path, sample.path) for sample in (near.one, near.other))
        beside[one].add(other)
        beside[other].add(one)
    known = dict.fromkeys(MET, 0)
    for path, sample in samples.items():
        near_by = {split for same in beside[first.get(path, path)] for split in splits[same]}
        if near_by.intersection(MET.get(sample.split, ())):
            known[sample.split] += 1
    return known


def under_two_labels(found: Sequence[Near]) -> str:
    """Say how many pairs have two labels, and which pairs of labels; "" where none has. `found`: the nearest first."""
    labels = Counter(tuple(sorted((near.one.label, near.other.label))) for near in found if near.one.label != near.other.label)
    if not labels:
        return ""
    shown = "; ".join(f"{one}, {other}: {counted(pairs, 'pair')}" for (one, other), pairs in labels.most_common(NAMED))
    more = f"; and {len(labels) - NAMED} more pairs of labels" if len(labels) > NAMED else ""
    return f"the same picture, or nearly the same, lies under two labels: {shown}{more}"


def is_blank(hashes: UInt64) -> Bools:
    """Tell which pictures are of a single colour, (N,). hashes: (N, 8, 4), by `hash_images`."""
    return np.asarray((hashes == 0).all(axis=(1, 2)))


def blank_of(samples: Sequence[Sample], hashes: UInt64) -> list[Sample]:
    """Choose the blank pictures' samples. hashes: (N, 8, 4), by `hash_images`."""
    return [samples[row] for row in np.flatnonzero(is_blank(hashes)).tolist()]


def say_blank(blank: Sequence[Sample]) -> str:
    """Say how many pictures are blank, and what to do with them; "" where none is."""
    if not blank:
        return ""
    return (
        f"{counted(len(blank), 'picture is', 'pictures are')} blank, of one colour alone, such as {blank[0].path}: remove what "
        "shows nothing; transparency is laid on white, so that a white drawing needs another colour below it"
    )


def policy_of(data: DataConfig) -> str:
    """Return what happens at near-duplicates in two splits: "error", "warn" or "allow"."""
    return data.leaks or default_policy(data)


def default_policy(data: DataConfig) -> str:
    """Return "error", but "warn" where nobody here chose the splits: for built-in sets and sets published with theirs."""
    published = data.source in (*BUILT_IN, "cifar10", "fashion-mnist") or (data.path is not None and is_published(data.path))
    return "warn" if published else "error"


def is_leak(near: Near) -> bool:
    """Tell whether the two images lie in two splits."""
    return near.one.split != near.other.split


def hash_images(
    root: Path, samples: Sequence[Sample], limits: Limits, cache: Path | None = None, rule: DecodingRule = DECODING
) -> UInt64:
    """Compute the perceptual hashes of each image's eight VIEWS, (N, 8, 4) uint64, the first of the image as it is.

    A file in the folder `cache` keeps them by the images' SHA-256. `rule`: by which the images are decoded. Raises
    DataUnreadable naming all bad images, DataChanged for one unlike its sample.
    """
    path = cache / f"phash-{BITS}x{VIEWS}-blank-{BLANK}-{DECODER}-rule-{rule}.npz" if cache else None
    known = _read(path)
    new = [sample for sample in samples if sample.sha256 not in known]
    view = VIEW.model_copy(update={"decoding": rule})
    for pixels, sample in zip(decode_good(root, new, view, limits, "looking for near-duplicates"), new, strict=True):
        known[sample.sha256] = hash_pixels(pixels)
    if path and new:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, digests=np.array(list(known), "S64"), hashes=np.array(list(known.values()), np.uint64))
    return np.array([known[sample.sha256] for sample in samples], np.uint64).reshape(-1, VIEWS, WORDS)


def hash_pixels(pixels: UInt8) -> UInt64:
    """Compute the hashes of a picture's eight views from one transform, (8, 4) uint64, all 0 of a blank one. pixels: (64, 64, 3)
    RGB.

    To mirror a picture changes the sign of its transform's odd columns or rows, to transpose it transposes the transform.
    """
    if (np.ptp(pixels, axis=(0, 1)) <= BLANK).all():
        return np.zeros((VIEWS, WORDS), np.uint64)
    luma = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    low = dctn(luma, type=2)[:SIDE, :SIDE]
    odd = np.where(np.arange(SIDE) % 2, -1.0, 1.0)
    mirrored = [low, low * odd, low * odd[:, None], low * odd * odd[:, None]]  # as it is, left to right, upside down, both
    views = np.array([*mirrored, *(view.T for view in mirrored)])  # (8, 16, 16)
    bits = views > np.median(views, axis=(1, 2), keepdims=True)
    return np.packbits(bits.reshape(VIEWS, BITS), axis=1).view(np.uint64)


def _read(path: Path | None) -> dict[str, UInt64]:
    try:
        if path is None:
            return {}
        with np.load(path) as file:
            return dict(zip((digest.decode() for digest in file["digests"]), file["hashes"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}  # it is only a cache


def find_near(samples: Sequence[Sample], hashes: UInt64, bits: int) -> list[Near]:
    """Find pairs of images of which one's hash differs from that of the other's nearest view in at most `bits`, nearest first.

    hashes: (N, 8, 4), by `hash_images`. Of images with the same hashes, mirrored and turned ones too, each is paired with the
    first alone, and further ones with other hashes only where they lie in another split: a thousand copies of one picture are
    a thousand pairs and not half a million. Blank pictures are in no pair.
    """
    told = np.flatnonzero(~is_blank(hashes)).tolist()
    samples, hashes = [samples[row] for row in told], hashes[told]
    views = np.ascontiguousarray(hashes).view(f"S{BITS // 8}")[..., 0]  # (N, 8), a hash each
    _, first, inverse = np.unique(np.sort(views, axis=1)[:, 0], return_index=True, return_inverse=True)
    members: list[list[int]] = [[] for _ in first]
    for index, which in enumerate(inverse.reshape(-1).tolist()):
        members[which].append(index)
    found = [(0, held[0], index) for held in members for index in held[1:]]
    # Twins of the first image that lie in a third split leak too.
    heads = [list({samples[index].split: index for index in reversed(held)}.values()) for held in members]
    for one, other, distance in near_pairs(hashes[first], bits).tolist():
        pairs = [(i, j) for i in heads[one] for j in heads[other]]
        torn = [(i, j) for i, j in pairs if samples[i].split != samples[j].split]
        found += [(distance, min(pair), max(pair)) for pair in torn or pairs[:1]]
    return [Near(samples[i], samples[j], distance) for distance, i, j in sorted(found)]


def near_pairs(hashes: UInt64, bits: int) -> Int64:
    """Find pairs of images by their hashes, (N, V, W) uint64: (P, 3), rows i < j and the least distance, at most `bits`, from
    the first hash of i to any of the V hashes of j.

    Two hashes that differ in at most `bits` of their bits are alike in one of `bits` + 1 parts of them. So pairs are looked for
    among those with a part in common, where a part is long enough to tell most hashes apart, and else among all.
    """
    if not len(hashes):
        return np.zeros((0, 3), np.int64)
    width = WORDS * WORD // (bits + 1)
    found = _common_part(hashes, bits, min(width, WORD - 1)) if width >= SHORTEST else _all_pairs(hashes, bits)
    order = np.lexsort((found[:, 2], found[:, 1], found[:, 0]))
    found = found[order]
    fresh = np.ones(len(found), dtype=bool)
    fresh[1:] = (found[1:, :2] != found[:-1, :2]).any(axis=1)
    return found[fresh]


def _common_part(hashes: UInt64, bits: int, width: int) -> Int64:
    """The pairs within `bits`, some of them more than once. Bits are dealt out to the parts, as neighbours go together."""
    n, views, _ = hashes.shape
    flat = hashes.reshape(n * views, -1)
    spread = np.unpackbits(flat.view(np.uint8), axis=1)  # (N V, 256)
    weights = 1 << np.arange(width, dtype=np.int64)
    found = [np.zeros((0, 3), np.int64)]
    for part in show_progress(range(bits + 1), bits + 1, "comparing images"):
        keys = spread[:, part :: bits + 1][:, :width].astype(np.int64) @ weights[: len(range(part, BITS, bits + 1))]
        order = np.argsort(keys, kind="stable")
        ordered, own = keys[order], keys[::views]
        begin, end = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
        for rows in _blocks(end - begin):
            counts = end[rows] - begin[rows]
            i = np.repeat(np.arange(n)[rows], counts)
            place = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(begin[rows], counts)
            found.append(_within(hashes, flat, i, order[place], bits))
    return np.concatenate(found)


def _blocks(counts: Int64) -> Iterator[slice]:
    """Slices of rows with about BLOCK pairs each."""
    total, begin = np.cumsum(counts), 0
    while begin < len(counts):
        before = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, before + BLOCK, "right")))
        yield slice(begin, end)
        begin = end


def _all_pairs(hashes: UInt64, bits: int) -> Int64:
    n, views, _ = hashes.shape
    flat, rows = hashes.reshape(n * views, -1), max(1, BLOCK // max(n * views, 1))
    starts, found = range(0, n, rows), [np.zeros((0, 3), np.int64)]
    for start in show_progress(starts, len(starts), "comparing images"):
        # A pair that differs too much in the first word needs no look at the others.
        near = np.bitwise_count(hashes[start : start + rows, None, 0, 0] ^ flat[None, start * views :, 0]) <= bits
        i, view = np.nonzero(near)
        found.append(_within(hashes, flat, i + start, view + start * views, bits))
    return np.concatenate(found)


def _within(hashes: UInt64, flat: UInt64, i: Int64, view: Int64, bits: int) -> Int64:
    """Of the pairs of images i, (P,), and views of others, (P,), those with i < j that are at most `bits` apart: (Q, 3)."""
    j = view // hashes.shape[1]
    i, j, view = i[i < j], j[i < j], view[i < j]
    distance = np.bitwise_count(hashes[i, 0] ^ flat[view]).sum(axis=1, dtype=np.int64)
    near = distance <= bits
    return np.stack([i[near], j[near], distance[near]], axis=1)

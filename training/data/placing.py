"""Into which split a reviewed picture goes, beside those of a data set, whose own splits stay as they are.

A picture that was chosen to be reviewed, as a model was unsure of it, is learnt from: it is in `train`, or in `val`, by its
digest alone. Neither calibration nor test gets one, whose figures would be of the pictures that somebody chose. An audit, which
was drawn at random of all answers, goes into `sealed`: nothing learns from it, and nothing is chosen by it.

Pictures that look alike (`training.data.duplicates`) stay together, so that no split knows another's.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handlers.arrays import UInt64
from training.data.duplicates import BITS, is_blank, near_pairs
from training.data.manifest import Sample
from training.data.reviews import Reviewed
from training.data.tree import Split

HELD_OUT: frozenset[Split] = frozenset({"calibration", "test", "sealed"})


@dataclass(frozen=True)
class Placed:
    """Where reviewed pictures go. `splits`: by digest; `left_out`: by digest, a reason of `training.data.reviews.REASONS`.

    `alike`: by digest, a sample of the data set that a picture left out looks like.
    """

    splits: dict[str, Split]
    left_out: dict[str, str]
    alike: dict[str, Sample]


def place(samples: Sequence[Sample], known: UInt64, pictures: Sequence[Reviewed], hashes: UInt64, bits: int) -> Placed:
    """Place reviewed pictures, none of which the data set has already.

    samples, known: the data set's N pictures and their hashes, (N, 8, 4); hashes: those of the M `pictures`; `bits`: how many of
    256 two that look alike may differ in.
    """
    share = share_of(samples)
    splits: dict[str, Split] = {}
    left_out: dict[str, str] = {}
    alike: dict[str, Sample] = {}
    for members, neighbours in _clusters(known, hashes, bits):
        near = {samples[row].split for row in neighbours}
        audited = any(pictures[row].audit for row in members)
        together: Split = _val_or_train(min(pictures[row].digest for row in members), share)
        for row in members:
            one = pictures[row]
            reason = _refuse(one, near, audited)
            if reason:
                left_out[one.digest] = reason
                if neighbours:
                    alike[one.digest] = samples[min(neighbours)]
            elif one.audit:
                splits[one.digest] = "sealed"
            else:
                splits[one.digest] = next(iter(near), together)
    return Placed(splits, left_out, alike)


def share_of(samples: Sequence[Sample]) -> float:
    """The share of validation among the pictures that are learnt from and those that choose the epoch."""
    counts = Counter(sample.split for sample in samples)
    return counts["val"] / max(1, counts["val"] + counts["train"])


def _val_or_train(digest: str, share: float) -> Split:
    """By the digest's first 13 digits, a number in [0, 1): further pictures move none that are there."""
    return "val" if int(digest[:13], 16) / 16**13 < share else "train"


def _refuse(one: Reviewed, near: set[Split], audited: bool) -> str | None:
    """Why a picture cannot be in any split. near: the splits of the data set's pictures that look like it."""
    if one.audit:
        return "audit_like_parent" if near else None
    if near & HELD_OUT or len(near) > 1:
        return "like_held_out"
    return "like_audit" if audited and not near else None


def _clusters(known: UInt64, hashes: UInt64, bits: int) -> list[tuple[list[int], list[int]]]:
    """Cluster pictures that look alike, if by way of others: their rows, and those of the known ones that look like any.

    Each blank picture is a cluster of its own: its hash says nothing.
    """
    blank = is_blank(hashes)
    both = np.concatenate([known, hashes])
    own = len(known)
    views = np.ascontiguousarray(both).view(f"S{BITS // 8}")[..., 0]
    # Of those with equal hashes the first stands for all, so that a thousand copies of one are not half a million pairs.
    _, first, inverse = np.unique(np.sort(views, axis=1)[:, 0], return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    with_new = np.zeros(len(first), dtype=bool)
    with_new[inverse[own:][~blank]] = True
    root = list(range(len(first)))

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    beside: list[list[int]] = [[] for _ in first]
    for one, other, _ in near_pairs(both[first], bits).tolist():
        if with_new[one] and with_new[other]:
            root[find(one)] = find(other)
        elif with_new[one] or with_new[other]:
            node, of = (one, other) if with_new[one] else (other, one)
            beside[node].append(of)
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(~blank).tolist():
        members.setdefault(find(int(inverse[own + row])), []).append(row)
    of_class: list[list[int]] = [[] for _ in first]
    for row in range(own):
        of_class[int(inverse[row])].append(row)
    neighbours: dict[int, list[int]] = {head: [] for head in members}
    for node in np.flatnonzero(with_new).tolist():
        for of in (node, *beside[node]):
            neighbours[find(node)] += of_class[of]
    alone: list[tuple[list[int], list[int]]] = [([row], []) for row in np.flatnonzero(blank).tolist()]
    return [*alone, *((rows, neighbours[head]) for head, rows in members.items())]

"""Where a reviewed picture goes, by hashes set by hand: what looks alike stays together, and nothing leaks."""

import json

import numpy as np
import pytest

from handlers.arrays import UInt64
from tests.unit.reviews import audit, line
from training.data.manifest import Sample
from training.data.placing import Placed, place, share_of
from training.data.reviews import Review, Reviewed
from training.data.tree import Split

BITS = 16


def sample(path: str, split: Split) -> Sample:
    return Sample(path, 1, path.ljust(64, "0"), "oak", split)


def picture(digest: str, *, drawn: bool = False) -> Reviewed:
    said = (audit if drawn else line)(digest.ljust(64, "0"), "oak")
    return Reviewed(digest.ljust(64, "0"), "oak", drawn, (Review.model_validate_json(json.dumps(said)),))


def hashes(*of: tuple[int, int]) -> UInt64:
    """Hashes of random kinds, (kind, bits): the second says in how many bits one is away from its kind's first."""
    rows = []
    for kind, away in of:
        bits = np.unpackbits(np.random.default_rng(kind).integers(0, 256, (8, 32), dtype=np.uint8), axis=1)
        bits[:, :away] ^= 1
        rows.append(np.packbits(bits, axis=1).view(np.uint64))
    return np.array(rows, np.uint64).reshape(-1, 8, 4)


KNOWN: list[tuple[Sample, tuple[int, int]]] = [
    (sample("a", "train"), (1, 0)), (sample("b", "train"), (2, 0)), (sample("c", "train"), (3, 0)), (sample("d", "val"), (4, 0)),
    (sample("e", "calibration"), (5, 0)), (sample("f", "test"), (6, 0)),
]  # fmt: skip


def placed(*new: tuple[Reviewed, tuple[int, int]]) -> Placed:
    samples, known = zip(*KNOWN, strict=True)
    return place(samples, hashes(*known), [one for one, _ in new], hashes(*(kind for _, kind in new)), BITS)


def test_a_chosen_picture_is_learnt_from_or_validates_by_its_digest_alone() -> None:
    assert share_of([one for one, _ in KNOWN]) == 0.25
    found = placed((picture("3f"), (10, 0)), (picture("40"), (11, 0)), (picture("ff"), (12, 0)))
    assert [found.splits[digest.ljust(64, "0")] for digest in ("3f", "40", "ff")] == ["val", "train", "train"]
    alone = placed((picture("3f"), (10, 0)))
    assert alone.splits == {"3f".ljust(64, "0"): "val"}


def test_shares_are_met_in_the_long_run() -> None:
    rng = np.random.default_rng(0)
    many = [(picture(rng.bytes(8).hex()), (kind, 0)) for kind in range(100, 1100)]
    found = placed(*many)
    assert len(found.splits) == 1000
    assert sum(split == "val" for split in found.splits.values()) == pytest.approx(250, abs=3 * (1000 * 0.25 * 0.75) ** 0.5)


def test_an_audit_is_sealed() -> None:
    assert placed((picture("3f", drawn=True), (10, 0))).splits == {"3f".ljust(64, "0"): "sealed"}


@pytest.mark.parametrize(("kind", "split"), [(1, "train"), (4, "val")])
def test_what_looks_like_a_picture_of_training_goes_beside_it(kind: int, split: str) -> None:
    for digest in ("3f", "ff"):
        assert placed((picture(digest), (kind, BITS))).splits == {digest.ljust(64, "0"): split}


@pytest.mark.parametrize(("kind", "name"), [(5, "e"), (6, "f")])
def test_what_looks_like_a_picture_that_is_held_out_is_refused(kind: int, name: str) -> None:
    found = placed((picture("ff"), (kind, BITS)), (picture("fe"), (kind, BITS + 1)))
    assert found.left_out == {"ff".ljust(64, "0"): "like_held_out", "fe".ljust(64, "0"): "like_held_out"}  # by way of the first
    assert {one.path for one in found.alike.values()} == {name}
    assert placed((picture("fe"), (kind, BITS + 1))).splits == {"fe".ljust(64, "0"): "train"}


def test_an_audit_must_look_like_nothing_that_is_there() -> None:
    for kind in (1, 4, 6):
        assert placed((picture("ff", drawn=True), (kind, 3))).left_out == {"ff".ljust(64, "0"): "audit_like_parent"}


def test_what_looks_like_an_audit_is_not_learnt_from() -> None:
    found = placed((picture("01", drawn=True), (10, 0)), (picture("ff"), (10, 5)), (picture("fe"), (11, 0)))
    assert found.splits == {"01".ljust(64, "0"): "sealed", "fe".ljust(64, "0"): "train"}
    assert found.left_out == {"ff".ljust(64, "0"): "like_audit"}


def test_new_pictures_that_look_alike_share_a_split() -> None:
    found = placed((picture("3f"), (10, 0)), (picture("ff"), (10, 0)), (picture("fe"), (10, 9)), (picture("fd"), (10, 25)))
    assert set(found.splits.values()) == {"val"}  # the least digest's, for all of the chain
    assert len(found.splits) == 4


def test_what_looks_like_pictures_of_two_splits_is_in_none() -> None:
    found = placed((picture("ff"), (1, 2)), (picture("fe"), (1, 2)), (picture("fd"), (4, 2)))
    assert found.splits["fd".ljust(64, "0")] == "val"
    bridge = hashes((1, 0))
    samples = [sample("a", "train"), sample("d", "val")]
    found = place(samples, np.concatenate([bridge, bridge]), [picture("ff")], bridge, BITS)
    assert found.left_out == {"ff".ljust(64, "0"): "like_held_out"}


def test_a_thousand_blank_pictures_are_one_cluster() -> None:
    many = [(picture(f"{n:04x}"), (10, 0)) for n in range(1000)]
    found = placed(*many)
    assert set(found.splits.values()) == {"val"}


def test_nothing_new_is_nothing() -> None:
    assert placed() == Placed({}, {}, {})


def test_blank_pictures_are_no_copies_of_each_other() -> None:
    """Their hashes are all 0: each goes where its digest says, also where the test split has a blank one."""
    samples = [one for one, _ in KNOWN]
    nothing = np.zeros((1, 8, 4), np.uint64)
    known = np.concatenate([hashes(*(kind for _, kind in KNOWN))[:-1], nothing])  # of which "f" is in the test split
    new = [picture("3f"), picture("40")]
    found = place(samples, known, new, np.concatenate([nothing, nothing]), BITS)
    assert found.left_out == {}
    assert [found.splits[one.digest] for one in new] == ["val", "train"]

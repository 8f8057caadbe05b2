"""What weights say of a picture is read from their own list, and nothing else is taken for one."""

import json
import struct
from pathlib import Path

import pytest
import torch

from training import runs
from training.data.manifest import Sample
from training.erasure.learnt import of_weights
from training.erasure.picture import Picture
from training.fitting import pretrained
from training.jobs.seen import Seen

DIGESTS = [f"{n:064x}" for n in (0x123 << 200, 0x456 << 200, 0x789 << 200)]


def written(folder: Path, seen: Seen) -> Path:
    """Weights as a training writes them."""
    facts = {name: "".join(sorted(part)) for name, part in zip(pretrained.IMAGES, (seen.learnt, seen.chosen_by), strict=True)}
    runs.write_weights(folder, {"head.bias": torch.zeros(2)}, {pretrained.METADATA: json.dumps(facts)})
    return folder / runs.WEIGHTS


def samples(*digests: str) -> list[Sample]:
    return [Sample(digest[:4], 1, digest, "a", "train") for digest in digests]


def test_each_role_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, Seen.of(samples(DIGESTS[0], DIGESTS[1]), samples(DIGESTS[1])))
    assert of_weights(file, Picture(DIGESTS[0])) == "has learnt from it"
    assert of_weights(file, Picture(DIGESTS[1])) == "has learnt from it and was chosen by it (validation)"
    assert of_weights(file, Picture(DIGESTS[2])) is None


def test_digits_across_two_entries_are_no_picture_s(tmp_path: Path) -> None:
    listed = "".join(sorted(digest[:16] for digest in DIGESTS[:2]))
    across = listed[8:24] + "0" * 48
    assert of_weights(written(tmp_path, Seen.of(samples(*DIGESTS[:2]))), Picture(across)) is None


@pytest.mark.parametrize(
    "data", [b"", b"short", struct.pack("<Q", 1 << 60), struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"{{{{"]
)
def test_what_are_no_weights_say_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    assert of_weights(tmp_path / "x.safetensors", Picture(DIGESTS[0])) is None
    assert of_weights(tmp_path / "none.safetensors", Picture(DIGESTS[0])) is None

"""A data set's next version: the parent's images as they were split, chosen reviews to learn from, audits sealed."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from training.config import DataConfig
from training.data import reviews
from training.data.manifest import Manifest, Sample, build
from training.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n"


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


@pytest.fixture
def parent(tmp_path: Path) -> tuple[Manifest, Path]:
    """Two labels of which each has an image in each split, and one a mask."""
    root, samples = tmp_path / "parent", []
    for split in ("train", "val", "calibration", "test"):
        for label in ("damaged", "intact"):
            path, content = f"{label}/site/{split}.png", PNG + f"{split} {label}".encode()
            (root / label / "site").mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
            samples.append(Sample(path, len(content), digest(content), label, split))
    (root / "masks/damaged/site").mkdir(parents=True)
    (root / "masks/damaged/site/test.png").write_bytes(b"mask")
    test = next(n for n, one in enumerate(samples) if one.path == "damaged/site/test.png")
    samples[test] = replace(samples[test], mask="masks/damaged/site/test.png", mask_sha256=digest(b"mask"))
    return Manifest(("damaged", "intact"), tuple(sorted(samples, key=lambda one: one.path))), root


def export(folder: Path, *rows: tuple[bytes, str, str]) -> Path:
    """What the console exports of pictures with their labels and lanes."""
    (folder / "pictures").mkdir(parents=True)
    tasks = []
    for number, (content, label, lane) in enumerate(rows):
        (folder / "pictures" / digest(content)).write_bytes(content)
        data = {
            "digest": digest(content),
            "item": number,
            "reviewer": "0123456789ab",
            "lane": lane,
            "chance": 0.02,
            "archive": "a" * 64,
        }
        choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
        tasks.append({"id": number, "data": {**data, "image": "x"}, "annotations": [{"result": [choice]}], "predictions": []})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return folder


def test_chosen_reviews_train_and_audits_are_sealed(parent, tmp_path: Path) -> None:
    manifest, root = parent
    one, two = PNG + b"one", b"\xff\xd8\xff two"
    found = reviews.merge(
        manifest, root, export(tmp_path / "in", (one, "damaged", "review"), (two, "intact", "audit")), tmp_path / "new"
    )
    paths = {f"train/damaged/review-{digest(one)[:32]}.png": "train", f"sealed/intact/review-{digest(two)[:32]}.jpg": "sealed"}
    assert {review.path: review.split for review in found.reviews} == paths
    assert found.parent == manifest.digest

    merged = build(tmp_path / "new", DataConfig(source="imagefolder", path=tmp_path / "new", layout="splits"))
    splits = {sample.sha256: sample.split for sample in merged.samples}
    assert splits == {sample.sha256: sample.split for sample in manifest.samples} | {digest(one): "train", digest(two): "sealed"}
    masked = [sample for sample in merged.samples if sample.mask]
    assert [(sample.path, sample.mask_sha256) for sample in masked] == [("test/damaged/site/test.png", digest(b"mask"))]

    written = json.loads((tmp_path / "new/reviews.json").read_text())
    assert written["parent"] == manifest.digest
    assert {one["reviewer"] for one in written["reviews"]} == {"0123456789ab"}
    again = export(tmp_path / "more", (PNG + b"three", "damaged", "drift"))
    second = reviews.merge(merged, tmp_path / "new", again, tmp_path / "newer")  # a version of a version
    assert second.parent == merged.digest
    assert (
        len(build(tmp_path / "newer", DataConfig(source="imagefolder", path=tmp_path / "newer", layout="splits")).samples) == 11
    )


def test_what_is_left_out_is_counted(parent, tmp_path: Path) -> None:
    manifest, root = parent
    known = PNG + b"test damaged"
    rows = [
        (PNG + b"one", "damaged", "review"), (PNG + b"one", "intact", "review"), (known, "damaged", "audit"),
        (PNG + b"train intact", "damaged", "review"), (PNG + b"two", "cat", "review"), (b"no picture", "damaged", "review"),
    ]  # fmt: skip
    found = reviews.merge(manifest, root, export(tmp_path / "in", *rows), tmp_path / "new")
    assert [(review.sha256, review.label) for review in found.reviews] == [(digest(PNG + b"one"), "intact")]  # the last word
    assert found.left_out == {
        "contradicts_parent": 1, "in_parent": 1, "no_picture": 1, "reviewed_again": 1, "unknown_label": 1,
    }  # fmt: skip


def test_nothing_is_written_where_something_is_wrong(parent, tmp_path: Path) -> None:
    manifest, root = parent
    folder = export(tmp_path / "in", (PNG + b"one", "damaged", "review"))
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="already"):
        reviews.merge(manifest, root, folder, tmp_path / "there")
    (folder / "pictures" / digest(PNG + b"one")).write_bytes(b"other bytes")
    with pytest.raises(DataError, match="export the reviews again"):
        reviews.merge(manifest, root, folder, tmp_path / "new")
    (folder / "tasks.json").write_text("[{}]")
    with pytest.raises(DataError, match="none that"):
        reviews.merge(manifest, root, folder, tmp_path / "new")
    with pytest.raises(DataError, match="visor console export"):
        reviews.merge(manifest, root, tmp_path / "nowhere", tmp_path / "new")
    assert not (tmp_path / "new").exists()

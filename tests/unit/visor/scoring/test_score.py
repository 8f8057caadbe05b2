"""One image's row, by a network whose answer is arithmetic; processes are in tests/integration/test_score.py."""

import dataclasses
import hashlib
import io
import os
import threading

import numpy as np
import pytest
from PIL import Image

from handlers.decision import rule_of
from handlers.spec import FnrBound, GroupRule, Limits, PredictionSets
from tests.unit.specs import make_spec
from visor import cli
from visor.errors import ScoreError
from visor.scoring import parts, score
from visor.scoring.listing import ListedImage

SPEC = make_spec(
    ("dark", "light"),
    positive=("light",),
    feature_map=(1, 2, 2),
    temperature=2.0,
    threshold=0.5,
    review_from=0.2,
    review_to=0.6,
    fnr_bound=FnrBound(level=0.1, threshold=0.5, positives=30),
    groups=(GroupRule(name="site=north", threshold=0.7, images=20, positives=9),),
    prediction_sets=PredictionSets(method="lac", coverage=0.9, limit=0.9, images=30),
    limits=Limits(max_bytes=5000, max_pixels=10_000),
)


class Brightness:
    """A network of one feature; the logits are -4 and +4 times the mean brightness in [-1, 1]."""

    head = np.array([[-4.0], [4.0]], dtype=np.float32)

    def infer(self, batch):
        maps = batch.mean(axis=1).reshape(len(batch), 1, 2, 4, 2, 4).mean(axis=(3, 5))
        return maps.mean(axis=(2, 3)) @ self.head.T, maps


class Broken(Brightness):
    def infer(self, _):
        raise RuntimeError("a fault of ours")


def png(level, size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def job(tmp_path):
    (tmp_path / "images").mkdir()
    scoring = parts.Scoring(
        name="tiny",
        version="1",
        archive_digest="a" * 64,
        labels=SPEC.labels,
        threshold=0.9,
        threshold_overridden=True,
        review_from=0.2,
        review_to=0.9,
        group=None,
        promise="overridden",
        explain=False,
        images=2,
        listing_digest="b" * 64,
    )
    return score._ScoringJob(tmp_path, SPEC, tmp_path / "images", tmp_path / "out", scoring, None)


def test_a_row_by_hand(job):
    (job.root / "a.png").write_bytes(png(255))
    found = score._row(ListedImage("a.png"), job, Brightness())
    # brightness 1: logits -4 and 4, halved by the temperature: 1 / (1 + e^-4) for light, which is above the threshold asked for
    light = 1 / (1 + np.exp(-4))
    assert found["probabilities"] == pytest.approx([1 - light, light], abs=1e-6)
    assert (found["path"], found["label"], found["decision"]) == ("a.png", "light", "flag")
    assert found["confidence"] == pytest.approx(light, abs=1e-6)
    assert found["digest"] == hashlib.sha256(png(255)).hexdigest()
    assert "error" not in found
    assert found["score"] == pytest.approx(light, abs=1e-6)
    assert (found["review_from"], found["review_to"], found["promise"]) == (0.2, 0.9, "overridden")
    assert found["prediction_set"] == ("light",)  # dark has 0.018, and 1 - 0.018 is above 0.9


@pytest.mark.parametrize(
    ("threshold", "group", "level", "outcome"),
    [
        (None, None, 140, "review"),  # light with 0.597, in the archive's band
        (0.5, None, 140, "flag"),  # the archive's own threshold, but asked for
        (None, "site=north", 145, "review"),  # 0.633, in the band that the group's threshold stretches
        (None, None, 145, "flag"),
    ],
)
def test_rows_are_decided_by_the_rule_that_was_asked_for(job, threshold, group, level, outcome):
    rule = rule_of(SPEC, threshold, group)
    asked = {
        "threshold": rule.threshold,
        "threshold_overridden": threshold is not None,
        "review_from": rule.review_from,
        "review_to": rule.review_to,
        "group": group,
    }
    job = dataclasses.replace(job, scoring=job.scoring.model_copy(update=asked))
    (job.root / "a.png").write_bytes(png(level))
    row = score._row(ListedImage("a.png"), job, Brightness())
    assert (row["decision"], row["review_to"]) == (outcome, rule.review_to)


def test_an_archive_may_decide_about_pictures_that_fail(job):
    spec = SPEC.model_copy(update={"decision": SPEC.decision.model_copy(update={"on_error": "review"})})
    job = dataclasses.replace(job, spec=spec)
    (job.root / "a.png").write_bytes(b"not a picture")
    row = score._row(ListedImage("a.png"), job, Brightness())
    assert (row["error"], row["decision"]) == ("image.undecodable", "review")
    assert "decision" not in score._row(ListedImage("gone.png"), job, Brightness())  # no picture at all


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image.empty"),
        (b"not a picture", "image.undecodable"),
        (png(0)[:40], "image.undecodable"),
        (png(0, (101, 100)), "image.too_large"),
        (b"x" * 5001, "image.too_large"),
    ],
)
def test_a_bad_image_is_a_row_with_its_digest_and_code(job, data, code):
    (job.root / "a.png").write_bytes(data)
    assert score._row(ListedImage("a.png"), job, Brightness()) == {
        "path": "a.png",
        "digest": hashlib.sha256(data).hexdigest(),
        "error": code,
    }


def test_a_file_that_is_gone_a_pipe_and_an_impossible_name(job):
    os.mkfifo(job.root / "pipe.png")
    for name in ("gone.png", "pipe.png", "zero\0.png"):
        assert score._row(ListedImage(name), job, Brightness()) == {"path": name, "error": "image.unreadable"}


def test_a_file_that_is_not_the_manifest_s(job):
    (job.root / "a.png").write_bytes(png(255))
    digest = hashlib.sha256(png(255)).hexdigest()
    assert score._row(ListedImage("a.png", digest), job, Brightness())["label"] == "light"
    assert score._row(ListedImage("a.png", "0" * 64), job, Brightness()) == {
        "path": "a.png",
        "digest": digest,
        "error": "image.changed",
    }


def test_a_fault_of_ours_is_a_row_and_is_logged(job, caplog):
    (job.root / "a.png").write_bytes(png(255))
    assert score._row(ListedImage("a.png"), job, Broken())["error"] == "internal"
    assert "a.png cannot be answered" in caplog.text


@pytest.mark.parametrize("path", ["deep/a.png", "../images/deep/a.png"])
def test_overlays_lie_below_their_folder(job, tmp_path, path):
    (job.root / "deep").mkdir()
    (job.root / "deep/a.png").write_bytes(png(255))
    scoring = job.scoring.model_copy(update={"explain": True})
    job = score._ScoringJob(job.model, SPEC, job.root, job.folder, scoring, tmp_path / "maps")
    assert score._row(ListedImage(path), job, Brightness())["label"] == "light"
    [drawn] = tmp_path.rglob("*-heatmap.png")
    assert drawn.is_relative_to(tmp_path / "maps")
    with Image.open(drawn) as picture:
        assert picture.width == 256
        assert picture.height > 256  # a legend below it


def test_a_part_that_is_interrupted_is_not_written(job, monkeypatch):
    worker = score._Worker(job, threading.Event())
    worker._backend = Brightness()
    monkeypatch.setattr(score, "_worker", worker)
    for name in "ab":
        (job.root / f"{name}.png").write_bytes(png(255))
    parts.claim(job.folder, job.scoring)
    images = [ListedImage("a.png"), ListedImage("b.png")]
    written = score._write_part(0, images)
    assert (written.rows, written.counts.decisions["flag"]) == (2, 2)
    parts.path_of(job.folder, 0).unlink()
    worker.stop.set()
    with pytest.raises(ScoreError):
        score._write_part(0, images)
    assert parts.read(job.folder, job.scoring, 0) is None


@pytest.mark.parametrize("shard", ["4/4", "1", "a/b", "-1/2", "1/", "0/0"])
def test_a_mistyped_shard(shard, capsys):
    with pytest.raises(SystemExit):
        cli.parse_args(["score", "x", "y", "--out", "z", f"--shard={shard}"])
    assert "is not I/N" in capsys.readouterr().err


def test_a_shard():
    assert cli.parse_args(["score", "x", "y", "--out", "z", "--shard", "3/4"]).shard == (3, 4)

"""Masks in the network's view, and which answers are picked."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from drawing.heat import FULL_LOGITS, overlay
from handlers.predictor import Answer
from handlers.spec import Spec
from tests.unit import specs
from training.data.manifest import Sample
from training.data.masks import read_mask
from training.errors import DataUnreadable
from training.reports.galleries import RIGHT, WORST, galleries, scale


def make_spec(positive=("bad",), **preprocessing) -> Spec:
    spec = specs.make_spec(("bad", "good"), positive=positive, review_cost=0.1)
    return spec.model_copy(update={"preprocessing": spec.preprocessing.model_copy(update=preprocessing)})


def sample(path: str, label: str = "bad", mask: str | None = None) -> Sample:
    return Sample(path, 1, "0" * 64, label, "test", mask=mask)


def test_no_mask_is_none(tmp_path):
    assert read_mask(sample("a.png"), make_spec(), tmp_path) is None


@pytest.mark.parametrize("high", [1, 255])
def test_a_mask_of_any_value_is_scaled_with_its_picture(tmp_path, high):
    mask = np.zeros((16, 32), dtype=np.uint8)
    mask[:8, 16:] = high
    Image.fromarray(mask).save(tmp_path / "m.png")
    seen = read_mask(sample("a.png", mask="m.png"), make_spec(), tmp_path)
    assert seen[:4, 4:].all()
    assert not seen[5:].any()
    assert not seen[:, :3].any()


def test_a_mask_is_cropped_as_its_picture(tmp_path):
    mask = np.zeros((16, 32), dtype=np.uint8)
    mask[:, 8:16] = 255  # the left half of the middle square
    Image.fromarray(mask).save(tmp_path / "m.png")
    seen = read_mask(sample("a.png", mask="m.png"), make_spec(fit="crop", resize=8), tmp_path)
    assert seen[:, :4].all()
    assert not seen[:, 5:].any()


@pytest.mark.parametrize(("side", "said"), [(14_000, "more than 178956970 pixels"), (7_500, "7500 x 7500, more than")])
def test_a_mask_that_is_too_large_is_named(tmp_path, side, said):
    Image.new("1", (side, side)).save(tmp_path / "m.png")
    with pytest.raises(DataUnreadable, match=rf"the mask m\.png .*{said}"):
        read_mask(sample("a.png", mask="m.png"), make_spec(), tmp_path)


def answer(score: float, spec: Spec) -> Answer:
    probs = np.array([score, 1 - score], dtype=np.float32)
    best = int(probs.argmax())
    outcome = "flag" if score >= 0.5 else "pass"
    return Answer(
        spec.labels[best], float(probs[best]), probs, outcome, 0.5, np.ones((2, 2), dtype=np.float32), spec.labels[best]
    )


@pytest.fixture
def pictures(tmp_path):
    for n in range(40):
        Image.fromarray(np.full((8, 8, 3), n, dtype=np.uint8)).save(tmp_path / f"{n:02}.png")
    return tmp_path


def test_the_worst_come_first_and_there_are_not_too_many(pictures):
    spec, scores = make_spec(), np.linspace(0.02, 0.98, 40)
    truth = np.arange(40) % 2  # even: bad
    samples = [sample(f"{n:02}.png", spec.labels[k]) for n, k in enumerate(truth)]
    missed, alarms, right = galleries(samples, [answer(s, spec) for s in scores], truth, spec, pictures)
    assert [case.path for case in missed.cases] == [f"{n:02}.png" for n in range(0, 2 * WORST, 2)]
    assert [case.path for case in alarms.cases] == [f"{n:02}.png" for n in range(39, 39 - 2 * WORST, -2)]
    assert [case.path for case in right.cases] == ["20.png", "26.png", "32.png", "38.png"]
    assert len(right.cases) == RIGHT
    first = missed.cases[0]
    assert (first.truth, first.label, first.outcome) == ("bad", "good", "pass")
    assert first.score == pytest.approx(0.02)
    assert [picture.caption for picture in first.pictures] == ["the picture", "evidence for good"]


def test_an_error_has_a_right_answer_of_its_label_beside_it(pictures):
    spec = make_spec()
    truth = np.array([0, 0, 0, 1, 1])  # bad, bad, bad, good, good
    samples = [sample(f"{n:02}.png", spec.labels[k]) for n, k in enumerate(truth)]
    answers = [answer(score, spec) for score in (0.1, 0.9, 0.8, 0.7, 0.2)]
    missed, alarms, right = galleries(samples, answers, truth, spec, pictures)
    assert [(case.path, case.right.path) for case in missed.cases] == [("00.png", "01.png")]
    assert [(case.path, case.right.path) for case in alarms.cases] == [("03.png", "04.png")]
    beside = missed.cases[0].right
    assert (beside.truth, beside.label, beside.outcome, len(beside.pictures)) == ("bad", "bad", "flag", 2)
    assert all(case.right is None for case in right.cases)
    none = make_spec(positive=())
    errors, *_ = galleries(samples[:2], [answer(0.1, none), answer(0.2, none)], truth[:2], none, pictures)
    assert [case.right for case in errors.cases] == [None, None]  # none of that label was right


def test_the_legend_has_the_colours_of_the_maps_and_says_how_strong_the_strongest_is():
    known = replace(answer(0.9, make_spec()), heatmap_peak=3.0)
    legend = scale([known])
    assert legend.caption == f"{FULL_LOGITS:g} logits or more"
    colours = np.asarray(Image.open(io.BytesIO(legend.data)))
    ends = overlay(np.full((1, 2, 3), 255, dtype=np.uint8), np.array([[0.0, 1.0]], dtype=np.float32))
    assert colours[0, 0].tolist() == ends[0, 0].tolist() == [255, 255, 255]
    assert colours[0, -1].tolist() == ends[0, 1].tolist()
    assert scale([known, replace(known, heatmap_peak=None)]).caption == "the map's own peak"
    assert scale([replace(known, heatmap=None)]) is None


def test_without_positive_labels_and_without_errors_there_is_one_empty_gallery(pictures):
    spec = make_spec(positive=())
    samples = [sample("00.png", "bad"), sample("01.png", "good")]
    errors, right = galleries(samples, [answer(0.9, spec), answer(0.1, spec)], np.array([0, 1]), spec, pictures)
    assert (errors.title, errors.cases) == ("Worst errors", [])
    assert [case.path for case in right.cases] == ["00.png", "01.png"]

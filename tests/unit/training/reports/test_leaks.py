"""Report and card call no test image unseen that the model had met, and say first how many it had."""

import pytest

from tests.unit.pages import check_page
from tests.unit.training.reports.test_evaluation import make_metrics, page
from tests.unit.training.reports.test_model_card import card
from training.data.manifest import Manifest, Sample
from training.reports.leaks import count, notes
from training.reports.model_card import html, markdown
from training.runs import Leaks

UNSEEN = ("that training never saw", "which training and calibration never saw")


def make_manifest(*splits_and_digests: tuple[str, str]) -> Manifest:
    samples = [
        Sample(f"x/{n}.png", 1, digest * 64, "x", split)  # type: ignore[arg-type]
        for n, (split, digest) in enumerate(splits_and_digests)
    ]
    return Manifest(("x", "y"), tuple(samples))


MANIFEST = make_manifest(("train", "a"), ("val", "b"), ("calibration", "a"), ("calibration", "c"), ("test", "b"), ("test", "d"))


def test_copies_are_counted_by_digest_and_near_ones_as_the_record_has_them() -> None:
    counts = count(MANIFEST, Leaks(near={"test": 2, "calibration": 1}, pretrained={"test": 1}))
    assert counts == {
        "test": {"images": 2, "near": 2, "copies": 1, "pretrained": 1},
        "calibration": {"images": 2, "near": 1, "copies": 1, "pretrained": 0},
    }
    unknown = count(MANIFEST, None)
    assert unknown["test"] == {"images": 2, "near": None, "copies": 1, "pretrained": None}


def shown(counts: dict) -> tuple[str, str, str]:
    metrics = make_metrics(leaks=counts)
    content = card(metrics)
    return page(metrics=metrics), markdown("roofs", content), html("roofs", content)


def test_of_new_images_pages_say_so_and_nothing_is_doubtful() -> None:
    counts = count(make_manifest(("train", "a"), ("calibration", "b"), ("test", "c")), Leaks(near={}))
    assert notes(counts) == []
    for text in shown(counts):
        assert any(said in text for said in UNSEEN)


@pytest.mark.parametrize(
    ("leaks", "said"),
    [
        (
            Leaks(near={"test": 2}),
            "2 of the 2 test images are near-duplicates of what training or calibration had met, 1 ",
        ),
        (Leaks(near={"calibration": 1, "test": 1}), "1 of the 2 calibration images is a near-duplicate of what training had met"),
        (Leaks(near={}, pretrained={"test": 1}), "1 of the 2 test images had been met by the weights that the run began with"),
        (Leaks(near={}), "1 of the 2 test images is byte for byte the same as what training or calibration had met: blank"),
        (None, "Nobody looked for near-duplicates of test images among what training or calibration had met"),
        (None, "earlier version of visor; 1 of the 2 test images is byte for byte the same, and the figures flatter the model."),
    ],
)
def test_images_that_were_met_are_told_and_never_called_unseen(leaks: Leaks | None, said: str) -> None:
    counts = count(MANIFEST, leaks)
    assert any(said in note for note in notes(counts))
    for text in shown(counts):
        assert not any(unseen in text for unseen in UNSEEN)


def test_what_nobody_counted_is_not_called_unseen() -> None:
    for text in (page(), markdown("roofs", card())):
        assert not any(unseen in text for unseen in UNSEEN)
    check_page(page())

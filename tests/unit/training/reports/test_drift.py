"""What is said of a window: no more than its word and its limits carry."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from handlers.spec import Limits
from tests.unit.specs import make_spec
from training.reports import drift
from watch.verdict import Figure, Verdict

MOVED = Figure("score", psi=0.3, limit=0.2, unexplained=0.1, left_limit=0.25)
CALM = Figure("score", psi=0.1, limit=0.2, unexplained=0.1, left_limit=0.2)
STILL = Figure("width", psi=0.01, limit=0.1, unexplained=0.01, left_limit=0.1)


def said(figure: Figure, bounded: bool = True) -> tuple[str, str, str]:
    """The word, the sentences, and the whole text."""
    preprocessing = make_spec(("intact", "damaged")).preprocessing
    verdict = Verdict(500, (figure, STILL), np.array([0.74, 0.26]), np.array([0.5, 0.5]))
    window = drift.Window(
        "roofs", "ab12" * 16, ("intact", "damaged"), 240, verdict, Counter(), ("a.png",), None, preprocessing, Limits(), bounded
    )
    assert drift.to_json(window)["word"] == verdict.word
    return verdict.word, " ".join(drift.sentences(window)), drift.text(window)


def test_calm_says_what_so_many_images_can_show_and_not_that_nothing_changed():
    word, sentences, text = said(CALM)
    assert word == "calm"
    assert sentences.startswith("Calm: no difference found. ")
    assert "500 images beside 240 show changes of PSI above 0.200, and may hide less." in sentences
    assert "show changes of PSI above 0.200" in text
    assert "like them" not in sentences


@pytest.mark.parametrize(
    ("figure", "expected", "part"),
    [
        (MOVED, "labels", "Other shares of the labels suffice to explain it."),
        (replace(MOVED, left_limit=0.5), "unclear", "cannot be told"),
        (replace(MOVED, unexplained=0.28), "pictures", "The pictures themselves are others"),
    ],
)
def test_each_word_has_its_sentence_and_its_shares(figure, expected, part):
    word, sentences, _ = said(figure)
    assert word == expected
    assert sentences.startswith("Drift: score moved.")
    assert part in sentences
    assert "intact 50% -> 74%; damaged 50% -> 26%" in sentences
    # Shares are drawn towards the old ones, and a label's pictures may have changed unseen.
    assert "look as they did" not in sentences
    assert ("maybe further" in sentences) == (word == "labels")


FITTED = "Calibration and threshold were fitted on images like the calibration split's"


@pytest.mark.parametrize(
    ("figure", "bounded", "unbounded"),
    [
        (MOVED, "that is over for these.", f"{FITTED}, which these are not."),
        (CALM, "nothing here says that these are not.", f"{FITTED}; nothing here says that these are not."),
    ],
)
def test_a_bound_is_spoken_of_only_where_the_archive_has_one(figure, bounded, unbounded):
    _, with_bound, _ = said(figure)
    assert f"The bound on missed images holds for images like the calibration split's; {bounded}" in with_bound
    _, without, text = said(figure, bounded=False)
    assert unbounded in without
    assert "bound" not in text

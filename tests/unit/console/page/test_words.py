"""What the page says of an answer. Expected sentences are written out; no sentence may contradict its own numbers."""

import re

import pytest

from console.page import words
from console.servers.models import Answer, Bound, CurvePoint, Model, Rule

MODEL = Model(
    name="roofs",
    version="1",
    labels=("damaged", "intact"),
    positive=("damaged",),
    rule=Rule(threshold=0.2, review_from=0.1, review_to=0.3),
    bound=Bound(level=0.05, threshold=0.25, positives=120),
    curve=tuple(
        CurvePoint(threshold=at, missed=missed, false_alarms=alarms)
        for at, missed, alarms in ((0.0, 0.0, 1.0), (0.2, 0.02, 0.1), (0.5, 0.2, 0.01), (1.0, 1.0, 0.0))
    ),
    prediction_sets={"method": "aps", "coverage": 0.9},
)


def answer(decision: str, score: float, low: float = 0.1, at: float = 0.2, high: float = 0.3, **others: object) -> Answer:
    facts = {"decision": decision, "score": score, "review_from": low, "threshold": at, "review_to": high}
    return Answer.model_validate({"positive": ("damaged",)} | facts | others)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (answer("flag", 0.31, 0.2, 0.2, 0.2), "flagged: score 0.31 is at or above the threshold 0.2"),
        (answer("pass", 0.05, 0.2, 0.2, 0.2), "passed: score 0.05 is below the threshold 0.2"),
        (answer("flag", 0.31), "flagged: score 0.31 is at or above 0.3, where the review band around the threshold 0.2 ends"),
        (answer("pass", 0.05), "passed: score 0.05 is below 0.1, where the review band around the threshold 0.2 begins"),
        (
            answer("review", 0.15),
            "for a person: score 0.15 is within the review band, from 0.1 up to 0.3, around the threshold 0.2",
        ),
        (
            answer("flag", 0.31, 0.1, 0.2, 0.2, threshold_overridden=True),
            "flagged: score 0.31 is at or above your threshold 0.2",
        ),
        (
            answer("flag", 0.31, 0.1, 0.2, 0.2, group="site=north"),
            "flagged: score 0.31 is at or above the threshold of site=north 0.2",
        ),
        (answer("pass", 0.97, 0, 0.8, 0.8, positive=()), "passed: confidence 0.97 is at or above the threshold 0.8"),
        (answer("review", 0.7, 0, 0.8, 0.8, positive=()), "for a person: confidence 0.7 is below the threshold 0.8"),
        (Answer(decision="review"), ""),  # a picture that failed has no score
    ],
)
def test_the_rule_is_said_in_words(given: Answer, said: str) -> None:
    assert words.rule(given) == said


@pytest.mark.parametrize("score", [0.2, 0.19999, 0.2000001, 0.1999999999])
def test_numbers_have_as_many_digits_as_tell_them_apart(score: float) -> None:
    decision = "flag" if score >= 0.2 else "pass"
    said = words.rule(answer(decision, score, 0.2, 0.2, 0.2))
    own, at = map(float, re.findall(r"\d\.\d+", said))
    assert (own >= at) == (score >= 0.2) or abs(score - 0.2) < 1e-9


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (None, "-"),
        (0, "0 %"),
        (1, "100 %"),
        (0.0004, "< 0.1 %"),
        (0.9996, "> 99.9 %"),
        (0.314159, "31.4 %"),
        (1e-9, "< 0.1 %"),
    ],
)
def test_what_is_neither_nothing_nor_all_is_not_said_to_be(share: float | None, said: str) -> None:
    assert words.percent(share) == said


def test_no_number_is_rounded_to_an_end() -> None:
    assert [words.number(value) for value in (0, 1, 0.99963, 0.9999999, 1e-12)] == ["0", "1", "0.9996", "0.9999999", "1e-12"]


def test_names_are_listed() -> None:
    assert [words.listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a or b", "a, b or c"]


def test_the_promise_is_said_with_what_it_covers() -> None:
    held, beyond = (words.promise(answer("flag", 0.5, promise=one), MODEL) for one in ("held", "overridden"))
    assert "The promise covers this answer" in held
    assert "at most 5 % are missed, up to the threshold 0.25 (from 120 of them)" in held
    assert "does not cover this answer" in beyond
    assert words.promise(answer("flag", 0.5), MODEL) == "This archive makes no promise about missed pictures."


def test_each_choice_says_what_it_does_and_where_the_promise_ends() -> None:
    given = answer("review", 0.15)
    inside = words.choice(0.2, 0.02, 0.1, given, MODEL)
    assert "2.0 % of damaged pictures would be missed and 10.0 % of the others flagged" in inside
    assert "This picture would go to a person." in inside  # from 0.1 on, below 0.2
    assert "The promise of at most 5 % missed holds." in inside
    outside = words.choice(0.5, 0.2, 0.01, given, MODEL)
    assert "no longer covers it: that ends at 0.25" in outside
    assert "This picture would be flagged." in words.choice(0.0, 0.0, 1.0, given, MODEL)
    assert "promise" not in words.choice(0.5, 0.2, 0.01, given, MODEL.model_copy(update={"bound": None}))

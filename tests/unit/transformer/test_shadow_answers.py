"""Two releases' answers to one image beside each other, and what their decisions cost, held against how training prices them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from handlers.errors import ImageUndecodable
from tests.unit.specs import make_spec
from training.decisions.thresholds import side_costs
from transformer.shadow_answers import Comparison, Row, compare, expected_cost, outputs_of, read_row, stable_row
from transformer.upstream.connection import Reply
from transformer.upstream.image_answers import ImageAnswer

LABELS = ("intact", "cracked", "burnt", "unsure")
COST = ((0.0, 1.0, 2.0, 0.5), (5.0, 0.0, 0.25, 4.0), (9.0, 0.5, 0.0, 8.0), (0.25, 1.5, 3.0, 0.0))
SPEC = make_spec(LABELS, positive=("cracked", "burnt"), cost=COST, review_cost=0.75, on_error="review")
SELECTIVE = make_spec(LABELS, cost=COST, review_cost=0.75)
PROBS = dict(zip(LABELS, (0.5, 0.125, 0.25, 0.125), strict=True))
REFUSED = Row("", "review", None, {})


def row(label: str = "intact", decision: str = "pass", score: float = 0.375) -> Row:
    return Row(label, decision, score, PROBS)


def reply(status: int = 200, **columns: list[object]) -> Reply:
    """An answer to `outputs_of` of two labels, each output of which a test may replace."""
    full = {
        "label": ["a"],
        "decision": ["pass"],
        "score": [0.25],
        "error": [""],
        "probabilities": ["0.750000:0:a", "0.250000:1:b:c"],
    }
    outputs = [{"name": name, "data": data} for name, data in {**full, **columns}.items()]
    return Reply(status, json.dumps({"outputs": outputs}).encode())


@pytest.mark.parametrize(
    ("stable", "canary", "result"),
    [
        (row(), row(), "agreed"),
        (row(), row(label="unsure"), "label"),
        (row(), row(decision="flag"), "decision"),
        (row(), row("cracked", "flag"), "decision"),
        (row(decision="review"), row(decision="flag"), "decision"),
        (row(decision="review"), REFUSED, "decision"),  # the same word, but of one that was refused
        (row(), Row("", "", None, {}), "decision"),
        (REFUSED, REFUSED, "agreed"),
        (REFUSED, Row("", "flag", None, {}), "decision"),
    ],
)
def test_two_answers_agree_in_decision_and_label(stable: Row, canary: Row, result: str) -> None:
    assert compare(stable, canary, SPEC).result == result
    assert compare(canary, stable, SPEC).result == result


def test_a_difference_is_the_canarys_minus_the_stable_one() -> None:
    """By hand: passed stands for intact, of cost 0.125 * 5 + 0.25 * 9 + 0.125 * 0.25; flagged for burnt, 0.5 * 2 + 0.125 * 0.25 +
    0.125 * 3."""
    found = compare(row(), row("burnt", "flag", 0.5), SPEC)
    assert found == Comparison("decision", 0.125, (2.90625, 1.40625))
    assert compare(row(), REFUSED, SPEC) == Comparison("decision")


def test_decisions_cost_what_training_says_they_cost_on_average() -> None:
    """Its costs by true label, weighted by each label's probability."""
    rng = np.random.default_rng(18)
    for spec in (SPEC, SELECTIVE):
        for probs in rng.dirichlet(np.ones(4), 200):
            above, below = side_costs(np.tile(probs, (4, 1)), np.arange(4), spec.positive_index, np.array(COST), 0.75)
            mean = (
                {"flag": probs @ above, "pass": probs @ below}
                if spec is SPEC
                else {"pass": probs @ above, "review": probs @ below}
            )
            for decision, cost in {**mean, "review": 0.75}.items():
                one = Row("intact", decision, 0.5, dict(zip(LABELS, probs.tolist(), strict=True)))
                assert expected_cost(one, spec) == pytest.approx(cost)


def test_what_has_no_price_has_no_cost() -> None:
    unpriced = make_spec(LABELS, positive=("burnt",), cost=COST)
    assert expected_cost(row(decision="review"), unpriced) is None
    assert compare(row(), row(decision="review"), unpriced) == Comparison("decision", 0.0)
    assert expected_cost(row(decision="flag"), SELECTIVE) is None
    assert expected_cost(replace(row(), probabilities={"intact": 1.0}), SPEC) is None


def test_the_stable_row_is_what_was_answered() -> None:
    probs = np.array([0.5, 0.125, 0.25, 0.125], np.float32)
    answer = ImageAnswer("intact", 0.5, probs, "pass", np.zeros((1, 1), np.float32), "", {})
    assert stable_row(answer, SPEC) == row()
    assert stable_row(answer, SELECTIVE) == row(score=0.5)
    assert stable_row(ImageUndecodable("what"), SPEC) == REFUSED
    assert stable_row(ImageUndecodable("what"), SELECTIVE) == Row("", "", None, {})


def test_a_canarys_row_is_read_by_the_labels_names() -> None:
    assert [one["name"] for one in outputs_of(SPEC)] == ["label", "decision", "score", "error", "probabilities"]
    assert outputs_of(SPEC)[-1]["parameters"] == {"classification": 5}
    assert read_row(reply(), 2) == Row("a", "pass", 0.25, {"a": 0.75, "b:c": 0.25})
    refused = reply(label=[""], decision=["flag"], score=[0.0], error=["image.undecodable"], probabilities=["", ""])
    assert read_row(refused, 2) == Row("", "flag", None, {})
    assert read_row(Reply(400, b'{"error": "no picture", "code": "image.undecodable"}'), 2) == Row("", "", None, {})


@pytest.mark.parametrize(
    "unanswered",
    [
        Reply(503, b'{"error": "wait", "code": "server.overloaded"}'),
        Reply(404, b'{"error": "who", "code": "model.not_found"}'),
        Reply(500, b'{"error": "what", "code": "image.undecodable"}'),
        Reply(502, b"<html>Bad Gateway</html>"),
        Reply(400, b"[]"),
        Reply(200, b"not JSON"),
        Reply(200, b"{}"),
        Reply(200, b'{"outputs": [{"data": []}]}'),
        reply(score=[None]),
        reply(score=["NaN"]),
        reply(probabilities=["0.5"]),
        reply(probabilities=["half:0:a"]),
        reply(probabilities=["nan:0:a", "0.25:1:b"]),
        reply(probabilities=["inf:0:a", "0.25:1:b"]),
        reply(probabilities=["1e308:0:a", "1e308:1:b"]),
        reply(probabilities=["-3:0:a", "4:1:b"]),
        reply(probabilities=["0.5:0:a", "0.25:1:b"]),
        reply(probabilities=["0.75:0:a", "0.75:1:a"]),
        reply(probabilities=["0.75:0:a", "0.25:1:b", "0.25:2:c"]),  # of more labels, and yet above 1
        reply(probabilities=[1, 2]),
        reply(score=["inf"]),
        reply(score=[-0.5]),
        reply(score=[1e300]),
        reply(label=[{}]),
        reply(label=[7]),
        reply(label=[""]),
        reply(decision=["DROP"]),
        reply(decision=[["pass"]]),
        reply(error=[{"code": "image.undecodable"}]),
        reply(error=["image.undecodable"], decision=["DROP"]),
    ],
)
def test_what_is_no_answer_to_the_image_is_no_row(unanswered: Reply) -> None:
    assert read_row(unanswered, 2) is None


def test_of_a_canary_with_more_labels_the_most_probable_are_a_row_without_a_price() -> None:
    """One class more than the stable archive has says so; the sum of those that are shown is below 1."""
    two = make_spec(("a", "b"))
    more = read_row(reply(probabilities=["0.5:1:b", "0.25:0:a", "0.125:4:c"]), 2)
    assert more == Row("a", "pass", 0.25, {"b": 0.5, "a": 0.25, "c": 0.125})
    assert expected_cost(more, two) is None
    rounded = [f"{1 / 7:.6f}:{k}:{k}" for k in range(7)]  # 7 times 0.142857 is 0.999999
    assert read_row(reply(probabilities=rounded), 7) is not None

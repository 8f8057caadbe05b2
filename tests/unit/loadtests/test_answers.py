"""Each way in which an answer can be wrong."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loadtests.answers import Answer, AnswerWrong, Question, check

QUESTION = Question("load-7", "roofs", b"", explain=True)


def texts(*values: str) -> Any:
    return np.array([value.encode() for value in values], np.object_)


def floats(*values: Any) -> Any:
    return np.array(values, np.float32)


RIGHT = {
    "label": texts("damaged"),
    "confidence": floats(0.75),
    "probabilities": floats([0.75, 0.25]),
    "decision": texts("flag"),
    "error": texts(""),
    "heatmap": floats([[0.0, 0.5], [1.0, 0.25]]),
}
ANSWER = Answer("load-7", "roofs", RIGHT)


def test_a_right_answer_passes_with_texts_as_bytes_or_as_strings() -> None:
    check(ANSWER, QUESTION)
    check(replace(ANSWER, outputs={**RIGHT, "decision": np.array(["review"], np.object_)}), QUESTION)
    check(replace(ANSWER, outputs={**RIGHT, "heatmap": None}), replace(QUESTION, explain=False))


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("label", None, "payload.output"),
        ("decision", texts("maybe"), "payload.decision"),
        ("decision", texts("pass", "pass"), "payload.output"),
        ("decision", floats(1), "payload.output"),
        ("error", texts("image.undecodable"), "payload.error"),
        ("confidence", floats(0.7), "payload.probability"),
        ("confidence", np.array([0.75]), "payload.output"),  # float64
        ("probabilities", floats([0.75, 0.35]), "payload.probability"),
        ("probabilities", floats([0.75, np.nan]), "payload.probability"),
        ("probabilities", floats([1.25, -0.25]), "payload.probability"),
        ("probabilities", floats([1.0]), "payload.probability"),
        ("probabilities", floats([0.75, 0.25], [0.75, 0.25]), "payload.output"),
        ("heatmap", None, "payload.output"),
        ("heatmap", floats([[0.0, 1.5]]), "payload.heatmap"),
        ("heatmap", floats([[0.0, np.nan]]), "payload.heatmap"),
        ("heatmap", np.zeros((1, 0, 0), np.float32), "payload.heatmap"),
        ("heatmap", floats([0.5]), "payload.output"),
    ],
)
def test_a_wrong_output_is_named(name: str, value: Any, code: str) -> None:
    with pytest.raises(AnswerWrong) as caught:
        check(replace(ANSWER, outputs={**RIGHT, name: value}), QUESTION)
    assert caught.value.code == code


def test_another_requests_answer_is_wrong() -> None:
    with pytest.raises(AnswerWrong, match=r"payload\.id: 'load-8' came back for 'load-7'"):
        check(replace(ANSWER, id="load-8"), QUESTION)


def test_another_models_answer_is_wrong() -> None:
    with pytest.raises(AnswerWrong, match=r"payload\.model"):
        check(replace(ANSWER, model="digits"), QUESTION)


def test_a_heat_map_that_nobody_asked_for_is_wrong() -> None:
    with pytest.raises(AnswerWrong, match=r"payload\.heatmap"):
        check(ANSWER, replace(QUESTION, explain=False))

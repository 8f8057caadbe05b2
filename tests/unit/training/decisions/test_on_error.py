"""The decision about pictures that fail, from the config to the archive's rule."""

import numpy as np
import pytest
from pydantic import ValidationError

from training.config import DecisionConfig
from training.decisions.thresholds import fit_decision

PROBS, TRUTH = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]]), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(("wanted", "stated"), [("error", None), ("flag", "flag"), ("review", "review")])
def test_the_rule_states_it_unless_it_is_the_error_alone(wanted: str, stated: str | None) -> None:
    config = DecisionConfig(positive=("bad",), on_error=wanted)  # type: ignore[arg-type]
    assert fit_decision(PROBS, TRUTH, ("bad", "good"), config).on_error == stated


def test_by_default_it_is_the_error_alone() -> None:
    assert fit_decision(PROBS, TRUTH, ("bad", "good"), DecisionConfig(positive=("bad",))).on_error is None


def test_nothing_is_flagged_without_positive_labels() -> None:
    assert DecisionConfig(on_error="review").on_error == "review"
    with pytest.raises(ValidationError, match="needs positive labels"):
        DecisionConfig(on_error="flag")

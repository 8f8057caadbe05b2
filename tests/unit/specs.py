"""A spec for tests of the decision rule: everything else in it is as small as may be."""

from collections.abc import Sequence
from typing import Any

from handlers.spec import Decision, Preprocessing, Spec


def make_spec(labels: Sequence[str] = ("a", "b", "c"), **rule: Any) -> Spec:
    """A spec of these labels; `rule`: what its Decision differs by from threshold 0.5 and a cost of 1 for every error."""
    k = len(labels)
    rule = {"threshold": 0.5, "cost": tuple(tuple(float(i != j) for j in range(k)) for i in range(k)), **rule}
    return Spec(
        name="tiny",
        version="1",
        network="small_cnn",
        labels=tuple(labels),
        preprocessing=Preprocessing(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1)),
        feature_map=(128, 1, 1),
        temperature=1.0,
        decision=Decision(**rule),
    )

"""Specs, and a lineage, for tests: everything that a test does not name is as small as may be."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from archives.lineage import Lineage
from handlers.spec import Decision, Preprocessing, Spec


def make_spec(labels: Sequence[str] = ("a", "b", "c"), *, height: int = 8, width: int = 8, **fields: Any) -> Spec:
    """Make a spec of `small_cnn` for these labels and this size in pixels.

    `fields`: other fields of Spec, and fields of its Decision, which has threshold 0.5 and a cost of 1 for every error.
    """
    k = len(labels)
    rule = {name: fields.pop(name) for name in [*fields] if name in Decision.model_fields}
    rule = {"threshold": 0.5, "cost": tuple(tuple(float(i != j) for j in range(k)) for i in range(k)), **rule}
    given = {
        "name": "tiny",
        "version": "1",
        "network": "small_cnn",
        "preprocessing": Preprocessing(height=height, width=width, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        "feature_map": (128, height // 8, width // 8),
        "temperature": 1.0,
        **fields,
    }
    return Spec(labels=tuple(labels), decision=Decision(**rule), **given)


TINY = make_spec(("damaged", "intact"), height=16, width=16, positive=("damaged",))
"""The spec of a network that is trained, exported and archived in a moment."""

LINEAGE = Lineage(
    created=datetime(2026, 1, 2, tzinfo=UTC),
    git_commit="0123abc",
    git_dirty=False,
    archive_git_commit="0123abc",
    archive_git_dirty=False,
    dataset_digest="d" * 64,
    config_digest="c" * 64,
    weights_digest="w" * 64,
    mlflow_run_id="run-7",
    tracking_uri="sqlite:///mlflow.db",
    versions={"torch": "2"},
    metrics={"accuracy": 0.5},
)
"""What an archive says of where it came from."""

"""docs/examples/review_loop.py: how roofs change and which are chosen, against naive code and arithmetic."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from docs.examples import review_loop
from handlers.spec import Spec
from tests.unit.specs import make_spec
from training.data.reviews import REVIEWS
from training.data.roofs.roofs import DAMAGED, INTACT

CONFIG = Path(__file__).parents[2] / "training/configs/roofs-pretrain.yaml"
TINY = {
    "data.count": 160,
    "data.labelled_fraction": 1,
    "backend": "torch",
    "explanation_images": 0,
    "preprocessing.height": 16,
    "preprocessing.width": 16,
    "fit.phases": "[{epochs: 1, learning_rate: 0.002, unfreeze: all}]",
}


def asked(spec: Spec, scores: list[float]) -> review_loop.Asked:
    features = np.arange(len(scores), dtype=np.float32)[:, None]
    return review_loop.Asked(spec, np.array(scores), features, np.ones(len(scores)), ("pass",) * len(scores))


def test_colours_change_by_a_part_of_the_way_to_each_of_the_others() -> None:
    changed = review_loop.changed_colours([(100, 0, 200)], 0.5)
    assert changed == ((76, 48, 175), (81, 60, 135), (125, 30, 155), (148, 88, 135))
    assert review_loop.changed_colours([(100, 0, 200)], 0) == ((100, 0, 200),) * 4
    assert review_loop.changed_colours([(100, 0, 200)], 1) == review_loop.OTHER_COLOURS


def test_the_order_by_cost_begins_at_the_threshold() -> None:
    spec = make_spec()
    even = spec.model_copy(update={"decision": spec.decision.model_copy(update={"threshold": 0.5})})
    scores = asked(even, [0.02, 0.45, 0.99, 0.7, 0.52])
    assert review_loop.by_cost(scores, 3, np.random.default_rng(0)).tolist() == [4, 1, 3]
    dear = dataclasses.replace(
        scores, spec=even.model_copy(update={"decision": even.decision.model_copy(update={"threshold": 0.1})})
    )
    # min(0.9 s, 0.1 (1 - s)): 0.018, 0.055, 0.001, 0.03, 0.048
    assert review_loop.by_cost(dear, 5, np.random.default_rng(0)).tolist() == [1, 4, 3, 0, 2]
    assert sorted(review_loop.by_chance(scores, 5, np.random.default_rng(0)).tolist()) == [0, 1, 2, 3, 4]


def test_differences_have_students_interval() -> None:
    values = np.array([0.01, 0.03, 0.02, 0.04, 0.0])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert review_loop.difference(values) == f"+2.0 points ({100 * low:+.1f} to {100 * high:+.1f})"


def test_the_loop_is_walked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    counts = ["--pool", "24", "--held-out", "20", "--reviews", "8", "--seeds", "0", "--orders", "cost", "nothing"]
    again = ["--set-next", "fit.phases=[{epochs: 1, learning_rate: 0.001, unfreeze: all}]"]
    assert review_loop.main([str(CONFIG), *sets, *again, *counts, "--home", str(tmp_path)]) == 0
    head, _, row, *_ = capsys.readouterr().out.splitlines()
    assert head == "| seed | as drawn | changed | 8 by cost | none |"
    assert len(row.split("|")) == 7
    export = (tmp_path / "seed0-8-cost-export" / REVIEWS).read_text().splitlines()
    assert len(export) == 8
    assert {json.loads(line)["label"] for line in export} <= {DAMAGED, INTACT}
    lineage = {name: json.loads((tmp_path / f"seed0-8-{name}/run.json").read_text()) for name in ("cost", "nothing")}
    first = json.loads((tmp_path / "seed0/run.json").read_text())["weights_digest"]
    assert {run["pretrained"]["weights_digest"] for run in lineage.values()} == {first}
    (reviews,) = lineage["cost"]["reviews"]
    assert reviews["reviewers"] == {"masks": sum(reviews["taken"].values())}
    assert sum(reviews["taken"].values()) + sum(reviews["left_out"].values()) == 8
    assert lineage["nothing"]["reviews"] == []

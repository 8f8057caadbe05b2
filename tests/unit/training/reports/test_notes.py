"""Doubts are said where there are any, with their numbers, and nowhere else."""

import numpy as np
import pytest

from tests.unit.configs import make_config
from tests.unit.specs import make_spec
from training.config import DecisionConfig
from training.data.manifest import Sample
from training.decisions.mix import Mix
from training.decisions.scaling import Beta, Temperature
from training.reports.notes import notes, steps
from visor import cli

EVEN = Mix(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
RARE = Mix(np.array([0.1, 0.9]), np.array([0.5, 0.5]))
GOOD = Temperature(1.0, "converged")
LINE = Beta(np.ones(2), np.zeros(2), "converged")


def samples(split: str, bad: int, fine: int) -> list[Sample]:
    return [
        Sample(f"{label}{n}", 1, "0" * 64, label, split) for label, many in (("bad", bad), ("fine", fine)) for n in range(many)
    ]


def measured(**score) -> dict:
    score = {"nll_before": 0.3, "nll_after": 0.2, "nll_change": -0.1, "nll_change_error": 0.01} | score
    return {"calibration": {"nll_before": 0.5, "nll_after": 0.4, "score": score}}


def written(scaling=GOOD, mixture=EVEN, bad=200, metrics=None, method="temperature", **rule) -> list[str]:
    spec = make_spec(("bad", "fine"), positive=("bad",), **rule)
    wanted = DecisionConfig(positive=("bad",), calibration=method)
    splits = {"calibration": samples("calibration", bad, 200), "test": samples("test", 100, 100)}
    return notes(spec, scaling, mixture, wanted, metrics or measured(), splits)


def test_nothing_is_said_where_nothing_is_doubtful():
    assert written() == []
    assert written(LINE, RARE, method="vector") == []


def test_a_small_split_is_named_with_what_it_can_tell():
    [sentence] = written(bad=10)
    # Wilson's interval of 9 of 10
    assert sentence == (
        "The calibration split is small: it has few images of bad (10). For example, a rate of 90.0% among 10 images has the "
        "interval 59.6% to 98.2% (95 %)."
    )
    assert "nothing is known of a label without images" in " ".join(written(bad=0))


def test_few_images_to_fit_on_are_said():
    assert any("few images of bad (49); slopes" in sentence for sentence in written(LINE, bad=49, method="vector"))
    assert not any("slope" in sentence for sentence in written(LINE, bad=50, method="vector"))


def test_one_temperature_where_the_odds_were_taken_away_is_said():
    [sentence] = written(mixture=RARE)
    assert "Use decision.calibration: auto" in sentence


def test_scaling_that_made_the_likelihood_worse_is_said():
    worse = {"nll_before": 0.3, "nll_after": 0.35, "nll_change": 0.05}
    [sentence] = written(metrics=measured(**worse, nll_change_error=0.01))
    assert "of the probability of bad worse on the test split, from 0.3000 to 0.3500" in sentence
    assert "by 0.0500, standard error 0.0100, more than chance explains" in sentence
    [sentence] = written(metrics=measured(**worse, nll_change_error=0.05))
    assert "which chance alone could explain" in sentence
    metrics = measured()
    metrics["calibration"]["nll_after"] = 0.6
    assert "of all labels' probabilities worse" in written(metrics=metrics)[0]


def test_how_scaling_ended_is_said():
    assert "Platt" in written(Temperature(0.5, "smoothed"))[0]
    assert "no temperature from 0.05 to 20 fits, T = 20.000 is the nearest" in written(Temperature(20.0, "at_bound"))[0]
    bound = Beta(np.array([1.0, 0.05]), np.zeros(2), "at_bound")
    assert "no slope from 0.05 to 20 fits, what was taken is the nearest" in written(bound, RARE, method="vector")[0]


def test_a_stated_mix_is_said():
    [sentence] = written(prevalence=(0.02, 0.98))
    assert "(bad 2.0%, fine 98.0%)" in sentence


def test_the_steps_name_the_run_s_usual_folder_and_what_its_card_lacks():
    config = make_config(name="roofs", card={"owner": "Roof team", "intended_use": "Surveys."})
    told = steps(config, {"accuracy": 0.9, "images": 40})
    assert told[0][0].startswith("Look at the 4 wrong answers")
    assert "card.contact, card.license, card.out_of_scope, card.ethics, card.caveats." in told[1][0]
    assert [command for _, command in told if command] == [
        "visor data report runs/roofs/config.yaml --out runs/roofs/data.html",
        "visor compare runs/roofs --out runs/roofs/compare",
        "visor archive runs/roofs",
        "visor serve roofs",
    ]
    assert steps(config, {"accuracy": 1.0, "images": 40})[0][0].startswith("Say in the config")


@pytest.mark.parametrize("command", ["data report", "compare", "archive", "serve"])
def test_the_steps_are_commands_that_there_are(command):
    said = [line for _, line in steps(make_config(), {"accuracy": 1.0, "images": 1})]
    [line] = [line for line in said if line.startswith(f"visor {command} ")]
    assert cli.parse_args(line.split()[1:])

"""Doubts are said where there are any, with their numbers, and nowhere else."""

import numpy as np
import pytest

from tests.unit.configs import make_config
from tests.unit.specs import make_spec
from training.config import DecisionConfig
from training.data.manifest import Sample
from training.decisions.mix import Mix
from training.decisions.scaling import Beta, Temperature, fit_beta
from training.reports.notes import notes, on_labels, steps
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
    return {"calibration": {"nll_before": 0.5, "nll_after": 0.4, "score": score}, **ranked(bad=(0.9, 100), fine=(0.9, 100))}


def ranked(**labels: tuple[float | None, int]) -> dict:
    """Of each label the AUROC and the test images."""
    rows = {label: {"auroc": auroc, "images": images} for label, (auroc, images) in labels.items()}
    return {"per_class": rows, "images": sum(row["images"] for row in rows.values())}


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
    assert "a rate of 100.0% among 1 image has the interval" in " ".join(written(bad=1))
    assert "nothing is known of a label without images" in " ".join(written(bad=0))


@pytest.mark.parametrize(
    ("bad", "fine", "named"),
    [
        ((0.56, 100), (0.56, 100), "bad (AUROC 0.56, guesses stay below 0.57), fine"),  # 0.5 + 1.645 sqrt(201 / 120,000) = 0.567
        ((0.57, 100), (0.57, 100), None),
        ((0.3, 100), (0.9, 100), "bad (AUROC 0.30,"),  # worse than guessed
        ((0.655, 10), (0.9, 90), "bad (AUROC 0.66, guesses stay below 0.66)"),  # 0.5 + 1.645 sqrt(101 / 10,800) = 0.659
        ((0.56, 2), (0.56, 98), None),  # guesses reach 0.84, of which nothing can be said
        ((None, 0), (None, 100), None),
    ],
)
def test_a_network_that_guesses_is_said_to(bad, fine, named):
    told = [sentence for sentence in written(metrics=measured() | ranked(bad=bad, fine=fine)) if "no better than" in sentence]
    assert len(told) == (named is not None)
    assert all(named in sentence for sentence in told)


def test_guesses_stay_below_what_is_said():
    """Of 4,000 networks that guess, with 20 images of one label and 60 of the other, a twentieth is taken for more."""
    places = np.random.default_rng(0).random((4000, 80)).argsort(axis=1).argsort(axis=1)
    auroc = (places[:, :20].sum(axis=1) - 190) / 1200  # of 1,200 pairs those in which the one label is above the other
    taken = sum(not written(metrics=measured() | ranked(bad=(one, 20), fine=(0.9, 60))) for one in auroc)
    assert taken / 4000 == pytest.approx(0.05, abs=0.011)  # three standard errors


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
    [sentence] = written(Temperature(0.5, "apart"))
    assert "every image of the calibration split, or nearly every one, is classified right. So few errors" in sentence
    assert "T = 0.500 is close to the network's own odds" in sentence
    [sentence] = written(Beta(np.ones(2), np.zeros(2), "apart"), RARE, method="vector")
    assert "those of one label above those of the other, whether or not they are classified right" in sentence
    assert "no temperature from 0.05 to 20 fits, T = 20.000 is the nearest" in written(Temperature(20.0, "at_bound"))[0]
    bound = Beta(np.array([1.0, 0.05]), np.zeros(2), "at_bound")
    assert "no slope from 0.05 to 20 fits, what was taken is the nearest" in written(bound, RARE, method="vector")[0]


def test_images_that_are_ordered_and_not_right_are_scaled_to_one_label_which_is_said():
    """All images of one label above those of the other, and a fifth beyond 0: the limit lies elsewhere than the network's."""
    margin = np.array([*np.linspace(0.5, 2.0, 20), *np.linspace(-0.5, 0.4, 20)])
    logits, truth = np.stack([margin, np.zeros(40)], axis=1), np.repeat([0, 1], 20)
    assert fit_beta(logits, truth, np.zeros(2)).status == "apart"
    probs = np.stack([np.full(40, 0.4), np.full(40, 0.6)], axis=1)
    spec = make_spec(("bad", "fine"))
    share = f"{1 - (margin[20:] > 0).sum() / 40:.1%}"
    [sentence] = on_labels(spec, logits, probs, truth)
    assert "one label alone is answered, fine, and 50.0% of the calibration split are right" in sentence
    assert f"where the network itself has {share}." in sentence
    assert "decision.calibration: temperature, which changes no label" in sentence


@pytest.mark.parametrize(("wrong", "said"), [(0, False), (3, False), (4, True)])
def test_scaling_that_costs_more_than_three_points_is_said(wrong, said):
    truth = np.repeat([0, 1], 50)
    logits = np.eye(2)[truth]
    probs = np.eye(2)[np.where(np.arange(100) < wrong, 1, truth)]
    sentences = on_labels(make_spec(("bad", "fine")), logits, probs, truth)
    assert bool(sentences) is said
    if said:
        assert "are answered: 96.0% of the calibration split are right, where the network itself has 100.0%" in sentences[0]


def test_one_label_that_the_network_answers_by_itself_is_no_doubt_of_scaling():
    truth, one = np.repeat([0, 1], 50), np.tile([[0.0, 1.0]], (100, 1))
    assert on_labels(make_spec(("bad", "fine")), one, one, truth) == []


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

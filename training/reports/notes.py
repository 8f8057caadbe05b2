"""Sentences for a reader of report and card: before the numbers what is doubtful about them, after them what to do next."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from handlers.arrays import Floats, Ints
from handlers.errors import counted
from handlers.spec import Spec
from training import runs
from training.config import Config, DecisionConfig
from training.data.manifest import Sample
from training.decisions.chance import wilson
from training.decisions.mix import Mix
from training.decisions.scaling import FEW, HIGHEST, LOWEST, Beta, Scaling, Temperature
from training.reports.pages import share
from training.reports.plots import score_of

SMALL = 100
"""Number of a label's images below which a split is said to be small."""
NAMED = 5
FALL = 0.03
"""By how much the share of right answers may fall by scaling, on the calibration split, before it is a doubt."""
EXAMPLE = 0.9  # a rate, to show what so few images can tell of it
GUESSED = 0.95
"""The share of guessing networks whose AUROC is below the one that a label's has to reach to be told from chance."""
TOLD = 0.75
"""An AUROC that guessing may reach where a label has so few test images that nothing can be said of it."""


def notes(
    spec: Spec,
    scaling: Scaling,
    mixture: Mix,
    wanted: DecisionConfig,
    metrics: Mapping[str, Any],
    splits: Mapping[str, Sequence[Sample]],
) -> list[str]:
    """Write the notes on what was learnt, on scaling, on the stated mix and on small splits.

    `splits`: the samples of "calibration" and "test".
    """
    calibrating = Counter(sample.label for sample in splits["calibration"])
    few = {label: calibrating[label] for label in spec.labels if calibrating[label] < FEW}
    return [
        *_on_skill(metrics),
        *_on_scaling(scaling, mixture, wanted, few),
        *_on_likelihood(spec, metrics["calibration"]),
        *_on_mix(spec),
        *(sentence for split, samples in splits.items() for sentence in _on_size(split, samples, spec.labels)),
    ]


def on_labels(spec: Spec, logits: Floats, probs: Floats, truth: Ints) -> list[str]:
    """Warn where scaling changes the labels of the calibration split so that FALL fewer are right, or that one is left.

    logits: (N, K), before scaling; probs: (N, K), after it, for the mix of the split; truth: (N,), classes.
    """
    before, after = np.argmax(logits, axis=1), np.argmax(probs, axis=1)
    right, still = int((before == truth).sum()), int((after == truth).sum())
    alone = len(set(after.tolist())) == 1 < min(len(set(before.tolist())), len(set(truth.tolist())))
    if right - still <= FALL * len(truth) and not alone:
        return []
    only = f"one label alone is answered, {spec.labels[int(after[0])]}, and " if alone else ""
    sentence = (
        f"Calibration: scaling changes which labels are answered: {only}{share(still / len(truth))} of the calibration split are "
        f"right, where the network itself has {share(right / len(truth))}. Use decision.calibration: temperature, which changes "
        "no label, or add images to the calibration split; a network that was trained longer has surer answers."
    )
    return [sentence]


def steps(config: Config, metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what to do with a run next: sentences, each with a command or "". Commands are for the run's usual folder, since the
    same run in another one has the same report."""
    folder = Path("runs", config.name)
    missing = [f"card.{key}" for key, value in config.card.model_dump().items() if not value]
    found = []
    if wrong := round((1 - metrics["accuracy"]) * metrics["images"]):
        found.append(
            (f"Look at the {wrong} wrong answers: correct wrong labels, add images of what was mistaken, train again.", "")
        )
    if missing:
        told = ", ".join(missing)
        found.append((f"Say in the config what only people know: {told}. The next training's model card has it.", ""))
    report = f"visor data report {folder / runs.CONFIG} --out {folder / runs.DATA_PAGE}"
    return [
        *found,
        ("Describe the images; this page then links to that one.", report),
        ("Compare this run with the registry's champion.", f"visor compare {folder} --out {folder / 'compare'}"),
        ("Pack and sign what serves it (the pair of keys is made once, by visor keys).", f"visor archive {folder}"),
        ("Serve its newest archive on this machine.", f"visor serve {config.name}"),
    ]


def _on_skill(metrics: Mapping[str, Any]) -> list[str]:
    """Name labels that the network tells from the others no better than guesses do.

    Without skill the AUROC of n images against m is 0.5 with the variance (n + m + 1) / 12 n m, that of Mann's and Whitney's U
    (1947) over (n m)^2; equal scores make it smaller.
    """
    total, guessed = metrics["images"], {}
    for label, row in metrics["per_class"].items():
        n, others = row["images"], total - row["images"]
        if not n or not others:
            continue
        by_chance = 0.5 + float(norm.ppf(GUESSED)) * math.sqrt((total + 1) / (12 * n * others))
        if row["auroc"] < by_chance <= TOLD:
            guessed[label] = f"{label} (AUROC {row['auroc']:.2f}, guesses stay below {by_chance:.2f})"
    if not guessed:
        return []
    named = ", ".join(list(guessed.values())[:NAMED]) + (f" and {len(guessed) - NAMED} more" if len(guessed) > NAMED else "")
    sentence = (
        f"The network tells one label from the others no better than {GUESSED:.0%} of all guesses would: {named}. It has learnt "
        "nothing of that label which this test split shows. Look at the images' labels and at preprocessing, train for more "
        "epochs or from pretrained weights, or add images."
    )
    return [sentence]


def _on_scaling(scaling: Scaling, mixture: Mix, wanted: DecisionConfig, few: Mapping[str, int]) -> list[str]:
    found = f"T = {scaling.value:.3f}" if isinstance(scaling, Temperature) else "what was taken"
    what = "slope" if isinstance(scaling, Beta) else "temperature"
    # What the likelihood grows without end by: a limit between the two labels, or answers nearly all of which are right.
    apart = (
        "scores tell all images of the calibration split apart, those of one label above those of the other, whether or not they "
        "are classified right"
        if isinstance(scaling, Beta)
        else "every image of the calibration split, or nearly every one, is classified right"
    )
    if 0 in few.values() and not isinstance(scaling, Temperature):
        apart = "a label has no image in the calibration split"
    of_status = {
        "apart": (
            f"Calibration: {apart}. So few errors do not say how sure answers may be: {found} is close to the network's own "
            "odds, and only more calibration images can tell whether these are right."
        ),
        "at_bound": (
            f"Calibration: no {what} from {LOWEST:g} to {HIGHEST:g} fits, {found} is the nearest. The network's confidences mean "
            "little: look at its accuracy and train it longer."
        ),
    }
    sentences = [of_status[scaling.status]] if scaling.status in of_status else []
    if wanted.calibration != "temperature" and few:
        sentences.append(
            f"Calibration: the calibration split has few images of {_counted(few)}; slopes, weights and biases stay close to the "
            f"network's own odds until there are {FEW} or more. Give data.splits.calibration a larger share, or add images."
        )
    if wanted.calibration == "temperature" and mixture.moved:
        sentences.append(
            "Calibration: the network was trained as if labels came equally often, which they do not, and one temperature cannot "
            "put that right: its probabilities are not those of images to come. Use decision.calibration: auto."
        )
    return sentences


def _on_likelihood(spec: Spec, calibration: Mapping[str, Any]) -> list[str]:
    score = calibration["score"]
    before, after = score["nll_before"], score["nll_after"]
    if round(after, 4) > round(before, 4):
        change, error = score["nll_change"], score["nll_change_error"]
        known = "more than chance explains" if change > 2 * error else "which chance alone could explain"
        what = f"the {score_of(spec.decision)}"
        doubt = f"by {change:.4f}, standard error {error:.4f}, {known}"
    elif round(calibration["nll_after"], 4) > round(calibration["nll_before"], 4):
        before, after, what = calibration["nll_before"], calibration["nll_after"], "all labels' probabilities"
        doubt = "though not of the score that is thresholded"
    else:
        return []
    sentence = (
        f"Calibration: scaling made the negative log-likelihood of {what} worse on the test split, from {before:.4f} to "
        f"{after:.4f} ({doubt}). The calibration split is small, or its images are unlike those of the test split."
    )
    return [sentence]


def _on_mix(spec: Spec) -> list[str]:
    shares = spec.decision.prevalence
    if shares is None:
        return []
    stated = ", ".join(f"{label} {share(part)}" for label, part in zip(spec.labels, shares, strict=True))
    sentence = (
        f"Probabilities, threshold, review band, costs and calibration are for the mix that decision.prevalence states "
        f"({stated}), not for the test split's own. Accuracy, precision, coverage and outcomes are counted on the test split as "
        "it is."
    )
    if spec.decision.fnr_bound and len(spec.decision.positive) > 1:
        sentence += " The bound on missed images is for positive images in the calibration split's mix of positive labels."
    if spec.prediction_sets:
        sentence += " The coverage of prediction sets is for the calibration split's mix of labels."
    return [sentence]


def _on_size(split: str, samples: Sequence[Sample], labels: Sequence[str]) -> list[str]:
    counts = Counter(sample.label for sample in samples)
    small = {label: counts[label] for label in labels if counts[label] < SMALL}
    if not small:
        return []
    least = min(small.values())
    told = "nothing is known of a label without images"
    if interval := wilson(round(EXAMPLE * least), least):
        found = share(round(EXAMPLE * least) / least)
        sure = f"the interval {share(interval[0])} to {share(interval[1])} (95 %)"
        told = f"a rate of {found} among {counted(least, 'image')} has {sure}"
    return [f"The {split} split is small: it has few images of {_counted(small)}. For example, {told}."]


def _counted(counts: Mapping[str, int]) -> str:
    fewest = sorted(counts.items(), key=lambda item: item[1])
    told = ", ".join(f"{label} ({n})" for label, n in fewest[:NAMED])
    return told + (f" and {len(fewest) - NAMED} more labels" if len(fewest) > NAMED else "")

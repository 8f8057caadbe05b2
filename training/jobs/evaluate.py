"""A run's weights → spec.json, reference.npz, metrics.json, plots and report: calibrate, decide, answer, score.

The calibration split, which nothing else saw, gives the temperature and the decision rule; the test split is then
answered by the code that serves, so that the numbers are those of the answers that people will get.
"""

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handlers import decision, networks
from handlers.backends import TorchBackend
from handlers.predictor import Answer
from handlers.spec import Decision, Spec
from training import calibration, metrics, plots, runs, thresholds
from training.answers import answer_all, classes_of, infer_all, samples_of
from training.calibration import Temperature
from training.cases import galleries, read_mask
from training.config import Config
from training.data.manifest import Manifest, Sample
from training.errors import RunError
from training.report import Picture, render
from training.saliency import PointingGame, points_inside

logger = logging.getLogger(__name__)

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

REFERENCES = 500  # enough for a drift test's quantiles; 500 × 1280 float16 are 1.3 MB
GRID = np.linspace(0.0, 1.0, 1001)


def evaluate(run: Path, config: Config, root: Path, manifest: Manifest) -> dict[str, Any]:
    """Calibrate and score a run whose weights are fitted, and return what metrics.json holds. `root`: the data set's.

    The same weights, images and config give the same bytes in every file. Raises RunError, ConfigError, DataError.
    """
    torch.set_num_threads(config.fit.threads)
    calibration_split, test_split = samples_of(manifest, "calibration"), samples_of(manifest, "test")
    if not (run / runs.WEIGHTS).is_file():
        raise RunError(f"{run} has no {runs.WEIGHTS}; give the same `visor train` command again")
    model = networks.build(config.model.network, len(manifest.labels))
    feature_map = networks.map_size(model, config.preprocessing.height, config.preprocessing.width)

    def specify(temperature: float, rule: Decision) -> Spec:
        return Spec(
            name=config.name,
            version="1",  # the archive stamps its own
            network=config.model.network,
            labels=manifest.labels,
            preprocessing=config.preprocessing,
            feature_map=feature_map,
            temperature=temperature,
            decision=rule,
            limits=config.limits,
        )

    costs = thresholds.cost_matrix(manifest.labels, config.decision)
    spec = specify(1.0, Decision(threshold=0.5, cost=tuple(tuple(row) for row in costs.tolist())))  # until it is fitted
    backend = TorchBackend(run, spec)

    logits, features = infer_all(calibration_split, spec, backend, root, "calibrating")  # (N, K), (N, C)
    if not np.isfinite(logits).all():
        raise RunError(f"{run / runs.WEIGHTS} answers with NaN or infinity: the fit diverged; lower fit.phases learning_rate")
    truth = classes_of(calibration_split, manifest.labels)
    temperature = calibration.fit_temperature(logits, truth)
    probs = decision.probabilities(logits, temperature.value)
    spec = specify(temperature.value, thresholds.fit_decision(probs, truth, manifest.labels, config.decision))

    test_truth = classes_of(test_split, manifest.labels)
    test_logits, answers = answer_all(test_split, spec, backend, root, "testing")
    test_probs = np.stack([answer.probabilities for answer in answers])
    game = _pointing_game(test_split, answers, spec, root, config.pointing_tolerance)
    outcomes = [answer.decision for answer in answers]
    results = metrics.evaluate(test_logits, test_probs, outcomes, test_truth, spec, temperature, game)

    drawn = _draw(results, spec, test_logits, {"calibration": (probs, truth), "test": (test_probs, test_truth)})
    notes = _notes(temperature)
    for note in notes:
        logger.warning(note)
    lineage = {
        "dataset digest": manifest.digest,
        "config digest": config.digest,
        "weights digest": runs.sha256(run / runs.WEIGHTS),
    }
    shown = galleries(test_split, answers, test_truth, spec, root)
    files = {
        runs.SPEC: (spec.model_dump_json(indent=2) + "\n").encode(),
        runs.REFERENCE: _reference(features, probs, truth),
        runs.PREDICTIONS: _predictions(test_split, test_logits, test_truth),
        **{f"{runs.PLOTS}/{name}.png": picture.data for name, picture in drawn.items()},
        runs.REPORT: render(spec, results, list(drawn.values()), shown, lineage, notes).encode(),
        runs.METRICS: (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    (run / runs.PLOTS).mkdir(exist_ok=True)
    for name, data in files.items():
        with runs.replacing(run / name) as temporary:
            temporary.write_bytes(data)
    return results


def evaluate_run(run: Path) -> dict[str, Any]:
    """Evaluate a run's folder again, by its own config, manifest and data set. Raises RunError, DataError."""
    config, record = runs.read_config(run), runs.read_record(run)
    return evaluate(run, config, record.dataset_root, Manifest.read(run / runs.MANIFEST))


def _pointing_game(
    samples: Sequence[Sample], answers: Sequence[Answer], spec: Spec, root: Path, tolerance: float
) -> PointingGame | None:
    """Over all images whose mask shows something, with the heat maps as they are served: a missed image's map counts too."""
    hits = []
    for sample, answer in zip(samples, answers, strict=True):
        mask = read_mask(sample, spec, root)
        if mask is not None and mask.any() and answer.heatmap is not None:
            hits.append(points_inside(answer.heatmap, mask, tolerance))
    return PointingGame(sum(hits), len(hits), tolerance) if hits else None


def _draw(
    results: dict[str, Any], spec: Spec, test_logits: Float32, splits: dict[str, tuple[Float32, Int64]]
) -> dict[str, Picture]:
    """The plots by file name. splits: (N, K) probabilities and (N,) classes of calibration and test."""
    rule, positive, cost = spec.decision, spec.positive_index, np.array(spec.decision.cost)
    probs, truth = splits["test"]
    curves = {
        f"{split} split": thresholds.cost_curve(
            decision.scores(p, spec), *thresholds.side_costs(p, t, positive, cost, rule.review_cost), GRID
        )
        for split, (p, t) in splits.items()
    }
    sides = {" or ".join(rule.positive): (np.isin(truth, positive), decision.scores(probs, spec))}
    if not positive:
        sides = {label: (truth == k, probs[:, k].astype(np.float64)) for k, label in enumerate(spec.labels)}
    before = calibration.reliability(decision.probabilities(test_logits, 1.0), truth)
    ece = "expected calibration error {ece_before:.3f} before and {ece_after:.3f} after".format(**results["calibration"])
    return {
        "confusion_matrix": Picture(
            plots.confusion(np.array(results["confusion"]), spec.labels),
            f"Confusion matrix of the test split; {results['accuracy']:.1%} lie on its diagonal",
        ),
        "reliability": Picture(
            plots.reliability(before, calibration.reliability(probs, truth)),
            f"Reliability diagram before and after temperature scaling: {ece}",
        ),
        "precision_recall": Picture(
            plots.precision_recall(sides, rule.threshold if positive else None), "Precision against recall on the test split"
        ),
        "threshold_cost": Picture(
            plots.threshold_cost(GRID, curves, rule, thresholds.bayes_threshold(cost, positive, rule.review_cost)),
            f"Mean cost of an image against the threshold; {rule.threshold:.3f} was chosen",
        ),
    }


def _notes(temperature: Temperature) -> list[str]:
    """What a reader must know before the numbers."""
    t = f"T = {temperature.value:.3f}"
    notes = {
        "smoothed": "Calibration: the likelihood wants ever surer answers, as it does where every image of the calibration split "
        f"is classified right; {t} comes from Platt's smoothed targets. More images make it firmer.",
        "at_bound": f"Calibration: no temperature from {calibration.LOWEST:g} to {calibration.HIGHEST:g} fits, {t} is the "
        "nearest. The network's confidences mean little: look at its accuracy and train it longer.",
    }
    return [notes[temperature.status]] if temperature.status in notes else []


def _predictions(samples: Sequence[Sample], logits: Float32, truth: Int64) -> bytes:
    """predictions.npz: the test split's paths (N,), raw logits (N, K) and true classes (N,)."""
    buffer = io.BytesIO()
    np.savez(buffer, test_paths=np.array([sample.path for sample in samples]), test_logits=logits, test_truth=truth)
    return buffer.getvalue()


def _reference(features: Float32, probs: Float32, truth: Int64) -> bytes:
    """reference.npz: at most REFERENCES images of the calibration split, evenly spaced, because paths sort by class."""
    rows = np.unique(np.linspace(0, len(truth) - 1, min(REFERENCES, len(truth))).round().astype(int))
    buffer = io.BytesIO()
    np.savez(buffer, features=features[rows].astype(np.float16), probabilities=probs[rows], labels=truth[rows])
    return buffer.getvalue()

"""A run's weights → spec.json, metrics.json, plots, report, model card: export, calibrate, decide, answer, score.

First the backend is chosen that will serve. Its answers to the calibration split, which nothing else saw, give the
scaling and the decision rule; the test split is then answered by it and by the code that serves, so that the numbers are
those of the answers that people will get.
"""

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archives.contents import SPEC
from archives.files import replacing, sha256
from archives.lineage import Reviews
from handlers import decision, networks
from handlers.arrays import Float32, Int64, UInt8
from handlers.backends import Backend, load_backend
from handlers.errors import counted
from handlers.predictor import Answer
from handlers.spec import Decision, Spec
from training import runs
from training.config import BackendChoice, Config, DecisionConfig
from training.data import derived
from training.data.manifest import Manifest, Sample
from training.data.pixels import Pictures
from training.decisions import chance, conformal, mix, selective, subgroups, thresholds
from training.decisions.scaling import Scaling, fit
from training.errors import RunError
from training.evaluation import metrics
from training.evaluation.answers import answer_all, classes_of, infer_all, samples_of, spread
from training.evaluation.heatmap_quality import against_masks, measure
from training.jobs import reference as references
from training.jobs.export import check_finite, export
from training.jobs.fresh import settle
from training.reports import leaks as known
from training.reports import links, model_card, plots
from training.reports.evaluation import render
from training.reports.galleries import show
from training.reports.notes import notes as write_notes
from training.reports.notes import on_labels, steps
from training.reports.pages import Picture

logger = logging.getLogger(__name__)


GRID = np.linspace(0.0, 1.0, 1001)


@dataclass(frozen=True)
class _Split:
    """A split's answers. logits: (N, K), raw; probs: (N, K), calibrated; truth: (N,), classes."""

    samples: Sequence[Sample]
    logits: Float32
    probs: Float32
    truth: Int64

    @property
    def answered(self) -> subgroups.Answered:
        """The answers as `training.decisions.subgroups` takes them."""
        return subgroups.Answered(self.samples, self.probs, self.truth)


def evaluate(
    run: Path,
    config: Config,
    root: Path,
    manifest: Manifest,
    pixels: UInt8 | None = None,
    choice: BackendChoice | None = None,
    leaks: runs.Leaks | None = None,
) -> dict[str, Any]:
    """Choose what serves a run whose weights are fitted, calibrate and score it, and return what metrics.json holds.

    `root`: the data set's; `pixels`: its cache, where there is one; `choice`: in the place of the config's `backend`;
    `leaks`: as the run's record has them. The same weights, images and config give the same bytes in every file. Raises RunError,
    ConfigError, DataError, ParityFailed.
    """
    torch.set_num_threads(config.fit.threads)
    samples, test_samples = samples_of(manifest, "calibration"), samples_of(manifest, "test")
    mixture = mix.of_training(config, manifest)
    wanted = mix.settled(config.decision, mixture)
    check(manifest, wanted)
    if not (run / runs.WEIGHTS).is_file():
        raise RunError(f"{run} has no {runs.WEIGHTS}; {runs.AGAIN}")
    pictures, spec = Pictures(root, manifest, pixels), _undecided(config, manifest.labels)
    logger.info("exporting the network, and comparing what it answers")
    exports = export(run, spec, pictures, choice or config.backend)
    spec = spec.model_copy(update={"backend": exports.backend})
    backend = load_backend(run, spec)

    logger.info("calibrating on %s", counted(len(samples), "image"))
    logits, features = infer_all(samples, spec, backend, pictures, "calibrating")  # (N, K), (N, C)
    check_finite(logits, run, spec.backend)
    truth = classes_of(samples, manifest.labels)
    undecided = spec
    spec, scaling = _decide(undecided, wanted, mixture, samples, logits, truth)
    calibrating = _Split(samples, logits, decision.calibrated(logits, spec), truth)
    spec, left_out = _decide_groups(spec, wanted, calibrating)

    logger.info("testing on %s, and writing the report", counted(len(test_samples), "image"))
    test_logits, answers = answer_all(test_samples, spec, backend, root, "testing")
    test_probs = np.stack([answer.probabilities for answer in answers])
    test = _Split(test_samples, test_logits, test_probs, classes_of(test_samples, manifest.labels))
    results = _score(
        run, config.model_copy(update={"decision": wanted}), root, spec, backend, scaling, calibrating, test, answers
    )
    calibrated_on = references.Calibrating(samples, calibrating.probs, truth, features)
    reference = references.fit(spec, backend, pictures, calibrated_on)
    results["drift"] = reference.summary
    results["leaks"] = known.count(manifest, leaks)
    unmoved = spec
    if wanted.prevalence is not None:
        as_it_was = wanted.model_copy(update={"prevalence": None})
        unmoved, _ = _decide(undecided, as_it_was, mixture, samples, logits, truth)
        results["prevalence"] = metrics.prevalence(spec, unmoved, test_logits, test.truth)

    by_split = {split: manifest.samples_of(split) for split in ("calibration", "test")}
    noted = write_notes(spec, scaling, mixture, wanted, results, by_split)
    noted += on_labels(spec, logits, decision.calibrated(logits, unmoved), truth)
    notes = [*known.notes(results["leaks"]), *noted, *reference.notes, *left_out, *_warnings(results, spec)]
    for note in notes:
        logger.warning(note)
    lineage = {
        "answers by": _describe(exports),
        "dataset digest": manifest.digest,
        "config digest": config.digest,
        "weights digest": sha256(run / runs.WEIGHTS),
    }
    if reviews := derived.read_reviews(root):
        lineage["reviews"] = _describe_reviews(reviews)
    drawn = _draw(run, results, spec, {"calibration": calibrating, "test": test})
    shown = show(test_samples, answers, test.truth, spec, root)
    card = model_card.sections(spec, results, config, manifest, lineage, notes)
    files = {
        SPEC: (spec.model_dump_json(indent=2) + "\n").encode(),
        runs.REFERENCE: references.file(calibrated_on, reference.reference),
        runs.REFERENCE_ROWS: json.dumps([sample.sha256 for sample in spread(samples, references.ROWS)], indent=1).encode(),
        runs.PREDICTIONS: _predictions({"calibration": calibrating, "test": test}),
        **{f"{runs.PLOTS}/{name}.png": picture.data for name, picture in drawn.items()},
        runs.REPORT: render(spec, results, drawn, shown, lineage, notes, steps(config, results)).encode(),
        runs.CARD: model_card.markdown(config.name, card).encode(),
        runs.CARD_PAGE: model_card.html(config.name, card, manifest.digest).encode(),
        runs.METRICS: (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode(),
    }
    (run / runs.PLOTS).mkdir(exist_ok=True)
    (run / runs.EXPORTS).unlink(missing_ok=True)  # written last: it says that all of these are of one backend
    (run / runs.REFERENCE_ROWS).unlink(missing_ok=True)  # of the old reference.npz
    for name, data in files.items():
        with replacing(run / name) as temporary:
            temporary.write_bytes(data)
    links.refresh(run)
    runs.write_exports(run, exports)
    for name in {name for files in runs.GRAPHS.values() for name in files} - set(runs.GRAPHS[exports.backend]):
        (run / name).unlink(missing_ok=True)  # of another backend, on which nothing was fitted
    return results


def check(manifest: Manifest, wanted: DecisionConfig) -> None:
    """Check before an image is read that the decision fits labels, splits and subgroups. Raises ConfigError, DataError."""
    thresholds.check(manifest.samples_of("calibration"), manifest.labels, wanted)
    _groups(wanted, [*manifest.samples_of("calibration"), *manifest.samples_of("test")])


def evaluate_run(run: Path, choice: BackendChoice | None = None) -> dict[str, Any]:
    """Evaluate a run's folder again, by its own config, manifest and data set, on the backend that serves it.

    `choice`: another backend. Raises RunError, DataError, ParityFailed.
    """
    settle(run)
    config, record, exports = runs.read_config(run), runs.read_record(run), runs.read_exports(run)
    choice = choice or (exports.choice if exports else None)
    return evaluate(run, config, record.dataset_root, Manifest.read(run / runs.MANIFEST), choice=choice, leaks=record.leaks)


def _undecided(config: Config, labels: tuple[str, ...]) -> Spec:
    """The spec before anything is calibrated. Raises ConfigError."""
    costs = thresholds.cost_matrix(labels, config.decision)
    model = networks.build(config.model.network, len(labels))
    return Spec(
        name=config.name,
        version="1",  # the archive stamps its own
        network=config.model.network,
        labels=labels,
        preprocessing=config.preprocessing,
        feature_map=networks.map_size(model, config.preprocessing.height, config.preprocessing.width),
        temperature=1.0,
        decision=Decision(threshold=0.5, cost=tuple(tuple(row) for row in costs.tolist())),
        limits=config.limits,
    )


def _decide(
    spec: Spec, wanted: DecisionConfig, mixture: mix.Mix, samples: Sequence[Sample], logits: Float32, truth: Int64
) -> tuple[Spec, Scaling]:
    """The spec with scaling, rule and sets, from the calibration split. logits: (N, K); truth: (N,). Raises DataError.

    `wanted` is as `mix.settled`.
    """
    scaled_on, bound_by = conformal.parts([sample.group or sample.path for sample in samples], len(spec.labels), wanted)
    scaling = fit(logits[scaled_on], truth[scaled_on], wanted.calibration, mixture.shift)
    if (to_come := mix.to_come(spec.labels, wanted)) is not None:
        scaling = scaling.moved(mix.between(mix.shares_of(truth[scaled_on], spec.labels), to_come))
    spec = spec.model_copy(update=scaling.fields)
    probs = decision.calibrated(logits, spec)
    groups = chance.only(conformal.groups_of(samples), bound_by)
    bound = sets = None
    if wanted.max_fnr is not None:
        positive = [k for k, label in enumerate(spec.labels) if label in wanted.positive]
        bound = conformal.bound_fnr(probs[bound_by], truth[bound_by], positive, wanted.max_fnr, wanted.max_fnr_confidence, groups)
    if wanted.set_coverage is not None:
        sets = conformal.fit_sets(probs[bound_by], truth[bound_by], wanted.set_coverage, wanted.set_method, groups)
    rule = thresholds.fit_decision(probs, truth, spec.labels, wanted, bound)
    return spec.model_copy(update={"decision": rule, "prediction_sets": sets}), scaling


def _describe(exports: runs.Exports) -> str:
    """What answers, and which images it was made of."""
    parity = exports.parity.get(exports.backend)
    seen = parity.quantisation_images if parity else None
    return exports.backend if seen is None else f"{exports.backend}, quantised by {counted(seen, 'image')} of the training split"


def _describe_reviews(reviews: Sequence[Reviews]) -> str:
    """How many pictures of the data set people have labelled."""
    taken = sum(sum(one.taken.values()) for one in reviews)
    people = {name for one in reviews for name in one.reviewers}
    return f"{counted(taken, 'picture')} labelled by {counted(len(people), 'reviewer')}"


def _decide_groups(spec: Spec, wanted: DecisionConfig, calibrating: _Split) -> tuple[Spec, list[str]]:
    """The spec with the thresholds of subgroups, where they are asked for, and a sentence for each group that has none."""
    if not (wanted.subgroups and wanted.subgroups.thresholds):
        return spec, []
    found, left_out = subgroups.fit_groups(_groups(wanted, calibrating.samples), calibrating.answered, spec.labels, wanted)
    return spec.model_copy(update={"decision": spec.decision.model_copy(update={"groups": found or None})}), left_out


def _groups(wanted: DecisionConfig, samples: Sequence[Sample]) -> dict[str, dict[str, str]]:
    if not wanted.subgroups:
        return {}
    groups = subgroups.read(wanted.subgroups.metadata, wanted.subgroups.columns, samples)
    if wanted.subgroups.thresholds:
        subgroups.check_names(groups)
    return groups


def _score(
    run: Path,
    config: Config,
    root: Path,
    spec: Spec,
    backend: Backend,
    scaling: Scaling,
    calibrating: _Split,
    test: _Split,
    answers: Sequence[Answer],
) -> dict[str, Any]:
    """What metrics.json holds. `config`: its decision is as `mix.settled`. Raises DataError."""
    game, energy = against_masks(test.samples, answers, spec, root, config.pointing_tolerance)
    outcomes = [answer.decision for answer in answers]
    results = metrics.evaluate(test.logits, test.probs, outcomes, test.truth, spec, scaling, game, test.answered.together)
    quality = measure(run, test.samples, answers, spec, backend, root, config.explanation_images, config.pointing_tolerance)
    if quality and energy:
        quality |= {"energy_inside_mask": energy["energy"], "mask_share": energy["chance"]}
    groups = _groups(config.decision, [*calibrating.samples, *test.samples])
    by_group = None
    if groups:
        bounding = subgroups.bounding(calibrating.answered, spec.labels, config.decision)
        by_group = subgroups.by_group(groups, test.answered, bounding, spec)
    results |= dict(metrics.plain({"subgroups": by_group, "explanations": quality}))
    return {"backend": spec.backend, **results}


def _draw(run: Path, results: dict[str, Any], spec: Spec, splits: dict[str, _Split]) -> dict[str, Picture]:
    """The plots by file name."""
    rule, positive, cost = spec.decision, spec.positive_index, np.array(spec.decision.cost)
    test = splits["test"]
    curves = {
        f"{name} split": thresholds.cost_curve(
            decision.scores(split.probs, spec),
            *thresholds.side_costs(split.probs, split.truth, positive, cost, rule.review_cost),
            GRID,
            mix.weights(split.truth, rule.prevalence),
        )
        for name, split in splits.items()
    }
    sides = {" or ".join(rule.positive): (np.isin(test.truth, positive), decision.scores(test.probs, spec))}
    if not positive:
        sides = {label: (test.truth == k, test.probs[:, k].astype(np.float64)) for k, label in enumerate(spec.labels)}
    before, after = (
        metrics.score_reliability(probs, test.truth, spec) for probs in (decision.probabilities(test.logits, 1.0), test.probs)
    )
    error = "calibration error {error_before:.3f} before and {error_after:.3f} after".format(**results["calibration"]["score"])
    certainty, wrong = metrics.doubts(test.probs, test.truth, spec)
    curve = selective.risk_coverage(certainty, wrong)
    answered = ~np.array([outcome == "review" for outcome in decision.decide(decision.scores(test.probs, spec), spec)])
    drawn = {
        "confusion_matrix": Picture(
            plots.confusion(np.array(results["confusion"]), spec.labels),
            f"Confusion matrix of the test split; {results['accuracy']:.1%} lie on its diagonal",
        ),
        "reliability": Picture(
            plots.reliability(before, after, plots.score_of(rule)),
            f"Reliability diagram of the score before and after scaling, with counts: {error}",
        ),
        "precision_recall": Picture(
            plots.precision_recall(sides, rule.threshold if positive else None), "Precision against recall on the test split"
        ),
        "roc": Picture(plots.roc(sides, rule.threshold if positive else None), "True against false positives on the test split"),
        "risk_coverage": Picture(
            plots.risk_coverage(
                curve, selective.least(wrong), float(answered.mean()), float(wrong[answered].mean()) if answered.any() else None
            ),
            f"Error rate among the surest answers of the test split; AURC {curve.aurc:.4f}",
        ),
        "threshold_cost": Picture(
            plots.threshold_cost(
                GRID, curves, rule, metrics.band_of(spec), thresholds.bayes_threshold(cost, positive, rule.review_cost)
            ),
            f"Mean cost of an image against the threshold; {rule.threshold:.3f} was chosen",
        ),
    }
    if history := runs.read_history(run):
        drawn["learning_curves"] = Picture(
            plots.learning_curves(history), f"Loss and accuracy of training and validation over {counted(len(history), 'epoch')}"
        )
    return drawn


def _warnings(results: dict[str, Any], spec: Spec) -> list[str]:
    bound = spec.decision.fnr_bound
    return subgroups.warnings(results["subgroups"] or {}, bound.level) if bound else []


def _predictions(splits: dict[str, _Split]) -> bytes:
    """predictions.npz: paths (N,), raw logits (N, K) and true classes (N,) of both splits, from which all else follows.

    Where images come in groups, theirs, (N,), too.
    """
    arrays: dict[str, Any] = {}
    for name, split in splits.items():
        paths = np.array([sample.path for sample in split.samples])
        arrays |= {f"{name}_paths": paths, f"{name}_logits": split.logits, f"{name}_truth": split.truth}
        if groups := conformal.groups_of(split.samples):
            arrays[f"{name}_groups"] = np.array(groups)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()

"""The sealed split is opened: the run that was chosen answers images that neither a fit nor a choice has seen."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from handlers import decision
from handlers.backends import load_backend
from training import runs
from training.data.manifest import Manifest, Sample
from training.data.pixels import Pictures
from training.decisions import conformal
from training.errors import CompareError
from training.evaluation.answers import classes_of, infer_all
from training.fitting.torch_setup import deterministic
from training.selection import comparison
from training.selection.comparison import Candidate, Comparison, Sealed


def open_sealed(found: Comparison) -> Sealed:
    """Answer the sealed split with the backend that the chosen run serves, and write what came out into its SEALED file.

    Figures of the test split flatter the run that was chosen by them; those of the sealed split do not, the first time.
    Raises CompareError (nothing chosen, no folder or no such split), RunError, DataError (images that are gone or changed).
    """
    chosen = next((row.candidate for row in found.rows if row.candidate.name == found.chosen), None)
    if chosen is None:
        raise CompareError("no run keeps the rule's bounds, so there is none to open the sealed split for")
    if chosen.folder is None:
        raise CompareError(f"{chosen.name} is known from MLflow alone; name the run's folder, which has its weights and manifest")
    manifest, record = Manifest.read(chosen.folder / runs.MANIFEST), runs.read_record(chosen.folder)
    samples = manifest.samples_of("sealed")
    if not samples:
        raise CompareError(f"{chosen.name} was trained without a sealed split; set data.splits.sealed before a training")
    answered = answer(chosen, chosen.folder, samples, Pictures(record.dataset_root, manifest), "opening the sealed split")
    drawn = comparison.resamples(len(samples), found.resamples, found.seed, answered.groups)
    before = tuple(row.candidate.name for row in found.rows if row.candidate is not chosen and _opened(row.candidate.folder))
    sealed = Sealed(comparison.intervals(answered, drawn), len(samples), chosen.spec.backend, before)
    runs.write_json(chosen.folder / runs.SEALED, _to_json(sealed, found, record))
    return sealed


def answer(one: Candidate, folder: Path, samples: Sequence[Sample], pictures: Pictures, what: str) -> Candidate:
    """Have a run, which lies in `folder`, answer these images with the backend that it serves. `what`: names the progress bar.

    Raises DataError for images that are gone or changed.
    """
    with deterministic(threads=1):
        logits, _ = infer_all(samples, one.spec, load_backend(folder, one.spec), pictures, what)
    groups = conformal.groups_of(samples)
    return replace(
        one,
        paths=tuple(sample.path for sample in samples),
        truth=classes_of(samples, one.spec.labels),
        probabilities=decision.calibrated(logits, one.spec),
        groups=tuple(groups) if groups else None,
    )


def _opened(folder: Path | None) -> bool:
    return folder is not None and (folder / runs.SEALED).is_file()


def _to_json(sealed: Sealed, found: Comparison, record: runs.Record) -> dict[str, Any]:
    figures = {name: [figure.value, figure.low, figure.high] for name, figure in sealed.figures.items()}
    return {
        "images": sealed.images,
        "backend": sealed.backend,
        "dataset_digest": record.dataset_digest,
        "weights_digest": record.weights_digest,
        "rule": found.rule.describe(),
        "among": [row.candidate.run_id for row in found.rows],
        "opened_before_for": list(sealed.before),
        "figures": json.loads(json.dumps(figures).replace("NaN", "null")),
    }

"""Runs to be compared, read from their folders or from MLflow, and what their archives are: sizes and latencies."""

import io
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import binom

from archives import store
from archives.contents import SPEC, Contents, read
from archives.opening import opened
from handlers import decision
from handlers.arrays import Floats
from handlers.backends import load_backend
from handlers.errors import ArchiveBroken, VisorError
from handlers.predictor import Item, predict
from handlers.spec import Spec
from training import runs
from training.errors import RunError
from training.fitting.torch_setup import deterministic
from training.names import flatten
from training.selection.comparison import Archive, Candidate
from training.tracking import MODEL, Tracker

WARM_UP, CALLS = 3, 30


def from_folder(run: Path) -> Candidate:
    """Read a candidate from a run's folder. Raises RunError."""
    record, _ = runs.read_finished(run)
    parameters = {name: str(value) for name, value in flatten(runs.read_config(run).model_dump(mode="json"))}
    found = _candidate(str(run), record.mlflow_run_id, Spec.read(run / SPEC), run / runs.PREDICTIONS, parameters)
    return replace(found, folder=run)


def from_mlflow(tracker: Tracker, run_id: str, scratch: Path) -> Candidate:
    """Read a candidate from the tracking store, its files fetched into `scratch`. Raises RunError."""
    name, parameters = tracker.describe(run_id)
    spec = tracker.fetch(run_id, f"{MODEL}/{SPEC}", scratch)
    return _candidate(name, run_id, Spec.read(spec), tracker.fetch(run_id, runs.PREDICTIONS, scratch), parameters)


def _candidate(name: str, run_id: str, spec: Spec, predictions: Path, parameters: dict[str, str]) -> Candidate:
    try:
        with np.load(predictions) as file:
            paths, logits, truth = (file[f"test_{part}"] for part in ("paths", "logits", "truth"))
            groups = file.get("test_groups")  # where images come in groups; files before 0.3 have none
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        raise RunError(
            f"{name} has no {runs.PREDICTIONS} to compare ({err}); `visor evaluate` its folder and train it anew"
        ) from err
    order = np.argsort(paths)
    probabilities = decision.calibrated(logits[order], spec)
    together = None if groups is None else tuple(groups[order].tolist())
    return Candidate(name, run_id, spec, tuple(paths[order].tolist()), truth[order], probabilities, parameters, groups=together)


def with_archives(candidates: Sequence[Candidate], model_store: Path, public_key: Path) -> list[Candidate]:
    """Add to the candidates what their newest archives in the store are. Raises ArchiveRefused, ArchiveBroken."""
    found: dict[str, Contents] = {}
    for name in sorted({candidate.spec.name for candidate in candidates}):
        for version in store.versions(model_store, name):
            contents = read(store.path_of(model_store, name, version))
            found[contents.lineage.mlflow_run_id] = contents
    return [
        replace(one, archive=_measure(found[one.run_id].path, public_key)) if one.run_id in found else one for one in candidates
    ]


def _measure(path: Path, public_key: Path) -> Archive:
    """Size, and the latency of the backend that serves: the one whose answers are compared."""
    with opened(path, public_key) as archive, archive.unpacked() as folder:
        spec = archive.spec
        taken = latencies_ms(folder, spec)
        latencies: dict[str, float] = {spec.backend: float(np.median(taken))}
        size = archive.path.stat().st_size
        return Archive(archive.digest, spec.version, size, spec.backend, latencies, {spec.backend: median_limits(taken)})


def median_limits(values: Floats) -> tuple[float, float]:
    """Compute the interval of 95 % of a median by order statistics (David, Nagaraja 2003, section 7.1). values: (N,)."""
    beyond = int(binom.ppf(0.025, len(values), 0.5)) - 1  # P(Bin(N, 1/2) <= beyond) < 2.5 %
    ordered = np.sort(values)
    return float(ordered[max(0, beyond)]), float(ordered[min(len(values) - 1, len(values) - 1 - beyond)])


def latencies_ms(folder: Path, spec: Spec) -> Floats:
    """Measure CALLS times the milliseconds from an encoded JPEG of the network's size to its answer, one thread, as a worker."""
    size = (spec.preprocessing.height, spec.preprocessing.width, 3)
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)).save(picture, "JPEG")
    item, taken = Item(picture.getvalue()), []
    with deterministic(threads=1):
        backend = load_backend(folder, spec)
        for _ in range(WARM_UP + CALLS):
            begun = time.perf_counter()
            [answer] = predict([item], spec, backend)
            taken.append(time.perf_counter() - begun)
    if isinstance(answer, VisorError):
        raise ArchiveBroken(f"{spec.name} cannot answer a JPEG of its own size: {answer}")
    return np.array(taken[WARM_UP:]) * 1e3

"""A run's weights → what serves them: an export in the run's folder, chosen by parity with torch on the validation split.

Nothing is decided before: the decision is fitted on the answers of what is chosen here.
"""

import logging
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from archives.files import sha256
from archives.lineage import Parity
from handlers.arrays import Float32, UInt8
from handlers.backends import TorchBackend
from handlers.spec import BackendName, Spec
from training import runs
from training.config import BackendChoice
from training.data.manifest import Sample, Split
from training.data.pixels import Pictures
from training.errors import ConfigError, ParityFailed, RunError
from training.evaluation.answers import classes_of, samples_of, spread

logger = logging.getLogger(__name__)

CANDIDATES: dict[BackendChoice, tuple[BackendName, ...]] = {
    "auto": ("openvino-int8", "openvino"),
    "openvino-int8": ("openvino-int8",),
    "openvino": ("openvino",),
    "torch": (),
}
"""What each choice exports, the fastest first; the first that answers as torch does serves."""
NEEDS: dict[BackendName, tuple[str, ...]] = {"openvino-int8": ("openvino", "nncf"), "openvino": ("openvino",), "torch": ()}
"""Packages that make each export."""


def check_installed(choice: BackendChoice) -> None:
    """Check before anything is fitted that a backend asked for by its name can be exported to. Raises ConfigError."""
    if choice != "auto" and (missing := _missing(choice)):
        raise ConfigError(
            f"backend {choice} needs {missing}, which is not installed; install visor[train], or take backend: auto"
        )


def export(run: Path, spec: Spec, pictures: Pictures, choice: BackendChoice) -> runs.Exports:
    """Choose what serves the run, leave its graph in the run's folder, and say how it was chosen. `spec`: undecided.

    What an earlier call chose of the same weights is kept. Raises ParityFailed (a backend asked for by its name), ConfigError,
    RunError (weights that answer with NaN), DataError.
    """
    digest, kept = sha256(run / runs.WEIGHTS), runs.read_exports(run)
    if kept and kept.weights_digest == digest and choice in (kept.choice, kept.backend) and _is_there(run, kept.backend):
        return kept
    check_installed(choice)
    wanted: list[BackendName] = []
    for name in CANDIDATES[choice]:
        if missing := _missing(name):
            logger.warning("%s is left out, as %s is not installed", name, missing)
        else:
            wanted.append(name)
    if not wanted:
        return runs.Exports(weights_digest=digest, choice=choice, backend="torch")
    return _choose(run, spec, pictures, runs.Exports(weights_digest=digest, choice=choice, backend="torch"), wanted)


def _choose(run: Path, spec: Spec, pictures: Pictures, exports: runs.Exports, wanted: list[BackendName]) -> runs.Exports:
    """Export in this order, up to the first that answers as torch does."""
    # Imported here: OpenVINO and NNCF take seconds to load, and may not be installed where torch serves.
    from training.fitting.torch_setup import deterministic
    from training.packing import export as exporting
    from training.packing import parity

    def read(split: Split, count: int) -> tuple[list[Sample], list[UInt8]]:
        samples = spread(samples_of(pictures.manifest, split), count)
        return samples, list(pictures.of(samples, spec.preprocessing, spec.limits, f"reading the {split} split"))

    found: dict[BackendName, Parity] = {}
    broken = ""
    with deterministic(threads=1):  # as it is served
        samples, asked = read("val", parity.IMAGES)
        truth = classes_of(samples, spec.labels)
        reference = parity.ask(TorchBackend(run, spec), asked, spec, "asking torch")
        check_finite(reference.logits, run, "torch")
        for name in wanted:
            if name == "openvino-int8":
                graph = exporting.convert_int8(run, spec, read("train", exporting.QUANTISATION_IMAGES)[1])
            else:
                graph = exporting.convert(run, spec)
            measured = parity.measure(run, graph, name, spec, reference, asked, truth)
            found[name], broken = measured.parity, "; ".join(measured.broken)
            if found[name].holds:
                logger.info("%s answers as torch does: %s", name, found[name].describe())
                graph.write(run)
                return exports.model_copy(update={"backend": name, "parity": found})
            logger.warning("%s is left out, as it does not answer as torch does: %s: %s", name, found[name].describe(), broken)
    if exports.choice != "auto":
        raise ParityFailed(
            f"{exports.choice} does not answer as torch does: {found[wanted[0]].describe()}: {broken}; backend auto takes "
            "what does"
        )
    return exports.model_copy(update={"parity": found})


def check_finite(logits: Float32, run: Path, backend: BackendName) -> None:
    """Raise RunError where an answer is no number. logits: (N, K)."""
    if not np.isfinite(logits).all():
        diverged = "the fit diverged; lower fit.phases learning_rate, and train with --fresh"
        told = diverged if backend == "torch" else "take another backend, such as torch"
        raise RunError(f"{run / runs.WEIGHTS} answers with NaN or infinity on {backend}: {told}")


def _missing(backend: BackendName) -> str:
    """The names of the packages that it lacks."""
    return " and ".join(package for package in NEEDS[backend] if find_spec(package) is None)


def _is_there(run: Path, backend: BackendName) -> bool:
    """Whether the backend can be loaded from the run's folder."""
    return all((run / name).is_file() for name in runs.GRAPHS[backend]) and (
        backend == "torch" or find_spec("openvino") is not None
    )

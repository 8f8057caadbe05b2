"""Whether an export answers as torch does: both are shown the same validation images by the code that serves, and compared.

Nothing is decided yet where this is asked, and what is decided later is fitted on the export's own answers. So parity is about
what no fit could mend: labels that are wrong, heat maps that show something else, a graph that is not the network.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openvino
from scipy.stats import binom, norm

from archives.files import naming
from archives.lineage import Parity
from handlers.arrays import Float32, Int64, UInt8
from handlers.backends import WEIGHTS, Backend
from handlers.decision import probabilities
from handlers.decode import to_batch
from handlers.gradcam import gradcam
from handlers.spec import BackendName, Spec
from training.packing.export import Graph
from training.progress import show_progress

IMAGES = 1000
"""Of the validation split, at most, evenly spaced."""
BATCH = 32
CHANCE = 0.01
"""Chance, at most, with which an export that is within a bound is refused over the images that it happened to be shown."""
HUGE = 1e30


@dataclass(frozen=True)
class Bounds:
    """The bounds within which parity holds. Shares count as exceeded where CHANCE does not explain it: never by one image.

    `label_difference`: share of images with another label than torch's; `accuracy_loss`: share of images that torch alone gets
    right, less those that the export alone gets right; `heatmap_correlation`: mean of the images; `logit_difference`: of any.
    """

    label_difference: float = 0.02
    accuracy_loss: float = 0.005
    heatmap_correlation: float = 0.95
    logit_difference: float = 1e6


BOUNDS: dict[BackendName, Bounds] = {
    # Rounding alone stays far below, anything that is wrong far above; 0.01 changes odds by 1 %.
    "openvino": Bounds(logit_difference=0.01),
    # Eight bits move the logits of images that are unsure, and calibration and threshold are fitted on what they become.
    "openvino-int8": Bounds(),
}


@dataclass(frozen=True)
class Shown:
    """What a backend makes of N images. logits: (N, K); heatmaps: (N, h, w), each of the label that torch gives the image."""

    logits: Float32
    heatmaps: Float32


def ask(backend: Backend, pictures: Sequence[UInt8], spec: Spec, what: str, labels: Int64 | None = None) -> Shown:
    """Ask a backend about pictures, (H, W, 3) uint8 each. labels: (N,), to explain; by default those that it gives itself."""
    logits, heatmaps = [], []
    starts = range(0, len(pictures), BATCH)
    for start in show_progress(starts, len(starts), what):
        batch_logits, maps = backend.infer(to_batch(pictures[start : start + BATCH], spec.preprocessing))
        logits.append(batch_logits)
        explained = batch_logits.argmax(1) if labels is None else labels[start : start + BATCH]
        heatmaps.append(gradcam(maps, backend.head, explained))
    return Shown(np.concatenate(logits), np.concatenate(heatmaps))


@dataclass(frozen=True)
class Measured:
    """The figures, and in words each bound that is broken; none where parity holds."""

    parity: Parity
    broken: tuple[str, ...] = ()


def measure(
    run: Path, graph: Graph, backend: BackendName, spec: Spec, reference: Shown, pictures: Sequence[UInt8], truth: Int64
) -> Measured:
    """Ask the export about the pictures that gave `reference`, and compare. Raises ArchiveBroken (it does not load)."""
    with tempfile.TemporaryDirectory(prefix="visor-parity-") as folder:
        (Path(folder) / WEIGHTS).symlink_to((run / WEIGHTS).resolve())
        with naming(Path(folder)):
            graph.write(Path(folder))
        loaded = graph.kind(Path(folder), spec)
        exported = ask(loaded, pictures, spec, f"asking {backend}", reference.logits.argmax(1))
    found = compare(reference, exported, truth, backend)
    return replace(found, parity=found.parity.model_copy(update={"quantisation_images": graph.quantisation_images}))


def compare(reference: Shown, exported: Shown, truth: Int64, backend: BackendName = "openvino") -> Measured:
    """Compute the figures, and whether parity holds by the backend's BOUNDS. truth: (N,), classes."""
    bounds, count = BOUNDS[backend], len(truth)
    theirs, ours = reference.logits.argmax(1), exported.logits.argmax(1)
    differing = int((theirs != ours).sum())
    lost = int(((theirs == truth) & (ours != truth)).sum())
    won = int(((theirs != truth) & (ours == truth)).sum())
    logit = _largest(exported.logits - reference.logits)
    pairs = list(zip(reference.heatmaps, exported.heatmaps, strict=True))
    correlations = [found for pair in pairs if (found := _correlation(*pair)) is not None]
    overlaps = [found for pair in pairs if (found := _overlap(*pair)) is not None]
    broken = []
    if exceeds(differing, count, bounds.label_difference):
        broken.append(f"{differing} of {count} labels differ, and {bounds.label_difference:.1%} may, chance aside")
    if loses(lost, won, count, bounds.accuracy_loss):
        broken.append(f"{lost - won} of {count} images less are right, and {bounds.accuracy_loss:.1%} may be, chance aside")
    if falls_below(correlations, bounds.heatmap_correlation):
        broken.append(
            f"heat maps correlate by {np.mean(correlations):.3f}, and must by {bounds.heatmap_correlation:g}, chance aside"
        )
    if logit > bounds.logit_difference:
        broken.append(f"a logit differs by {logit:g}, and {bounds.logit_difference:g} is allowed")
    figures = Parity(
        holds=not broken,
        images=count,
        label_agreement=1 - differing / count,
        max_logit_difference=logit,
        max_probability_difference=_largest(probabilities(exported.logits, 1.0) - probabilities(reference.logits, 1.0)),
        max_heatmap_difference=_largest(exported.heatmaps - reference.heatmaps),
        heatmap_correlation=_mean(correlations),
        heatmap_iou=_mean(overlaps),
        accuracy={"torch": float((theirs == truth).mean()), backend: float((ours == truth).mean())},
        openvino=openvino.__version__,
    )
    return Measured(figures, tuple(broken))


def exceeds(count: int, total: int, share: float) -> bool:
    """Tell whether `count` or more of `total` images come of a true share of `share` with a chance below CHANCE (binomial)."""
    return bool(binom.sf(count - 1, total, share) < CHANCE)


def loses(lost: int, won: int, total: int, share: float) -> bool:
    """Tell whether more than `share` of the images are lost on balance, and not by chance: McNemar's (1947) exact sign test."""
    return lost - won > share * total and bool(binom.sf(lost - 1, lost + won, 0.5) < CHANCE)


def falls_below(values: Sequence[float], bound: float) -> bool:
    """Tell whether the values' mean lies below the bound by more than its standard error explains, one-sided, at CHANCE."""
    if not values:
        return False
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return float(np.mean(values)) + float(norm.isf(CHANCE)) * error < bound


def _correlation(one: Float32, other: Float32) -> float | None:
    """Pearson's, over the places of two maps (h, w); 0 where one of them shows nothing, None where both do."""
    if min(np.ptp(one), np.ptp(other)) == 0:
        return None if np.ptp(one) == np.ptp(other) else 0.0
    return float(np.nan_to_num(np.corrcoef(one.ravel(), other.ravel())[0, 1]))


def _overlap(one: Float32, other: Float32) -> float | None:
    """Intersection over union of what is above half of the maximum, which is 1, in two maps (h, w); None of nothing."""
    first, second = one > 0.5, other > 0.5
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else None


def _mean(values: Sequence[float]) -> float | None:
    """To four digits."""
    return round(float(np.mean(values)), 4) if values else None


def _largest(difference: Float32) -> float:
    """The largest in size, to three digits; a number that no bound allows where one is NaN or infinite."""
    return float(f"{np.nan_to_num(np.abs(difference).max(), nan=HUGE, posinf=HUGE):.3g}")

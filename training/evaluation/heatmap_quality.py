"""How good a run's heat maps are: against masks where there are any, and by what the network does on some test images."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from archives.files import naming
from handlers.arrays import Bools, Float32, Int64, UInt8
from handlers.backends import WEIGHTS, Backend, TorchBackend
from handlers.predictor import Answer
from handlers.spec import Spec
from training.data.manifest import Sample
from training.data.masks import read_mask
from training.data.pixels import decode_good
from training.evaluation import faithfulness
from training.evaluation.answers import spread
from training.evaluation.saliency import PointingGame, chance_inside, energy_inside, points_inside
from training.progress import show_progress


def against_masks(
    samples: Sequence[Sample], answers: Sequence[Answer], spec: Spec, root: Path, tolerance: float
) -> tuple[PointingGame | None, dict[str, float] | None]:
    """Play the pointing game, and compare the mean energy inside the mask with the mask's mean share of the picture, the chance.

    Over all images whose mask shows something, with the heat maps as they are served: a missed image's map counts too.
    """
    hits, energies, shares = [], [], []
    for sample, answer in zip(samples, answers, strict=True):
        mask = read_mask(sample, spec, root)
        if mask is not None and mask.any() and answer.heatmap is not None:
            hits.append(points_inside(answer.heatmap, mask, tolerance))
            energies.append(energy_inside(answer.heatmap, mask))
            shares.append(float(mask.mean()))
    if not hits:
        return None, None
    return PointingGame(sum(hits), len(hits), tolerance), {"energy": float(np.mean(energies)), "chance": float(np.mean(shares))}


def measure(
    run: Path,
    samples: Sequence[Sample],
    answers: Sequence[Answer],
    spec: Spec,
    backend: Backend,
    root: Path,
    count: int,
    tolerance: float,
) -> dict[str, Any] | None:
    """Try deletion, insertion and the sanity check on `count` images at most, those with a mask if any has one.

    `backend`: the one that gave the answers. Returns None without images. Shuffled weights are torch's: the map of a network
    that learnt nothing does not depend on what computes it.

    Each figure stands beside the one of a map made with shuffled weights, which shows the class nothing that was learnt.
    `rank_correlation`: Spearman's between the two maps, of the head alone shuffled and of all weights; near 1 would mean that
    the map shows the picture's edges and not what the network looks for.
    """
    masked = [row for row, sample in enumerate(samples) if sample.mask is not None]
    rows = spread(masked or range(len(samples)), count) if count else []
    if not rows:
        return None
    chosen = [samples[row] for row in rows]
    images = list(decode_good(root, chosen, spec.preprocessing, spec.limits, "reading images to explain"))
    served = [answers[row].heatmap for row in rows]
    targets = np.array([spec.labels.index(answers[row].heatmap_label or answers[row].label) for row in rows], dtype=np.int64)
    found: dict[str, Any] = {"images": len(rows)}
    random: dict[str, Float32] = {}
    for part in ("head", "all"):
        random[part] = _with_shuffled_weights(run, images, targets, spec, head_only=part == "head")
        pairs = [
            faithfulness.rank_correlation(one, other) for one, other in zip(served, random[part], strict=True) if one is not None
        ]
        defined = [value for value in pairs if value is not None]
        found[f"rank_correlation_{part}"] = float(np.mean(defined)) if defined else None
    for name, maps in (("served", served), ("shuffled", random["all"])):
        found[name] = _faithfulness(images, maps, targets, backend, spec, name)
    if masked:
        masks = [read_mask(samples[row], spec, root) for row in rows]
        found |= _pointing([mask for mask in masks if mask is not None], served, random, tolerance)
    return found


def _with_shuffled_weights(run: Path, images: list[UInt8], targets: Int64, spec: Spec, head_only: bool) -> Float32:
    with tempfile.TemporaryDirectory(prefix="visor-shuffled-") as folder:
        with naming(Path(folder)):
            save_file(faithfulness.shuffled(load_file(run / WEIGHTS), head_only), Path(folder) / WEIGHTS)
        return faithfulness.heatmaps(images, targets, TorchBackend(Path(folder), spec), spec)


def _faithfulness(
    images: list[UInt8], maps: Sequence[Float32 | None] | Float32, targets: Int64, backend: Backend, spec: Spec, name: str
) -> dict[str, float]:
    """Mean areas under the deletion and insertion curves."""
    pairs = [
        (image, heatmap, int(target)) for image, heatmap, target in zip(images, maps, targets, strict=True) if heatmap is not None
    ]
    curves = [
        faithfulness.curves(*pair, backend, spec)
        for pair in show_progress(pairs, len(pairs), f"deleting and inserting ({name} maps)")
    ]
    return {
        "deletion_auc": float(np.mean([curve.deletion_auc for curve in curves])),
        "insertion_auc": float(np.mean([curve.insertion_auc for curve in curves])),
    }


def _pointing(
    masks: list[Bools], served: Sequence[Float32 | None], random: dict[str, Float32], tolerance: float
) -> dict[str, float]:
    """Shares of hits in the pointing game: of the served maps, of those with shuffled weights, and what chance gives.

    `pointing_chance` is the share of random points. `pointing_elsewhere` is the share of the served maps on other images' masks:
    the chance of a guess that knows where in a picture such masks tend to lie, but not what this picture shows.
    """

    def score(maps: Sequence[Float32 | None] | Float32, others: Sequence[Bools]) -> float:
        pairs = zip(maps, others, strict=True)
        return float(np.mean([heatmap is not None and points_inside(heatmap, mask, tolerance) for heatmap, mask in pairs]))

    n = len(masks)
    turns = sorted({n // 4, n // 2, 3 * n // 4} - {0})
    return {
        "pointing_served": score(served, masks),
        **{f"pointing_shuffled_{part}": score(maps, masks) for part, maps in random.items()},
        **({"pointing_elsewhere": float(np.mean([score(served, [*masks[k:], *masks[:k]]) for k in turns]))} if turns else {}),
        "pointing_chance": float(np.mean([chance_inside(mask, tolerance) for mask in masks])),
    }

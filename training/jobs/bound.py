"""A run's saved answers → what its bound on missed images does over random splits, as a table and a plot."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.stats import nhypergeom

from archives.contents import SPEC
from handlers import decision
from handlers.arrays import Float64
from handlers.spec import Spec, VectorScaling
from training import runs
from training.decisions import conformal
from training.errors import ConfigError, FolderError, RunError
from training.jobs.fresh import settle
from training.reports import plots

TABLE, PLOT = "bound.md", "bound.png"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DEFAULT = 0.05


def bound(run: Path, level: float | None, splits: int, seed: int, out: Path, confidence: float | None = None) -> str:
    """Write TABLE and PLOT into `out` and return the table, in Markdown.

    The positive images of the calibration and test splits are dealt anew into as many as before for each, or their groups,
    where images come in groups. With more than two labels, or weights that differ, it is those of the test split alone, half and
    half, as the other split's scores are not those of images that nothing was fitted on. `level`, `confidence`: by default the
    run's. Raises RunError (not evaluated), ConfigError (no positive label), DataError (too few).
    """
    settle(run)
    config = runs.read_config(run)
    if not (run / SPEC).is_file():
        runs.read_finished(run)  # raises: evaluation, the end of a training, writes it
    try:
        spec, saved = Spec.read(run / SPEC), np.load(run / runs.PREDICTIONS)
    except OSError as err:
        raise RunError(
            f"{run} has no saved answers ({err.strerror}: {runs.PREDICTIONS}); run `visor evaluate {shlex.quote(str(run))}`"
        ) from err
    if not spec.positive_index:
        raise ConfigError(f"{run} flags no label, so there is nothing to miss; name it in decision.positive and evaluate again")
    confidence = confidence or (config.decision.max_fnr_confidence if level is None else None)
    level = level or config.decision.max_fnr or DEFAULT
    parts = [_Part.of(saved, split, spec) for split in ("calibration", "test")]
    torn = isinstance(spec.scaling, VectorScaling) and len(set(spec.scaling.weight)) > 1  # as weights of two labels once were
    same_order = len(spec.labels) == 2 and not torn
    used = parts if same_order else parts[1:]
    scores = np.concatenate([part.scores for part in used])
    groups = None if any(part.groups is None for part in used) else [group for part in used for group in part.groups or ()]
    n = parts[0].units if same_order else parts[1].units // 2
    tried = conformal.resplit(scores, n, level, splits, seed, confidence, groups)
    table = describe(tried, level, confidence, groups is not None)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / TABLE).write_text(table)
        (out / PLOT).write_bytes(plots.resplits(tried.fnr, level, tried.units, tried.tested, confidence))
    except OSError as err:
        raise FolderError(f"{out} cannot be written to: {err.strerror}; name another folder with --out") from err
    return table


def describe(tried: conformal.Resplits, level: float, confidence: float | None = None, groups: bool = False) -> str:
    """Describe the resplits as a table: the mean beside its theory, and the distribution over splits."""
    n, m, fnr = tried.units, tried.tested, tried.fnr
    what = "groups with a positive image" if groups else "positive images"
    rows = {
        f"{what} that find the threshold, n (and {m} that test it)": str(n),
        "splits": str(len(fnr)),
        "mean test FNR" + (", of the groups' shares" if groups else ""): f"{fnr.mean():.4f}",
        "its standard error": f"{fnr.std(ddof=1) / np.sqrt(len(fnr)):.4f}" if len(fnr) > 1 else "",
    }
    if confidence is not None:
        rows[f"the bound, with a probability of {confidence:g} over the draw of the n"] = f"{level:.4f}"
    elif groups:
        rows["the bound, on average"] = f"{level:.4f}"
    else:
        name = f"its expectation without equal scores, floor({level:g} (n + 1)) / (n + 1)"
        rows[name] = f"{conformal.spare(n, level) / (n + 1):.4f}"
        rows[f"the bound, {level:g}, and {level:g} - 2 / (n + 1)"] = f"{level:.4f}, {level - 2 / (n + 1):.4f}"
    rows |= {
        "standard deviation over splits": f"{fnr.std():.4f}",
        **{f"{share:.0%} quantile": f"{np.quantile(fnr, share):.4f}" for share in QUANTILES},
        "smallest and largest": f"{fnr.min():.4f}, {fnr.max():.4f}",
        f"splits above {level:g}": f"{(fnr > level).mean():.1%}",
    }
    if not groups:
        rows["the same in theory, where no scores are equal"] = f"{_above(n, m, level, confidence):.1%}"
    rows["threshold, 5 % to 95 % of the splits"] = " to ".join(
        f"{end:.4f}" for end in np.quantile(tried.thresholds, [0.05, 0.95])
    )
    return "| | |\n| --- | --- |\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def _above(n: int, m: int, level: float, confidence: float | None) -> float:
    """The chance that more than `level` of m images are missed, by a threshold that n others find.

    With k allowed misses the threshold is the (k + 1)-th smallest score of the n, and how many of the m lie below it is negative
    hypergeometric: all orders of n + m exchangeable scores are alike.
    """
    misses = conformal.allowed(n, level, confidence)
    return float(nhypergeom(n + m, m, misses + 1).sf(math.floor(level * m + 1e-9)))


@dataclass(frozen=True)
class _Part:
    """The positive images of one split: their scores, (P,), and their groups, where they come in groups."""

    scores: Float64
    groups: list[str] | None

    @classmethod
    def of(cls, saved: Mapping[str, Any], split: str, spec: Spec) -> Self:
        bad = np.isin(saved[f"{split}_truth"], spec.positive_index)
        scores = decision.scores(decision.calibrated(saved[f"{split}_logits"], spec), spec)[bad]
        groups = saved.get(f"{split}_groups")  # files before 0.3 have none
        return cls(scores, None if groups is None else groups[bad].tolist())

    @property
    def units(self) -> int:
        return len(self.scores) if self.groups is None else len(set(self.groups))

"""A run's saved answers → what its bound on missed images does over random splits, as a table and a plot."""

from pathlib import Path

import numpy as np

from archives.contents import SPEC
from handlers import decision
from handlers.arrays import Float64, Floats, Ints
from handlers.spec import Spec
from training import runs
from training.decisions import conformal
from training.errors import ConfigError, FolderError, RunError
from training.reports import plots

TABLE, PLOT = "bound.md", "bound.png"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DEFAULT = 0.05


def bound(run: Path, level: float | None, splits: int, seed: int, out: Path) -> str:
    """Write TABLE and PLOT into `out` and return the table, in Markdown.

    The positive images of the calibration and test splits are dealt anew into as many as before for each. With more than two
    labels, or weights that differ, it is those of the test split alone, half and half, as the other split's scores are not
    those of images that nothing was fitted on. Raises RunError (not evaluated), ConfigError (no positive label), DataError
    (too few).
    """
    config = runs.read_config(run)
    try:
        spec, saved = Spec.read(run / SPEC), np.load(run / runs.PREDICTIONS)
    except OSError as err:
        raise RunError(f"{run} has no saved answers ({err.strerror}: {runs.PREDICTIONS}); run `visor evaluate {run}`") from err
    if not spec.positive_index:
        raise ConfigError(f"{run} flags no label, so there is nothing to miss; name it in decision.positive and evaluate again")
    level = level or config.decision.max_fnr or DEFAULT
    calibrating, test = (_scores(saved[f"{split}_logits"], saved[f"{split}_truth"], spec) for split in ("calibration", "test"))
    one_slope = spec.scaling is None or len(set(spec.scaling.weight)) == 1  # weights of two labels once differed
    same_order = len(spec.labels) == 2 and one_slope
    pool, n = (np.concatenate([calibrating, test]), len(calibrating)) if same_order else (test, len(test) // 2)
    tried = conformal.resplit(pool, n, level, splits, seed)
    table = describe(tried, level, len(pool) - n)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / TABLE).write_text(table)
        (out / PLOT).write_bytes(plots.resplits(tried.fnr, level, n, len(pool) - n))
    except OSError as err:
        raise FolderError(f"{out} cannot be written to: {err.strerror}; name another folder with --out") from err
    return table


def describe(tried: conformal.Resplits, level: float, tested: int) -> str:
    """Describe the resplits as a table: the mean beside its theory, and the distribution over splits. tested: images a split."""
    n, fnr = tried.positives, tried.fnr
    rows = {
        f"positive images that find the threshold, n (and {tested} that test it)": str(n),
        "splits": str(len(fnr)),
        "mean test FNR": f"{fnr.mean():.4f}",
        "its standard error": f"{fnr.std(ddof=1) / np.sqrt(len(fnr)):.4f}" if len(fnr) > 1 else "",
        f"its expectation without equal scores, floor({level:g} (n + 1)) / (n + 1)": f"{conformal.spare(n, level) / (n + 1):.4f}",
        f"the bound, {level:g}, and {level:g} - 2 / (n + 1)": f"{level:.4f}, {level - 2 / (n + 1):.4f}",
        "standard deviation over splits": f"{fnr.std():.4f}",
        **{f"{share:.0%} quantile": f"{np.quantile(fnr, share):.4f}" for share in QUANTILES},
        "smallest and largest": f"{fnr.min():.4f}, {fnr.max():.4f}",
        f"splits above {level:g}": f"{(fnr > level).mean():.1%}",
        "threshold, 5 % to 95 % of the splits": " to ".join(f"{end:.4f}" for end in np.quantile(tried.thresholds, [0.05, 0.95])),
    }
    return "| | |\n| --- | --- |\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def _scores(logits: Floats, truth: Ints, spec: Spec) -> Float64:
    """Of the positive images."""
    return decision.scores(decision.calibrated(logits, spec), spec)[np.isin(truth, spec.positive_index)]

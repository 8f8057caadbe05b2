"""What runs promise of roofs to come, tried on freshly drawn ones, by the answers of the backend that serves each run.

    python docs/examples/fresh_roofs.py folder FOLDER --share 0.05   # 4,000 roofs, few damaged, for docs/examples/rare_roofs.yaml
    python docs/examples/fresh_roofs.py answer RUN... --damaged 10000 --intact 50000
    python docs/examples/fresh_roofs.py bound RUN
    python docs/examples/fresh_roofs.py calibration RUN...

`answer` keeps what each run says of the same roofs in ANSWERS/NAME.npz: logits (N, K), pooled features (N, C) and classes (N,).
The two after it print Markdown from that; docs/decisions.md has their results. Every roof is of another building, none of the
runs'.
"""

import argparse
import io
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image
from scipy.optimize import minimize

from archives.contents import SPEC
from handlers import decision
from handlers.arrays import Bools, Float32, Float64, Int64
from handlers.backends import load_backend
from handlers.decode import decode, to_batch
from handlers.spec import Spec
from training import runs
from training.data.manifest import Manifest
from training.data.roofs.roofs import DAMAGED, INTACT, QUALITY, render
from training.decisions import conformal, mix
from training.decisions.calibration import reliability_of
from training.decisions.scaling import WIDTH, WIDTH_MOVED, Scaling, Vector, fit_beta, fit_temperature
from training.decisions.thresholds import fit_decision
from training.progress import show_progress

BATCH = 32
SMALLEST = 48  # pixels of a roof's side, as of `data.size`: it cannot be drawn in much fewer
FRESH_SEED, FOLDER_SEED = 1000, 500  # other than those of training/configs
LEVELS, CONFIDENCE = (0.05, 0.1, 0.2), 0.95
SURE, WIDE = 0.5, 0.1
Fit = Callable[[Float32, Int64, Float64], Scaling]


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args.run_step(args)
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)

    def step(name: str, run_step: object, runs_of: str | None) -> argparse.ArgumentParser:
        added = steps.add_parser(name)
        added.set_defaults(run_step=run_step)
        if runs_of:
            added.add_argument("runs", type=Path, metavar="RUN", nargs=runs_of)
            added.add_argument("--answers", type=Path, default=Path("runs/fresh"), metavar="ANSWERS")
        return added

    folder = step("folder", make_folder, None)
    folder.add_argument("folder", type=Path)
    folder.add_argument("--count", type=int, default=4000)
    folder.add_argument("--share", type=float, default=0.05, help="of damaged roofs")
    folder.add_argument("--size", type=int, default=64)
    answer = step("answer", ask, "+")
    answer.add_argument("--damaged", type=int, default=10_000)
    answer.add_argument("--intact", type=int, default=50_000)
    answer.add_argument("--seed", type=int, default=FRESH_SEED)
    bound = step("bound", try_bound, "+")
    bound.add_argument("--n", type=int, default=300, help="damaged roofs that find the threshold")
    bound.add_argument("--splits", type=int, default=50_000)
    bound.add_argument("--draws", type=int, default=10_000, help="of the bound with a confidence")
    calibrating = step("calibration", try_calibration, "+")
    calibrating.add_argument("--damaged", type=int, default=100, help="damaged roofs of a calibration split")
    calibrating.add_argument("--draws", type=int, default=20)
    return parser.parse_args(argv)


def draw(seed: int, damaged: int, intact: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield label and JPEG of each roof, one of a building."""
    for building in range(damaged + intact):
        roof = render(seed, 2 * building + (building < damaged), size)
        file = io.BytesIO()
        Image.fromarray(roof.image).save(file, "JPEG", quality=QUALITY)
        yield roof.label, file.getvalue()


def make_folder(args: argparse.Namespace) -> None:
    """Write roofs as FOLDER/LABEL/NUMBER.jpg."""
    damaged = round(args.share * args.count)
    for label in (DAMAGED, INTACT):
        (args.folder / label).mkdir(parents=True)
    for number, (label, jpeg) in enumerate(draw(FOLDER_SEED, damaged, args.count - damaged, args.size)):
        (args.folder / label / f"{number:05d}.jpg").write_bytes(jpeg)


def ask(args: argparse.Namespace) -> None:
    """Draw fresh roofs and keep what each run's backend says of them. The runs see pictures of one size.

    Networks that see fewer pixels than a roof can be drawn in get roofs that are scaled down, as those that they are trained on.
    """
    specs = [Spec.read(run / SPEC) for run in args.runs]
    backends = [load_backend(run, spec) for run, spec in zip(args.runs, specs, strict=True)]
    args.answers.mkdir(parents=True, exist_ok=True)
    (size,) = {spec.preprocessing.height for spec in specs}
    count = args.damaged + args.intact
    drawn = draw(args.seed, args.damaged, args.intact, max(size, SMALLEST))
    roofs = show_progress(drawn, count, "drawing and asking")
    logits: list[list[Float32]] = [[] for _ in specs]
    features: list[list[Float32]] = [[] for _ in specs]
    while batch := list(islice(roofs, BATCH)):
        for spec, backend, said, pooled in zip(specs, backends, logits, features, strict=True):
            pictures = [decode(jpeg, spec.preprocessing, spec.limits) for _, jpeg in batch]
            found, maps = backend.infer(to_batch(pictures, spec.preprocessing))
            said.append(found.copy())
            pooled.append(maps.mean(axis=(2, 3)).astype(np.float16))
    for run, spec, said, pooled in zip(args.runs, specs, logits, features, strict=True):
        truth = np.repeat([spec.labels.index(DAMAGED), spec.labels.index(INTACT)], [args.damaged, args.intact])
        file = args.answers / f"{run.name}.npz"
        np.savez(file, logits=np.concatenate(said), features=np.concatenate(pooled), truth=truth, backend=spec.backend)


@dataclass(frozen=True)
class Fresh:
    """A run and what its backend says of fresh roofs. logits: (N, K); truth: (N,), classes."""

    run: Path
    spec: Spec
    logits: Float32
    truth: Int64

    @classmethod
    def read(cls, run: Path, answers: Path) -> Self:
        spec, saved = Spec.read(run / SPEC), np.load(answers / f"{run.name}.npz")
        if saved["backend"] != spec.backend:
            raise SystemExit(f"{run} is served by {spec.backend} now, its answers are of {saved['backend']}; ask it again")
        return cls(run, spec, saved["logits"], saved["truth"])

    @property
    def damaged(self) -> Bools:
        return np.asarray(self.truth == self.spec.labels.index(DAMAGED))


def try_bound(args: argparse.Namespace) -> None:
    """Print what thresholds of n damaged roofs miss of all others, on average and in how many draws more than they may."""
    print("| run, backend | at most | splits | mean missed | its standard error | theory | at least | holds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    tried = [Fresh.read(run, args.answers) for run in args.runs]
    for fresh in tried:
        for level in LEVELS:
            found = conformal.resplit(scores_of(fresh), args.n, level, args.splits)
            mean, error = found.fnr.mean(), found.fnr.std(ddof=1) / len(found.fnr) ** 0.5
            least = level - 2 / (args.n + 1)
            holds = least - 3 * error <= mean <= level + 3 * error
            theory = conformal.spare(args.n, level) / (args.n + 1)
            print(
                f"| {name(fresh)} | {level:g} | {args.splits:,} | {mean:.5f} | {error:.5f} | {theory:.5f} | {least:.5f} "
                f"| {'yes' if holds else 'NO'} |"
            )
    print(f"\n| run, backend | at most, with {CONFIDENCE:.0%} | damaged roofs | draws | mean missed | draws above | may be |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for fresh in tried:
        for level in LEVELS:
            found = conformal.resplit(scores_of(fresh), args.n, level, args.draws, confidence=CONFIDENCE)
            chance = 1 - CONFIDENCE
            most = chance + 2 * (chance * (1 - chance) / args.draws) ** 0.5
            print(
                f"| {name(fresh)} | {level:g} | {fresh.damaged.sum():,} | {args.draws:,} | {found.fnr.mean():.4f} "
                f"| {(found.fnr > level).mean():.2%} | {most:.2%} |"
            )


def scores_of(fresh: Fresh) -> Float64:
    """The scores of the damaged roofs, (P,)."""
    return decision.scores(decision.calibrated(fresh.logits[fresh.damaged], fresh.spec), fresh.spec)


def name(fresh: Fresh) -> str:
    return f"{fresh.run.name}, {fresh.spec.backend}"


def try_calibration(args: argparse.Namespace) -> None:
    """Print what scores say and what is true where calibration splits are drawn anew, in the mix that the run was trained on.

    Each draw fits scaling and rule as `visor evaluate` does; all other fresh roofs, weighted to the same mix, measure them.
    """
    heads = ["run, backend", "damaged", "draws of, damaged", "scaling", "p > 0.5: in a split, said, true", "mean gap", "largest"]
    heads += ["spread", "its noise", "above 10", "class-wise ECE", "cost of 1,000", "best", "more"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for run in args.runs:
        fresh = Fresh.read(run, args.answers)
        for scaling, fitting in SCALINGS.items():
            share, rows = calibrations(fresh, args.damaged, args.draws, fitting)
            found = {key: [row[key] for row in rows if not np.isnan(row[key])] for key in rows[0]}
            mean = {key: float(np.mean(values)) if values else float("nan") for key, values in found.items()}
            gaps = np.array([row["said"] - row["true"] for row in rows if row["sure"]])
            if not len(gaps):
                gaps = np.full(2, np.nan)  # no roof above SURE in any draw
            print(
                f"| {name(fresh)} | {share:.0%} | {args.draws} of {round(args.damaged / share):,}, {args.damaged} | {scaling} "
                f"| {mean['sure']:.0f}, {mean['said']:.3f}, {mean['true']:.3f} | {100 * gaps.mean():+.1f} "
                f"| {100 * max(gaps, key=abs):+.1f} | {100 * gaps.std(ddof=1):.1f} | {100 * mean['noise']:.1f} "
                f"| {(abs(gaps) > WIDE).sum()} | {mean['ece']:.4f} "
                f"| {mean['cost']:.1f} | {mean['best']:.1f} | {mean['cost'] / mean['best'] - 1:+.1%} |",
                flush=True,
            )


def one_slope(logits: Float32, truth: Int64, shift: Float64) -> Scaling:
    """Fit one slope for both labels and a bias (Platt 1999), with the same prior."""
    width = WIDTH_MOVED if mix.is_moved(shift) else WIDTH
    z = logits.astype(np.float64) + shift
    margin, side = z[:, 1] - z[:, 0], np.where(truth == 1, 1, -1)

    def loss(at: Float64) -> float:
        off = (at - [1, 0]) / width
        return float(np.logaddexp(0, -side * (at[0] * margin + at[1])).sum() + np.sqrt(1 + off**2).sum())

    slope, bias = minimize(loss, [1.0, 0.0]).x
    return Vector(np.full(2, slope), slope * shift + [-bias / 2, bias / 2], "converged")


SCALINGS: dict[str, Fit] = {
    "one temperature": lambda logits, truth, _: fit_temperature(logits, truth),
    "one slope": one_slope,
    "a slope of each side": fit_beta,
}


def calibrations(fresh: Fresh, positives: int, draws: int, fitting: Fit) -> tuple[float, list[dict[str, float]]]:
    """Fit and measure `draws` times; returns the share of damaged roofs in the run's training split, and what was found."""
    config, manifest = runs.read_config(fresh.run), Manifest.read(fresh.run / runs.MANIFEST)
    mixture = mix.of_training(config, manifest)
    wanted = mix.settled(config.decision, mixture)
    rng, labels = np.random.default_rng(3), fresh.spec.labels
    share = float(mixture.shares[labels.index(DAMAGED)])
    bad, good = (rng.permutation(np.flatnonzero(side)) for side in (fresh.damaged, ~fresh.damaged))
    rows = []
    for _ in range(draws):
        bad, good = rng.permutation(bad), rng.permutation(good)
        negatives = round(positives / share) - positives
        drawn = np.concatenate([bad[:positives], good[:negatives]])
        others = np.concatenate([bad[positives:], good[negatives:]])
        logits, truth = fresh.logits[drawn], fresh.truth[drawn]
        spec = fresh.spec.model_copy(update=fitting(logits, truth, mixture.shift).fields)
        rule = fit_decision(decision.calibrated(logits, spec), truth, labels, wanted)
        found = measure(spec.model_copy(update={"decision": rule}), fresh.logits[others], fresh.truth[others], share)
        found["sure"] *= len(drawn)
        rows.append(found)
    return share, rows


def measure(spec: Spec, logits: Float32, truth: Int64, share: float) -> dict[str, float]:
    """Measure a rule on roofs that nothing was fitted on, weighted so that `share` of them are damaged.

    Of p > SURE their share of the roofs, what is said, what is true and the standard error of that, NaN where there is none;
    class-wise ECE; what 1,000 roofs cost, by the rule and by the band that is cheapest for these very roofs.
    """
    damaged = truth == spec.labels.index(DAMAGED)
    score = decision.scores(decision.calibrated(logits, spec), spec)
    weights = mix.weights(truth, [share if label == DAMAGED else 1 - share for label in spec.labels])
    sure = weights * (score > SURE)
    total = sure.sum() or np.nan
    true = float(sure @ damaged / total)
    miss, alarm, look = prices(spec)
    outcomes = np.array(decision.decide(score, spec))
    cost = np.where(outcomes == "review", look, np.where(outcomes == "flag", alarm * ~damaged, miss * damaged))
    return {
        "sure": float(sure.mean()),
        "said": float(sure @ score / total),
        "true": true,
        "noise": float(np.sqrt((sure**2 * (damaged - true) ** 2).sum()) / total),
        "ece": reliability_of(score, damaged, weights=weights).ece,  # of two labels it is the same for both
        "cost": 1000 * float(np.average(cost, weights=weights)),
        "best": 1000 * cheapest(score, weights * damaged, weights * ~damaged, miss, alarm, look) / weights.sum(),
    }


def prices(spec: Spec) -> tuple[float, float, float]:
    """Of a damaged roof that passes, of an intact one that is flagged, and of a look."""
    bad, good = spec.labels.index(DAMAGED), spec.labels.index(INTACT)
    return spec.decision.cost[bad][good], spec.decision.cost[good][bad], spec.decision.review_cost or 0.0


def cheapest(score: Float64, bad: Float64, good: Float64, miss: float, alarm: float, look: float) -> float:
    """The least sum of costs of any threshold with any band around it. score: (N,); bad, good: (N,), weights by side.

    Passed are the i lowest scores, seen by a person those up to the j-th, flagged the others, for all i <= j.
    """
    order = np.argsort(score, kind="stable")
    last = np.append(np.diff(score[order]) > 0, True)  # equal scores are decided alike
    ends = np.concatenate([[0], np.flatnonzero(last) + 1])
    passed, flagged = ((price * side[order]) for price, side in ((miss, bad), (alarm, good)))
    looked = look * (bad + good)[order]
    below, inside, above = (np.concatenate([[0.0], np.cumsum(part)])[ends] for part in (passed, looked, flagged))
    # cost(i, j) = below[i] + inside[j] - inside[i] + above[-1] - above[j], i <= j
    low = np.minimum.accumulate(below - inside)
    return float((low + inside - above).min() + above[-1])


if __name__ == "__main__":
    sys.exit(main())

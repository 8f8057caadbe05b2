"""Whether reviews pay where the pictures have changed: roofs of other colours, by another camera, reviewed and learnt from.

    python docs/examples/review_loop.py training/configs/roofs-pretrain.yaml --set data.labelled_fraction=1 --set backend=torch

Trains on roofs as they are drawn, asks the run about a pool of changed ones, has some of them labelled as their masks say, in one
order after the other, makes the next version of the data set of these, trains on it from the first run's weights and asks again,
about changed roofs that none of it has seen. The order `nothing` trains on without a review. Every seed is a training of its own;
all share the roofs. Prints Markdown; docs/reviews-loop.md has the result.
"""

import argparse
import hashlib
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image, ImageFilter
from scipy.stats import t as student

from archives.contents import SPEC
from archives.files import replacing
from console.reviews.cost import expected_cost
from console.servers.models import Answer
from handlers import decision
from handlers.arrays import Float32, Float64, Int64
from handlers.backends import load_backend
from handlers.decode import decode, to_batch
from handlers.spec import Spec
from training import config as configs
from training import runs
from training.data.reviews import PICTURES, REVIEWS
from training.data.roofs import buildings
from training.data.roofs.painting import Colour
from training.data.roofs.roofs import DAMAGED, INTACT, QUALITY, render
from training.jobs.from_reviews import from_reviews, read_parent
from training.jobs.train import train
from training.progress import show_progress

POOL_SEED, HELD_OUT_SEED = 1000, 2000  # other than those of training/configs
OTHER_COLOURS = ((52, 96, 150), (62, 120, 70), (150, 60, 110), (196, 176, 70))
"""Blue, green, purple and yellow coverings, which the drawing has none of; as in loadtests/bench/drift.py."""
PART = 0.5
"""How far each covering of the drawing goes towards one of them: to the middle of the two colours."""
BLUR, GAMMA, NOISE = 0.8, 1.6, 10.0
"""The other camera: a Gaussian blur in pixels of 96, the exponent of its brightness, and the deviation of its noise in levels."""
BATCH = 64


@dataclass(frozen=True)
class Changed:
    """Changed roofs. pictures: N encoded ones; damaged: (N,), what their masks say: 0 or 1."""

    pictures: tuple[bytes, ...]
    damaged: Int64


@dataclass(frozen=True)
class Asked:
    """What a run says of changed roofs. scores: (N,), calibrated; features: (N, C), pooled; right: (N,), 1 for a right label."""

    spec: Spec
    scores: Float64
    features: Float32
    right: Float64
    outcomes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    args.home.mkdir(parents=True, exist_ok=True)
    pool = changed(POOL_SEED, args.pool, args)
    held_out = changed(HELD_OUT_SEED, args.held_out, args)
    heads = [f"{args.reviews} by {order}" if order != NOTHING else "none" for order in args.orders]
    print(f"| seed | as drawn | changed | {' | '.join(heads)} |")
    print(f"|{' --- |' * (3 + len(args.orders))}", flush=True)
    found = []
    for seed in args.seeds:
        row = of_seed(args, seed, pool, held_out)
        found.append(row)
        print(f"| {seed} | {' | '.join(f'{value:.1%}' for value in row)} |", flush=True)
    table = np.array(found)
    print(f"| mean | {' | '.join(f'{value:.1%}' for value in table.mean(axis=0))} |")
    for number, order in enumerate(args.orders, 2):
        print(f"\n{order} less before: {difference(table[:, number] - table[:, 1])}")
        if order != "random" and "random" in args.orders:
            beside = table[:, 2 + args.orders.index("random")]
            print(f"{order} less random: {difference(table[:, number] - beside)}")
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--set-next", action="append", default=[], metavar="KEY=VALUE", help="of the second training alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--orders", nargs="+", choices=[*CHOICES, NOTHING], default=["cost", "random", "nothing"])
    parser.add_argument("--reviews", type=int, default=200)
    parser.add_argument("--part", type=float, default=PART, help="how far colours change, 0 to 1")
    parser.add_argument("--pool", type=int, default=2000, help="changed roofs that may be reviewed")
    parser.add_argument("--held-out", type=int, default=3000, help="changed roofs that judge")
    parser.add_argument("--size", type=int, default=96, help="side of the changed roofs in pixels, as of the config's")
    parser.add_argument("--home", type=Path, default=Path("runs/review-loop"))
    return parser.parse_args(argv)


def of_seed(args: argparse.Namespace, seed: int, pool: Changed, held_out: Changed) -> list[float]:
    """Accuracy of the first training on its own test split and on changed roofs, and of the next ones on changed roofs."""
    overrides = [*args.set, f"seed={seed}"]
    first = train(configs.load(args.config, overrides), args.home / f"seed{seed}", args.home)
    own = json.loads((first / "metrics.json").read_text())["accuracy"]
    before, asked = ask(first, held_out), ask(first, pool)
    report(first, before, held_out)
    accuracies = [own, before.accuracy]
    for order in args.orders:
        name = f"seed{seed}-{args.reviews}-{order}"
        again = [*overrides, f"model.pretrained={first / runs.WEIGHTS}", *args.set_next]
        if order != NOTHING:
            data = args.home / f"{name}-data"
            if not data.exists():
                chosen = CHOICES[order](asked, args.reviews, np.random.default_rng([seed, 7]))
                export = write_export(args.home / f"{name}-export", pool, chosen)
                from_reviews(export, read_parent(first, [], args.home), data, args.home)
            again += ["data.source=imagefolder", f"data.path={data}"]
        config = configs.load(args.config, again)
        after = ask(train(config, args.home / name, args.home), held_out)
        report(args.home / name, after, held_out)
        accuracies.append(after.accuracy)
    return accuracies


def changed(seed: int, count: int, args: argparse.Namespace) -> Changed:
    """Draw changed roofs, a whole and a damaged one of each building, once, and keep them in `home`."""
    file = args.home / f"changed-{seed}-{count}-{args.size}-{args.part}-{BLUR}-{GAMMA}-{NOISE}.npz"
    if not file.exists():
        coverings = {name: changed_colours(colours, args.part) for name, colours in buildings.COVERINGS.items()}
        with patch.dict(buildings.COVERINGS, coverings):
            roofs = show_progress(drawn(seed, count, args.size), count, "drawing roofs")
            pictures, damaged = zip(*roofs, strict=True)
        with replacing(file) as temporary, temporary.open("wb") as opened:
            joined = np.frombuffer(b"".join(pictures), np.uint8)
            np.savez(opened, joined=joined, ends=np.cumsum([*map(len, pictures)]), damaged=damaged)
    with np.load(file) as saved:
        pictures = tuple(one.tobytes() for one in np.split(saved["joined"], saved["ends"])[:-1])
        return Changed(pictures, saved["damaged"].astype(np.int64))


def changed_colours(colours: Sequence[Colour], part: float) -> tuple[Colour, ...]:
    """Mix each colour of a covering with each of the others, of which it gets that part."""
    mixed = [np.add(np.multiply(1 - part, own), np.multiply(part, other)) for own in colours for other in OTHER_COLOURS]
    return tuple((int(red), int(green), int(blue)) for red, green, blue in mixed)


def drawn(seed: int, count: int, size: int) -> Iterator[tuple[bytes, bool]]:
    for index in range(count):
        roof = render(seed, index, size)
        image = Image.fromarray(roof.image).filter(ImageFilter.GaussianBlur(BLUR * size / 96))
        pixels = 255 * (np.asarray(image, np.float64) / 255) ** GAMMA
        pixels += np.random.default_rng([seed, index]).normal(0, NOISE, pixels.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        yield file.getvalue(), bool(roof.mask.any())


def ask(run: Path, roofs: Changed) -> Asked:
    """Ask what a run serves."""
    spec = Spec.read(run / SPEC)
    backend = load_backend(run, spec)
    logits, features = [], []
    for start in range(0, len(roofs.pictures), BATCH):
        pictures = [decode(one, spec.preprocessing, spec.limits) for one in roofs.pictures[start : start + BATCH]]
        said, maps = backend.infer(to_batch(pictures, spec.preprocessing))
        logits.append(said.copy())
        features.append(maps.mean(axis=(2, 3)))
    probabilities = decision.calibrated(np.concatenate(logits), spec)
    truth = np.where(roofs.damaged, spec.labels.index(DAMAGED), spec.labels.index(INTACT))
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    scores = np.asarray(decision.scores(probabilities, spec), np.float64)
    return Asked(spec, scores, np.concatenate(features), right, tuple(decision.decide(scores, spec)))


def report(run: Path, asked: Asked, roofs: Changed) -> None:
    """Say on standard error what a run's rule makes of changed roofs."""
    outcomes, damaged = np.array(asked.outcomes), roofs.damaged == 1
    missed, alarms = (outcomes[damaged] == "pass").mean(), (outcomes[~damaged] == "flag").mean()
    print(
        f"{run.name}: accuracy {asked.accuracy:.4f}, missed {missed:.4f}, false alarms {alarms:.4f}, reviewed "
        f"{(outcomes == 'review').mean():.4f}",
        file=sys.stderr,
        flush=True,
    )


def by_cost(asked: Asked, count: int, _: np.random.Generator) -> Int64:
    """As the console's queue orders what it has."""
    rule = {"positive": (DAMAGED,), "threshold": asked.spec.decision.threshold}
    costs = [expected_cost(Answer(model="roofs", score=score, **rule)) for score in asked.scores.tolist()]
    return np.argsort(-np.array(costs), kind="stable")[:count]


def by_chance(asked: Asked, count: int, rng: np.random.Generator) -> Int64:
    return rng.permutation(len(asked.scores))[:count]


def by_half(asked: Asked, count: int, rng: np.random.Generator) -> Int64:
    """Half by cost, the others at random."""
    dear = by_cost(asked, count // 2, rng)
    others = np.setdiff1d(np.arange(len(asked.scores)), dear)
    return np.concatenate([dear, rng.permutation(others)[: count - len(dear)]])


def by_spread(asked: Asked, count: int, rng: np.random.Generator, among: int = 5) -> Int64:
    """Of five times as many dear ones those that differ most: each the farthest from those before it (Gonzalez 1985)."""
    dear = by_cost(asked, among * count, rng)
    features = asked.features[dear]
    chosen, distance = [0], np.full(len(dear), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return dear[chosen]


NOTHING = "nothing"
CHOICES: dict[str, Callable[[Asked, int, np.random.Generator], Int64]] = {
    "cost": by_cost,
    "random": by_chance,
    "half": by_half,
    "spread": by_spread,
}


def write_export(folder: Path, pool: Changed, chosen: Int64) -> Path:
    """Write the export that a console would write, of reviewers who see what the masks say."""
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    lines = []
    for row in chosen.tolist():
        digest = hashlib.sha256(pool.pictures[row]).hexdigest()
        (folder / PICTURES / digest).write_bytes(pool.pictures[row])
        label = DAMAGED if pool.damaged[row] else INTACT
        said = {"format": 1, "digest": digest, "label": label, "why": "review", "probability": None, "reviewer": "masks"}
        lines.append(json.dumps(said | {"time": "2026-01-01T00:00:00Z", "model": "roofs", "version": "1", "archive": None}))
    (folder / REVIEWS).write_text("".join(f"{line}\n" for line in lines))
    return folder


def difference(values: Float64) -> str:
    """The mean of paired differences over seeds, in points, with Student's interval of 95 %."""
    if len(values) < 2:
        return f"{100 * values.mean():+.1f} points"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{100 * values.mean():+.1f} points ({100 * (values.mean() - half):+.1f} to {100 * (values.mean() + half):+.1f})"


if __name__ == "__main__":
    sys.exit(main())

"""Measure what the drift alarm finds, and how often it is wrong: an archive of `roofs` beside roofs that it never saw.

`python -m loadtests.bench.drift --archive FILE.mar`: draws roofs, whole and changed, and stores their figures once, by the code
that serves. Many references are fitted on draws from one half of the unchanged ones, and each judges windows drawn from the other
half, and windows of each change. Prints what share of windows alarms, and how often the word, pictures or labels, is right.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from archives.files import sha256
from handlers import decision
from handlers.arrays import Float32, Int64, UInt8
from handlers.backends import Backend, load_backend
from handlers.decode import to_batch, view
from handlers.drift import REFERENCE, Reference, describe, pool
from handlers.predictor import Item, predict
from handlers.spec import BackendName, Network, Spec
from loadtests.bench.machine import describe as describe_machine
from loadtests.bench.model import SIDE, Model, make_archive, opened
from loadtests.bench.pictures import photos
from training.data.roofs import buildings
from training.data.roofs.roofs import DAMAGED, QUALITY, render
from training.evaluation.drift import Seen, fit
from watch.verdict import count, judge

SEED, SIZE, LARGER = 1000, 96, 128
"""Seed of the roofs, which is none that a network was trained with; side of their pictures, and of those of another size."""
AXES, TRAINING = 12, 500
CALM_WINDOWS, WINDOW = (120, 500, 2000), 500
RARE = 0.2
BATCH = 64
SERVED: tuple[BackendName, ...] = ("openvino", "openvino-int8")
OTHER_COLOURS = ((52, 96, 150), (62, 120, 70), (150, 60, 110), (196, 176, 70))
"""Blue, green, purple and yellow coverings, which the drawing has none of."""
Change = Callable[[Image.Image], Image.Image]
CHANGES: dict[str, Change] = {
    "blur of 1 pixel": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "brightness x 0.8": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "saturation x 0.3": lambda image: ImageEnhance.Color(image).enhance(0.3),
    "JPEG quality 20": lambda image: Image.open(io.BytesIO(_jpeg(image, 20))).convert("RGB"),
}
COLOURS, SIDES, LABELS = "other roof colours", "another size of pictures", "label shares 50 -> 20 %"


@dataclass(frozen=True)
class Pool:
    """What is kept of pictures. pictures: (N, 6); pooled: (N, C); scores: (N,); damaged: (N,), 0 or 1."""

    pictures: Float32
    pooled: Float32
    scores: Float32
    damaged: Int64

    def rows(self, chosen: Int64) -> "Pool":
        """Choose rows."""
        return Pool(self.pictures[chosen], self.pooled[chosen], self.scores[chosen], self.damaged[chosen])

    @property
    def seen(self) -> Seen:
        """As a reference is fitted on it."""
        return Seen(self.pictures, self.pooled, self.scores)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def drawn(images: range, size: int, name: str, folder: Path) -> Iterator[tuple[UInt8, bool]]:
    """Give roofs, (size, size, 3) uint8 each, and whether they are damaged; drawn once and kept in `folder`."""
    file = folder / f"roofs-{name}-{images.start}-{images.stop}-{size}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        roofs = [render(SEED, index, size) for index in images]
        np.savez(file, pixels=[roof.image for roof in roofs], damaged=[roof.label == DAMAGED for roof in roofs])
    with np.load(file) as arrays:
        yield from zip(arrays["pixels"], arrays["damaged"].tolist(), strict=True)


def look(pictures: Iterator[tuple[bytes, bool]], spec: Spec, backend: Backend) -> Pool:
    """Compute what is kept of encoded pictures, by the code that serves."""
    found: list[tuple[tuple[float, ...], UInt8, bool]] = []
    parts: list[Pool] = []

    def flush() -> None:
        logits, maps = backend.infer(to_batch([pixels for _, pixels, _ in found], spec.preprocessing))
        scores = decision.scores(decision.calibrated(logits, spec), spec).astype(np.float32)
        described = np.array([one for one, _, _ in found], dtype=np.float32)
        parts.append(Pool(described, pool(maps), scores, np.array([int(damaged) for *_, damaged in found])))
        found.clear()

    for data, damaged in pictures:
        seen = view(data, spec.preprocessing, spec.limits)
        found.append((describe(seen.pixels, seen.sides), seen.pixels, damaged))
        if len(found) == BATCH:
            flush()
    if found:
        flush()
    return Pool(*(np.concatenate([getattr(part, name) for part in parts]) for name in Pool.__dataclass_fields__))


def look_at_all(model: Model, images: int, changed: int, folder: Path) -> dict[str, Pool]:
    """Look at the unchanged pool, "", of `images` pictures, and at one for each change, of the last `changed` of them.

    What was found is kept in `folder`, by the archive.
    """
    file = folder / f"pools-{sha256(model.archive)[:16]}-{images}-{changed}.npz"
    if not file.exists():
        pools = _look_at_all(model, images, changed, folder)
        np.savez(file, **{f"{name}/{field}": value for name, one in pools.items() for field, value in vars(one).items()})
    with np.load(file) as arrays:
        names = dict.fromkeys(key.rpartition("/")[0] for key in arrays)
        return {name: Pool(*(arrays[f"{name}/{field}"] for field in Pool.__dataclass_fields__)) for name in names}


def _look_at_all(model: Model, images: int, changed: int, folder: Path) -> dict[str, Pool]:
    spec, backend, some = model.spec, load_backend(model.unpacked, model.spec), range(images - changed, images)

    def encoded(pictures: Iterable[tuple[UInt8, bool]], change: Change | None = None) -> Pool:
        made = ((Image.fromarray(pixels), damaged) for pixels, damaged in pictures)
        return look(((_jpeg(change(image) if change else image, QUALITY), damaged) for image, damaged in made), spec, backend)

    plain = list(drawn(range(images), SIZE, "plain", folder))
    pools = {"": encoded(plain)} | {name: encoded(plain[-changed:], change) for name, change in CHANGES.items()}
    with patch.dict(buildings.COVERINGS, dict.fromkeys(buildings.COVERINGS, OTHER_COLOURS)):
        pools[COLOURS] = encoded(drawn(some, SIZE, "colours", folder))
    return pools | {SIDES: encoded(drawn(some, LARGER, "plain", folder))}


@dataclass
class Found:
    """What windows of one kind gave. `alarms`: by reference, the share of its windows; `words` and `first`: of each alarm, its
    word, and the figure that is furthest above its limit.
    """

    alarms: list[float]
    words: list[str]
    first: list[str]

    def line(self, name: str, images: int) -> str:
        """Write the table's row. The worst reference is the one with most false alarms, or that finds a change least."""
        first = max(set(self.first), key=self.first.count) if self.first else "-"
        right = self.words.count("labels" if name == LABELS else "pictures")
        word = f"{right / len(self.words):.1%}" if self.words and name else "-"
        share, worst = np.mean(self.alarms), (min if name else max)(self.alarms)
        return f"| {name or 'not shifted'} | {images} | {share:.2%} | {worst:.1%} | {word} | {first} |"


HEAD = """| live images | window | windows that alarm | of the worst reference's | right word | figure that moved most |
| --- | --- | --- | --- | --- | --- |"""


def study(
    pools: dict[str, Pool], references: int, windows: int, shifted: int, images: int, seed: int = 0
) -> dict[tuple[str, int], Found]:
    """Let `references`, each of `images` calibration images, judge `windows` unchanged windows, and `shifted` of each change."""
    rng, whole = np.random.default_rng(seed), pools[""]
    half = len(whole.scores) * 2 // 5
    live = {"": whole.rows(np.arange(half, len(whole.scores))), **{name: one for name, one in pools.items() if name}}
    live[LABELS] = live[""]
    found = {(name, size): Found([], [], []) for name in live for size in ((WINDOW,) if name else CALM_WINDOWS)}
    for _ in range(references):
        rows = rng.permutation(half)
        known, training = whole.rows(rows[:images]), whole.rows(rows[-TRAINING:])
        reference = fit(training.pooled, known.seen, known.damaged, known.seen, AXES, 2).reference
        bins = {name: _bins(one, reference) for name, one in live.items()}
        for (name, size), one in found.items():
            drawn_rows = (_window(rng, live[name], size, name == LABELS) for _ in range(shifted if name else windows))
            verdicts = [judge(reference, count(bins[name][rows], reference)) for rows in drawn_rows]
            alarming = [verdict for verdict in verdicts if verdict.moved]
            one.alarms.append(len(alarming) / len(verdicts))
            one.words.extend(verdict.word for verdict in alarming)
            one.first.extend(verdict.moved[0].name for verdict in alarming)
    return found


def _bins(live: Pool, reference: Reference) -> Int64:
    return np.array(reference.bins(live.pictures, live.pooled, live.scores))


def _window(rng: np.random.Generator, live: Pool, size: int, rare: bool) -> Int64:
    """Draw a window's rows, without repeating one; where damage is `rare`, a fifth of them are damaged."""
    if not rare:
        return np.asarray(rng.choice(len(live.scores), size, replace=False))
    damaged = int(rng.binomial(size, RARE))
    sides = [
        rng.choice(np.flatnonzero(live.damaged == k), many, replace=False) for k, many in ((1, damaged), (0, size - damaged))
    ]
    return np.concatenate(sides)


def cost(model: Model, reference: Reference, requests: int) -> tuple[float, float]:
    """Measure CPU seconds of one image's bins, and of its whole answer without them and without the server around it."""
    spec, backend, items = model.spec, load_backend(model.unpacked, model.spec), [Item(picture) for picture in photos()]
    seen = [view(picture, spec.preprocessing, spec.limits) for picture in photos()]
    maps = backend.infer(to_batch([seen[0].pixels], spec.preprocessing))[1]
    step = answer = 0.0
    for number in range(requests):
        begun = time.process_time()  # the network may have a thread of its own
        predict([items[number % len(items)]], spec, backend)
        answer += time.process_time() - begun
        begun = time.thread_time()
        one = seen[number % len(seen)]
        reference.bins([describe(one.pixels, one.sides)], pool(maps), [0.5])
        step += time.thread_time() - begun
    return step / requests, answer / requests


def print_cost(network: Network, reference: Reference, requests: int) -> None:
    """Print `cost` beside a network of the usual size, with random weights, on each backend."""
    for backend in SERVED:
        with tempfile.TemporaryDirectory() as folder, opened(*make_archive(network, backend, Path(folder))) as model:
            step, answer = cost(model, reference, requests)
        share = f"{step / answer:.2%} of the {answer * 1e3:.2f} ms of its answer"
        print(f"an image's bins beside {network} at {SIDE} pixels on {backend}: {step * 1e3:.3f} ms of CPU, {share}")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.drift",
        description="Measure how often the drift alarm is wrong, and what it finds, on drawn roofs. Stores their figures once "
        "in --out, and prints a table.",
        epilog="Exit codes: 0 the table was made; 1 an error, with its traceback; 2 a mistyped command line.",
    )
    parser.add_argument("--archive", type=Path, required=True, metavar="FILE.mar", help="signed archive of roofs (required)")
    parser.add_argument(
        "--public-key", type=Path, default=Path("keys/visor.pub"), metavar="FILE", help="its public key (default: %(default)s)"
    )
    parser.add_argument("--images", type=int, default=20000, help="roofs to draw (default: %(default)s)")
    parser.add_argument("--changed", type=int, default=2000, help="roofs of each change (default: %(default)s)")
    parser.add_argument("--calibration", type=int, default=240, help="images of each reference (default: %(default)s)")
    parser.add_argument("--references", type=int, default=100, help="references (default: %(default)s)")
    parser.add_argument("--windows", type=int, default=100, help="unchanged windows for each reference (default: %(default)s)")
    parser.add_argument(
        "--shifted", type=int, default=20, help="windows of each change for each reference (default: %(default)s)"
    )
    parser.add_argument(
        "--requests", type=int, default=10000, help="answers whose CPU time is measured; 0 for none (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench/drift"),
        metavar="FOLDER",
        help="folder of the figures (default: %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and the machine."""
    args = parse_args(argv)
    with opened(args.archive, args.public_key) as model:
        pools, kept = look_at_all(model, args.images, args.changed, args.out), Reference.read(model.unpacked / REFERENCE)
    found = study(pools, args.references, args.windows, args.shifted, args.calibration)
    print(HEAD)
    for (name, size), one in found.items():
        print(one.line(name, size))
    if kept and args.requests:
        print_cost(model.spec.network, kept, args.requests)
    settings = {"images": args.images, "references": args.references, "windows": args.windows, "calibration": args.calibration}
    facts = {**settings, **describe_machine(["numpy", "scipy", "openvino", "pillow"])}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure what `handlers.decode` costs and changes, beside decoding the whole picture and scaling it afterwards.

`python -m loadtests.bench.decode --run runs/roofs`: a table of milliseconds for JPEGs of growing sides, one thread, against
the baseline, plain Pillow; then the accuracy on all that the run was not fitted to, its pictures scaled up to large JPEGs.
simplejpeg and OpenCV have columns of their own where they are installed; visor itself needs neither.
"""

import argparse
import importlib
import importlib.util
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from archives.contents import SPEC
from handlers.arrays import UInt8
from handlers.backends import Backend, TorchBackend
from handlers.decode import decode, to_batch
from handlers.spec import Spec
from loadtests.bench.machine import describe
from loadtests.bench.pictures import photo
from training import runs
from training.data.manifest import Manifest, Split
from training.progress import show_progress

Decoder = Callable[[bytes], UInt8]
"""An encoded JPEG → (H, W, 3) uint8 RGB at the network's size."""

SIZES = ((224, 224), (512, 384), (1024, 768), (2048, 1536), (4000, 3000))
"""Width and height in pixels; the last is a phone's 12 megapixels."""
SECONDS, LEAST = 1.0, 3
"""How long each decoder is asked about a size in a round, and how often at least."""
HELD_OUT: Sequence[Split] = ("val", "calibration", "test")
BASELINE, OURS = "plain Pillow", "visor"


def decoders(spec: Spec) -> dict[str, Decoder]:
    """Those of this environment, the baseline first. All scale the whole picture to the network's size."""
    size = (spec.preprocessing.width, spec.preprocessing.height)
    resample = Image.Resampling[spec.preprocessing.interpolation.upper()]

    def plain(data: bytes) -> UInt8:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize(size, resample))

    found: dict[str, Decoder] = {BASELINE: plain, OURS: lambda data: decode(data, spec.preprocessing, spec.limits)}
    if importlib.util.find_spec("simplejpeg"):
        simplejpeg: Any = importlib.import_module("simplejpeg")

        def simple(data: bytes) -> UInt8:
            pixels = simplejpeg.decode_jpeg(data, min_width=2 * size[0], min_height=2 * size[1], min_factor=1)
            return np.asarray(Image.fromarray(pixels).resize(size, resample))

        found["simplejpeg, DCT-scaled"] = simple
    if importlib.util.find_spec("cv2"):
        cv2: Any = importlib.import_module("cv2")
        cv2.setNumThreads(1)

        def opencv(data: bytes) -> UInt8:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))

        found["OpenCV"] = opencv
    return found


def measure(found: Mapping[str, Decoder], data: bytes, rounds: int) -> dict[str, float]:
    """The least milliseconds of each decoder, which take turns so that a noisy machine is noisy for all of them."""
    least = dict.fromkeys(found, float("inf"))
    for _ in range(rounds):
        for name, decoder in found.items():
            end, count = time.perf_counter() + SECONDS / rounds, 0
            while count < LEAST or time.perf_counter() < end:
                start = time.perf_counter()
                decoder(data)
                least[name] = min(least[name], (time.perf_counter() - start) * 1e3)
                count += 1
    return least


def accuracies(run: Path, spec: Spec, found: Mapping[str, Decoder], width: int, height: int) -> dict[str, float]:
    """Of the run's network on HELD_OUT, each picture scaled up to a JPEG of width x height, by each decoder."""
    root, manifest = runs.read_record(run).dataset_root, Manifest.read(run / runs.MANIFEST)
    samples = [sample for split in HELD_OUT for sample in manifest.samples_of(split)]
    backend = TorchBackend(run, spec)
    right = dict.fromkeys(found, 0)
    for sample in show_progress(samples, len(samples), "scaling up and decoding"):
        file = io.BytesIO()
        Image.open(root / sample.path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG")
        for name, decoder in found.items():
            right[name] += spec.labels[_predict(backend, spec, decoder(file.getvalue()))] == sample.label
    return {name: count / len(samples) for name, count in right.items()}


def _predict(backend: Backend, spec: Spec, image: UInt8) -> int:
    return int(backend.infer(to_batch([image], spec.preprocessing))[0].argmax())


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown. rows: by picture, milliseconds by decoder; ratios are to the baseline."""
    names = list(next(iter(rows.values())))
    lines = [f"| JPEG | {' | '.join(f'{name}, ms' for name in names)} | {BASELINE} / {OURS} |", "| --- " * (len(names) + 2) + "|"]
    for picture, times in rows.items():
        cells = " | ".join(f"{times[name]:.2f}" for name in names)
        lines.append(f"| {picture} | {cells} | {times[BASELINE] / times[OURS]:.1f} |")
    return "\n".join(lines)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.decode",
        description="Measure how long visor and other decoders take to decode and scale JPEGs, and how accurate answers are. "
        "Reads a finished run and its images; prints a table of milliseconds by JPEG size, then each decoder's accuracy.",
        epilog="Exit codes: 0 the figures were measured; 1 an error, with its traceback; 2 a mistyped command line.",
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="RUN", help="folder of the finished run, such as runs/roofs (required)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="NUMBER",
        help="number of rounds, in each of which every decoder takes its turn; the least time counts (default: %(default)s)",
    )
    parser.add_argument(
        "--accuracy-size",
        type=int,
        nargs=2,
        default=(2048, 1536),
        metavar=("WIDTH", "HEIGHT"),
        help="pixels of the JPEGs that the images are scaled up to before the accuracy is measured (default: 2048 1536)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables and the machine."""
    args = parse_args(argv)
    spec = Spec.read(args.run / SPEC)
    found = decoders(spec)
    rows = {}
    for width, height in SIZES:
        data = photo(0, width, height)
        rows[f"{width} x {height}, {len(data) / 1e3:.0f} KB"] = measure(found, data, args.rounds)
    print(table(rows))
    width, height = args.accuracy_size
    print(f"\nAccuracy on {', '.join(HELD_OUT)} of {spec.name}, scaled up to JPEGs of {width} x {height}:")
    for name, accuracy in accuracies(args.run, spec, found, width, height).items():
        print(f"{name}: {accuracy:.2%}")
    print("\n" + ", ".join(f"{name} {value}" for name, value in describe(["pillow", "numpy"]).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

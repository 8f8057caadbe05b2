"""Measure what `handlers.decode` costs and changes, beside decoding the whole picture and scaling it afterwards.

`python -m loadtests.bench.decode --run runs/roofs`: a table of milliseconds for JPEGs of growing sides, one thread, against
the baseline, plain Pillow; then the accuracy on all that the run was not fitted to, its pictures scaled up to large JPEGs.
simplejpeg and OpenCV have columns of their own where they are installed; visor itself needs neither.

`python -m loadtests.bench.decode --older CODE` compares with `handlers.decode` of other code, such as a worktree of an earlier
commit: a table of time ratios by JPEG size, each code in a process of its own, in turns.
"""

import argparse
import importlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
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
from visor.serving.launch import MAPPED

Decoder = Callable[[bytes], UInt8]
"""An encoded JPEG → (H, W, 3) uint8 RGB at the network's size."""

SIZES = ((224, 224), (512, 384), (1024, 768), (2048, 1536), (4000, 3000))
"""Width and height in pixels; the last is a phone's 12 megapixels."""
SECONDS, LEAST = 1.0, 3
"""How long each decoder is asked about a size in a round, and how often at least."""
ROUNDS, TURN_SECONDS = 20, 0.1
"""How often the older code and this one take turns at a JPEG, and how long a turn is."""
T95 = 2.093
"""Student's t of 19 degrees of freedom, for an interval of 95 % from ROUNDS."""
TURNS = """
import json, sys, time
from handlers.decode import decode
from handlers.spec import Limits, Preprocessing
view, limits = Preprocessing(height=224, width=224, mean=(0.5,) * 3, std=(0.5,) * 3), Limits()
for line in sys.stdin:
    asked = json.loads(line)
    with open(asked["file"], "rb") as file:
        data = file.read()
    decode(data, view, limits)
    least, end = float("inf"), time.process_time() + asked["seconds"]
    while time.process_time() < end:
        start = time.thread_time()
        decode(data, view, limits)
        least = min(least, time.thread_time() - start)
    print(least * 1e3, flush=True)
"""
"""What each process of a comparison runs: the least CPU milliseconds of a picture in a turn."""
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


def compare(older: Path, folder: Path) -> dict[str, tuple[float, float, float]]:
    """By JPEG size: the older code's milliseconds, the mean ratio of this code's time to it over ROUNDS, and half of the ratio's
    95 % interval. `folder`: where the JPEGs are kept meanwhile."""
    here = Path(__file__).parents[2]
    files = {f"{width} x {height}": folder / f"{width}.jpg" for width, height in SIZES}
    for (width, height), file in zip(SIZES, files.values(), strict=True):
        file.write_bytes(photo(0, width, height))
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in files}
    for n in range(ROUNDS):
        # New processes each time: where a process's heap happens to lie makes up to a quarter of a picture's time.
        with _turns(older) as before, _turns(here) as after:
            for name, file in files.items():
                first, second = (before, after) if n % 2 else (after, before)
                times = _take_turn(first, file), _take_turn(second, file)
                pairs[name].append(times if n % 2 else (times[1], times[0]))
    found = {}
    for name, times_of in pairs.items():
        old, new = np.array(times_of).T
        ratios = new / old
        found[name] = (float(old.min()), float(ratios.mean()), T95 * float(ratios.std(ddof=1)) / ROUNDS**0.5)
    return found


def _turns(code: Path) -> "subprocess.Popen[str]":
    # As a worker's C library: otherwise a heap's end that happens to move up and down costs more than all of a small picture.
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(MAPPED), "MALLOC_TRIM_THRESHOLD_": str(2 * MAPPED)}
    return subprocess.Popen(
        [sys.executable, "-c", TURNS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=code,
        env={**os.environ, **malloc, "PYTHONPATH": str(code.resolve())},
    )


def _take_turn(process: "subprocess.Popen[str]", file: Path) -> float:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write(json.dumps({"file": str(file), "seconds": TURN_SECONDS}) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


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
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="RUN", help="folder of the finished run, such as runs/roofs")
    what.add_argument(
        "--older",
        type=Path,
        metavar="CODE",
        help="compare with the decoder of other code instead, a folder that holds handlers/; needs no run",
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
    if args.older:
        with tempfile.TemporaryDirectory() as folder:
            print("| JPEG | older, ms | this / older | 95 % |\n| --- | --- | --- | --- |")
            for name, (old, ratio, half) in compare(args.older, Path(folder)).items():
                print(f"| {name} | {old:.2f} | {ratio:.3f} | {ratio - half:.3f} to {ratio + half:.3f} |")
        print("\n" + ", ".join(f"{name} {value}" for name, value in describe(["pillow", "numpy"]).items()))
        return 0
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

"""Whether a run answers alike on other CPUs: its backend's logits where oneDNN is held to fewer instructions, as Markdown.

    python docs/examples/instruction_sets.py RUN --images 200

Each set of instructions has a process of its own, whose ONEDNN_MAX_CPU_ISA names it, and sees the same test images. The kernels
that OpenVINO then says it runs are counted, as the variable may ask for what changes nothing. docs/backends.md has the result.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from archives.contents import SPEC
from handlers import decision
from handlers.arrays import Float32
from handlers.backends import OpenVINOBackend, load_backend
from handlers.spec import Spec
from training import runs
from training.data.manifest import Manifest
from training.data.pixels import Pictures
from training.evaluation.answers import infer_all, samples_of, spread

VARIABLE, DEFAULT = "ONEDNN_MAX_CPU_ISA", "default"


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.keep:
        answer(args.run, args.images, args.keep)
        return 0
    spec = Spec.read(args.run / SPEC)
    answers = {name: ask(name, args.run, args.images) for name in (DEFAULT, *args.sets)}
    reference, _ = answers[DEFAULT]
    print(f"| {spec.backend} held to | convolutions | largest difference of a logit | of a probability | labels, ", end="")
    print("decisions that differ |")
    print("| --- | --- | --- | --- | --- |")
    for name, (logits, kernels) in answers.items():
        (labels, outcomes), (theirs, expected) = (decide(one, spec) for one in (logits, reference))
        probability = np.abs(decision.calibrated(logits, spec) - decision.calibrated(reference, spec)).max()
        print(
            f"| {name} | {kernels} | {np.abs(logits - reference).max():.2g} | {probability:.2g} "
            f"| {(labels != theirs).sum()}, {(outcomes != expected).sum()} of {len(logits)} |"
        )
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--sets", nargs="+", default=["SSE41", "AVX2", "AVX512_CORE"])
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def ask(name: str, run: Path, images: int) -> tuple[Float32, str]:
    """Answer in a process of its own; returns the logits, (N, K), and the kernels of its convolutions."""
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    if name != DEFAULT:
        environment[VARIABLE] = name
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "answers.npz"
        command = [sys.executable, __file__, str(run), "--images", str(images), "--keep", str(kept)]
        subprocess.run(command, env=environment, check=True)
        saved = np.load(kept)
        return saved["logits"], ", ".join(f"{count} {kernel}" for kernel, count in json.loads(str(saved["kernels"])).items())


def answer(run: Path, images: int, kept: Path) -> None:
    """Keep the logits of test images and what OpenVINO says of its convolutions' kernels."""
    spec, manifest = Spec.read(run / SPEC), Manifest.read(run / runs.MANIFEST)
    backend = load_backend(run, spec)
    pictures = Pictures(runs.read_record(run).dataset_root, manifest)
    logits, _ = infer_all(spread(samples_of(manifest, "test"), images), spec, backend, pictures, "answering")
    kernels: Counter[str] = Counter()
    if isinstance(backend, OpenVINOBackend):
        told = [operation.get_rt_info() for operation in backend._model.get_runtime_model().get_ordered_ops()]
        kernels.update(one["primitiveType"].astype(str) for one in told if "Convolution" in one["layerType"].astype(str))
    np.savez(kept, logits=logits, kernels=json.dumps(dict(kernels.most_common())))


def decide(logits: Float32, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Labels and decisions, (N,) each."""
    probs = decision.calibrated(logits, spec)
    return probs.argmax(axis=1), np.array(decision.decide(decision.scores(probs, spec), spec))


if __name__ == "__main__":
    sys.exit(main())

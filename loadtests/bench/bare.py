"""The baseline: the archive's own decoding and network in a loop, with no server around it and one process a core.

The process reads a line of JSON for each loop, {"seconds", "width", "height"}, and answers with a line of its latencies.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from loadtests.bench.figures import Load, merged
from loadtests.bench.pictures import HEIGHT, WIDTH, photos
from loadtests.bench.processes import stop
from loadtests.errors import ServerFailed
from loadtests.peers.environment import environment_of


class Bare:
    """Processes that have the network loaded and wait for a loop to run."""

    def __init__(self, processes: "list[subprocess.Popen[bytes]]") -> None:
        self.processes = processes

    def run(self, count: int, seconds: float, width: int = WIDTH, height: int = HEIGHT) -> Load:
        """Run the loop in `count` of the processes at once. Raises ServerFailed."""
        order = json.dumps({"seconds": seconds, "width": width, "height": height}).encode() + b"\n"
        chosen = self.processes[:count]
        for process in chosen:
            _input(process, order)
        return merged([_output(process) for process in chosen])

    def label(self) -> str:
        """What the network says of the first picture. Raises ServerFailed."""
        _input(self.processes[0], b"{}\n")
        return str(_line(self.processes[0])["label"])


@contextmanager
def running(model: Path, count: int) -> Iterator[Bare]:
    """Processes of the unpacked archive `model`, until the block's end; they have loaded it. Raises ServerFailed."""
    command = [sys.executable, "-m", "loadtests.bench.bare", "--model", str(model)]
    environment = {**environment_of(), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with ExitStack() as stack:
        processes = []
        for _ in range(count):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
            )
            stack.callback(stop, process)
            processes.append(process)
        bare = Bare(processes)
        for process in processes:
            _line(process)
        yield bare


def _input(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    if process.stdin is None:
        raise RuntimeError("a process that was started with a pipe has one")
    process.stdin.write(line)
    process.stdin.flush()


def _output(process: "subprocess.Popen[bytes]") -> Load:
    answer = _line(process)
    return Load(answer["latencies_s"], answer["elapsed_s"])


def _line(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    if process.stdout is None:
        raise RuntimeError("a process that was started with a pipe has one")
    line = process.stdout.readline()
    if not line:
        raise ServerFailed(f"the bare loop ended with {process.wait()}; its own words are above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def main(argv: list[str] | None = None) -> int:
    """Load the network, say so, and run loops until the input ends."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.bare",
        description="Run an archive's decoding and network in a loop, without a server around them. `python -m loadtests.bench` "
        "starts this process: it prints a line when it is ready, reads one JSON object with seconds, width and height (of the "
        "JPEGs, in pixels) a line from standard input, and prints a line of latencies in seconds for each; {} asks for a label.",
        epilog="Exit codes: 0 standard input has ended; 1 an error, with its traceback; 2 a mistyped command line.",
    )
    parser.add_argument(
        "--model", type=Path, required=True, metavar="FOLDER", help="folder that a visor archive was unpacked into (required)"
    )
    serve(parser.parse_args(argv).model)
    return 0


def serve(directory: Path) -> None:
    """Answer the lines of standard input on standard output."""
    from handlers.backends import load_backend
    from handlers.predictor import Answer, Item, predict
    from handlers.spec import Spec

    spec = Spec.read(directory / "spec.json")
    if spec.backend == "torch":
        import torch

        torch.set_num_threads(1)  # as visor's worker does
    backend = load_backend(directory, spec)

    def answer(image: bytes) -> Answer:
        (result,) = predict([Item(image)], spec, backend)
        if not isinstance(result, Answer):
            raise result
        return result

    _say({"ready": os.getpid()})
    for line in sys.stdin:
        order = json.loads(line)
        if not order:
            _say({"label": answer(photos(1)[0]).label})
            continue
        images = photos(width=order["width"], height=order["height"])
        answer(images[0])
        latencies: list[float] = []
        start = now = time.perf_counter()
        while now - start < order["seconds"]:
            answer(images[len(latencies) % len(images)])
            latencies.append(-now + (now := time.perf_counter()))
        _say({"latencies_s": latencies, "elapsed_s": now - start})


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

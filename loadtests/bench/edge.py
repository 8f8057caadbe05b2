"""What the V2 edge costs: the same pictures through it and straight to the TorchServe behind it, in turns, one at a time.

    python loadtests/bench/edge.py ARCHIVE IMAGE [--count 300]

Starts `visor serve` on free loopback ports, asks each path in turns so that a noisy machine is noisy for all of them, and
prints minimum, median and 95th percentile in milliseconds with the median's ratio to the baseline, TorchServe alone.
"""

import argparse
import base64
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
import tritonclient.grpc
import tritonclient.http
from rich.console import Console
from rich.table import Table

WARM_UP = 20
READY_TIMEOUT_S = 120.0
BASELINE = "TorchServe alone"


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("archive")
    parser.add_argument("image", type=Path)
    parser.add_argument("--count", type=int, default=300, help="requests on each path (default: %(default)s)")
    args = parser.parse_args(argv)
    log = Path(f"{args.archive}.bench.log")
    command = [sys.executable, "-m", "visor.cli", "serve", args.archive, "--port", "0"]
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        rest, grpc, name = wait_ready(server, log)
        paths = make_paths(torchserve_of(server), rest, grpc, name, args.image.read_bytes())
        times = measure(paths, args.count)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
        log.unlink()
    show(times, args.image)
    return 0


def wait_ready(server: "subprocess.Popen[bytes]", log: Path) -> tuple[str, str, str]:
    """(REST, gRPC, model name) once the server announces them."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"REST +http://([^/]+)/v2/models/(\S+)\s+gRPC +(\S+)", log.read_text())
        if found:
            return found[1], found[3], found[2]
        time.sleep(0.1)
    raise SystemExit(f"visor serve was not ready:\n{log.read_text()}")


def torchserve_of(server: "subprocess.Popen[bytes]") -> str:
    """The inference address of the server's own TorchServe, from the configuration on its command line."""
    java = next(child for child in psutil.Process(server.pid).children() if "org.pytorch.serve.ModelServer" in child.cmdline())
    config = Path(java.cmdline()[java.cmdline().index("-f") + 1]).read_text()
    return re.search(r"inference_address=(\S+)", config)[1]  # type: ignore[index]


def make_paths(torchserve: str, rest: str, grpc: str, name: str, image: bytes) -> dict[str, Callable[[], object]]:
    """One call for each way to ask."""
    direct, plain = httpx.Client(base_url=torchserve), httpx.Client(base_url=f"http://{rest}")
    headers = {"content-type": "application/octet-stream"}
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(image).decode()]}
    calls: dict[str, Callable[[], object]] = {
        BASELINE: lambda: direct.post(f"/predictions/{name}", content=image, headers=headers).raise_for_status(),
        "V2 REST, JSON": lambda: plain.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}).raise_for_status(),
    }
    for label, protocol, url in (("V2 REST, binary", tritonclient.http, rest), ("V2 gRPC", tritonclient.grpc, grpc)):
        client = protocol.InferenceServerClient(url)
        raw = protocol.InferInput("image", [1], "BYTES")
        raw.set_data_from_numpy(np.array([image], dtype=np.object_))
        calls[label] = lambda client=client, raw=raw: client.infer(name, [raw])  # type: ignore[misc]
        calls[f"{label}, heat map"] = lambda client=client, raw=raw: client.infer(name, [raw], parameters={"explain": True})  # type: ignore[misc]
    return calls


def measure(paths: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Milliseconds of each call, the paths in turns."""
    times: dict[str, list[float]] = {label: [] for label in paths}
    for n in range(WARM_UP + count):
        for label, call in paths.items():
            start = time.perf_counter()
            call()
            if n >= WARM_UP:
                times[label].append((time.perf_counter() - start) * 1000)
    return times


def show(times: dict[str, list[float]], image: Path) -> None:
    """Print the table."""
    table = Table(
        "path", "min ms", "p50 ms", "p95 ms", "p50 / baseline", title=f"{image.name}, {image.stat().st_size} bytes, one at a time"
    )
    base = float(np.median(times[BASELINE]))
    for label, values in times.items():
        low, middle, high = np.percentile(values, [0, 50, 95])
        table.add_row(label, f"{low:.2f}", f"{middle:.2f}", f"{high:.2f}", f"{middle / base:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())

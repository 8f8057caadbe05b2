"""Ray Serve: a deployment with one replica for each worker, behind its HTTP proxy, as its documentation has it.

https://docs.ray.io/en/latest/serve/getting_started.html
"""

import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

# Read when ray is imported: no report of use to anybody, and no token in the home folder of who runs this.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

import ray
from ray import serve
from starlette.requests import Request

from loadtests.peers.classifier import Classifier, parse_args


@serve.deployment
class Served:
    """The classifier; each replica is a process that loads its own. POST / with the encoded image."""

    def __init__(self, directory: Path) -> None:
        self._classifier = Classifier(directory)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one image."""
        labels, probabilities = self._classifier.answer([await request.body()])
        return {"label": labels[0], "probabilities": probabilities[0].tolist()}


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    args = parse_args(argv, __doc__)
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(num_cpus=args.workers, include_dashboard=False, _temp_dir=folder)
        serve.start(http_options={"host": "127.0.0.1", "port": args.port})
        serve.run(Served.options(num_replicas=args.workers).bind(args.model.resolve()))  # type: ignore[attr-defined]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()

"""BentoML: a service with one worker process for each CPU, as its documentation has it.

https://docs.bentoml.com/en/latest/build-with-bentoml/services.html
"""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

from loadtests.peers.classifier import Classifier, parse_args

# The worker processes import this module anew and get no arguments.
MODEL, WORKERS = "BENTOML_PEER_MODEL", "BENTOML_PEER_WORKERS"


@bentoml.service(workers=int(os.environ.get(WORKERS, "1")))
class Served:
    """The classifier; each worker loads its own. POST /classify with the form's file `image`."""

    def __init__(self) -> None:
        self._classifier = Classifier(Path(os.environ[MODEL]))

    @bentoml.api  # type: ignore[untyped-decorator]
    def classify(self, image: Path) -> dict[str, Any]:
        """Answer one image, which BentoML has laid into a file."""
        labels, probabilities = self._classifier.answer([image.read_bytes()])
        return {"label": labels[0], "probabilities": probabilities[0].tolist()}


def main(argv: list[str] | None = None) -> None:
    """Become `bentoml serve`, until SIGTERM."""
    args = parse_args(argv, __doc__)
    own = {MODEL: str(args.model.resolve()), WORKERS: str(args.workers), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "bentoml", "serve", f"{Path(__file__).stem}:Served", "--host", "127.0.0.1"]
    options = ["--port", str(args.port), "--working-dir", str(Path(__file__).parent)]
    os.execve(sys.executable, [*command, *options], {**os.environ, **own})


if __name__ == "__main__":
    main()

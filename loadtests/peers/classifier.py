"""What every peer serves: the network of an unpacked archive behind visor's own decoding, so that only the server differs.

Tensors as the peers name them: `image` BYTES [-1] in; `label` BYTES [-1] and `probabilities` FP32 [-1, K] out.
"""

import argparse
import base64
import binascii
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handlers.backends import load_backend
from handlers.errors import VisorError
from handlers.predictor import Item, predict
from handlers.spec import Spec


class Classifier:
    """One loaded archive. Not thread-safe: a backend answers one call at a time."""

    def __init__(self, directory: Path) -> None:
        self.spec = Spec.read(directory / "spec.json")
        self._backend = load_backend(directory, self.spec)

    def answer(self, images: Iterable[bytes | str]) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Encoded images, raw or base64 → N labels and probabilities (N, K) float32. Raises VisorError for a bad image."""
        labels: list[str] = []
        rows: list[npt.NDArray[np.float32]] = []
        for answer in predict([Item(raw_image(image)) for image in images], self.spec, self._backend):
            if isinstance(answer, VisorError):
                raise answer
            labels.append(answer.label)
            rows.append(answer.probabilities)
        return labels, np.stack(rows)


def raw_image(element: bytes | str) -> bytes:
    """One element of BYTES: JSON can carry an image as base64 only, the binary forms carry it as it is."""
    text = element.encode() if isinstance(element, str) else element
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text  # no format of an image consists of base64's alphabet alone


def parse_args(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """Parse the command line that all peers share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--model", type=Path, required=True, metavar="FOLDER", help="folder that a visor archive was unpacked into (required)"
    )
    parser.add_argument("--port", type=int, required=True, help="port for HTTP on 127.0.0.1 (required)")
    parser.add_argument("--grpc-port", type=int, help="port for gRPC, for servers that speak it (default: no gRPC)")
    parser.add_argument("--workers", type=int, default=1, help="number of processes that answer (default: %(default)s)")
    return parser.parse_args(argv)

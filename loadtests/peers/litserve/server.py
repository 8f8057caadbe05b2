"""LitServe: a LitAPI whose decode_request takes the uploaded file, as its documentation has it for images.

https://lightning.ai/docs/litserve/features/request-response-format
"""

from pathlib import Path
from typing import Any

import litserve
from fastapi import UploadFile

from loadtests.peers.classifier import Classifier, parse_args


class Api(litserve.LitAPI):  # type: ignore[misc]
    """The classifier; each worker process loads its own in `setup`. POST /predict with the form's field `request`."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def setup(self, _device: str) -> None:
        """Load the archive's network."""
        self._classifier = Classifier(self._directory)

    def decode_request(self, request: UploadFile) -> bytes:
        """The uploaded image, encoded."""
        return request.file.read()

    def predict(self, image: bytes) -> tuple[list[str], Any]:
        """Answer one image."""
        return self._classifier.answer([image])

    def encode_response(self, output: tuple[list[str], Any]) -> dict[str, Any]:
        """What goes out as JSON."""
        labels, probabilities = output
        return {"label": labels[0], "probabilities": probabilities[0].tolist()}


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    args = parse_args(argv, __doc__)
    server = litserve.LitServer(Api(args.model), accelerator="cpu", workers_per_device=args.workers)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False)


if __name__ == "__main__":
    main()

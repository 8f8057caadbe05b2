"""A custom handler in the shape of TorchServe's own: one class with preprocess, inference and postprocess."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ts.torch_handler.base_handler import BaseHandler

from loadtests.peers.classifier import Classifier


class ImageHandler(BaseHandler):  # type: ignore[misc]
    """Answers with probabilities. The envelope kservev2 hands it the inputs of one request and makes its answer V2's."""

    def initialize(self, context: Any) -> None:
        """Load the archive's network from the folder that TorchServe unpacked."""
        self._classifier = Classifier(Path(context.system_properties["model_dir"]))
        self.initialized = True

    def preprocess(self, data: list[dict[str, Any]]) -> list[str]:
        """The envelope's inputs → base64 images: of BYTES it keeps the first element, as a string."""
        return [tensor["data"] for tensor in data]

    def inference(self, data: list[str], *_: object, **__: object) -> npt.NDArray[np.float32]:
        """Images → probabilities (N, K) float32. Raises VisorError, which TorchServe answers with 503."""
        return self._classifier.answer(data)[1]

    def postprocess(self, data: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """One row for each input, as the envelope wants it."""
        return list(data)

"""The classifier as Triton's Python backend loads it: one object in each instance's process.

https://github.com/triton-inference-server/python_backend#usage
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from classifier import raw_image  # loadtests/peers/classifier.py, copied beside this file

from handlers.backends import load_backend
from handlers.errors import VisorError
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec

OUTPUTS: dict[str, Callable[[list[Answer]], Any]] = {
    "label": lambda answers: np.array([answer.label.encode() for answer in answers], dtype=np.object_),
    "confidence": lambda answers: np.array([answer.confidence for answer in answers], dtype=np.float32),
    "probabilities": lambda answers: np.stack([answer.probabilities for answer in answers]),
    "decision": lambda answers: np.array([answer.decision.encode() for answer in answers], dtype=np.object_),
}


class TritonPythonModel:
    """The model; its methods' names are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        directory = Path(json.loads(args["model_config"])["parameters"]["archive"]["string_value"])
        self._spec = Spec.read(directory / "spec.json")
        self._backend = load_backend(directory, self._spec)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        images = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        answers: list[Answer] = []
        for answer in predict([Item(raw_image(image)) for image in images.ravel()], self._spec, self._backend):
            if isinstance(answer, VisorError):
                return error(str(answer))
            answers.append(answer)
        if not answers:
            return error("no image")
        return pb_utils.InferenceResponse(output_tensors=list(tensors(answers, request.requested_output_names())))


def tensors(answers: list[Answer], wanted: list[str]) -> Iterator[Any]:
    """Make the outputs that the request asks for, which are all where it names none."""
    for name, make in OUTPUTS.items():
        if name in wanted:
            yield pb_utils.Tensor(name, make(answers))


def error(message: str) -> Any:
    """Make the answer to a request that the client must change: Triton says 400 and INVALID_ARGUMENT for this code."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))

"""KServe's Python SDK: a custom predictor that speaks V2 over REST and gRPC, as its documentation has it.

https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor
"""

from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput
from kserve.utils.utils import generate_uuid

from handlers.errors import VisorError
from loadtests.peers.classifier import Classifier, parse_args


class Served(Model):  # type: ignore[misc]
    """The classifier as KServe's Model. Its metadata is what get_input_types and get_output_types say."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._classifier = Classifier(directory)
        super().__init__(self._classifier.spec.name)
        self.ready = True

    def __reduce__(self) -> tuple[type["Served"], tuple[Path]]:
        # With several workers the SDK pickles its models to send them there; a loaded network is loaded anew.
        return Served, (self._directory,)

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": "image", "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(self._classifier.spec.labels)]},
        ]

    async def predict(self, payload: InferRequest, *_: object, **__: object) -> InferResponse:
        """Synchronous work on the event loop, which is what the SDK does with a plain `def predict` too."""
        image = payload.get_input_by_name("image")
        if image is None:
            raise InvalidInput("input image is missing")
        try:
            labels, probabilities = self._classifier.answer(image.as_numpy().ravel().tolist())
        except VisorError as err:
            raise InvalidInput(str(err)) from err
        return InferResponse(
            payload.id or generate_uuid(),  # as the SDK's own get_predict_response does: its answers need one
            self.name,
            [
                output("label", "BYTES", np.array(labels, dtype=np.object_), payload.use_binary_outputs),
                output("probabilities", "FP32", probabilities, payload.use_binary_outputs),
            ],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


def output(name: str, datatype: str, values: "np.ndarray[Any, Any]", binary: bool) -> InferOutput:
    """One output, in the form that the SDK's own get_predict_response would choose."""
    tensor = InferOutput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    args = parse_args(argv, __doc__)
    server = ModelServer(
        http_port=args.port, grpc_port=args.grpc_port, enable_grpc=args.grpc_port is not None, workers=args.workers
    )
    server.start([Served(args.model)])


if __name__ == "__main__":
    main()

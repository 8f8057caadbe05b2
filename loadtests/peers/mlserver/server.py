"""MLServer: a custom runtime that speaks V2 over REST and gRPC, as its documentation has it.

https://mlserver.readthedocs.io/en/stable/user-guide/custom.html
"""

import asyncio
from pathlib import Path

import numpy as np
from mlserver import MLModel, MLServer
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor

from handlers.errors import VisorError
from handlers.spec import Spec
from loadtests.peers.classifier import Classifier, parse_args


class Runtime(MLModel):  # type: ignore[misc]
    """The classifier as MLServer's runtime; the archive's folder is its uri."""

    async def load(self) -> bool:
        self._classifier = Classifier(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        image = next((tensor for tensor in payload.inputs if tensor.name == "image"), None)
        if image is None:
            raise InferenceError("input image is missing")
        try:
            # The elements as they came: MLServer's StringCodec would decode them as UTF-8, which an image is not.
            labels, probabilities = self._classifier.answer(image.data.root)
        except VisorError as err:
            raise InferenceError(str(err)) from err
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[
                StringCodec.encode_output("label", labels),
                NumpyCodec.encode_output("probabilities", probabilities.astype(np.float32)),
            ],
        )


def model_settings(directory: Path) -> ModelSettings:
    """What a model-settings.json would say of the archive."""
    spec = Spec.read(directory / "spec.json")
    return ModelSettings(
        name=spec.name,
        platform="openvino",
        implementation=Runtime,
        parameters=ModelParameters(uri=str(directory), version=spec.version),
        inputs=[MetadataTensor(name="image", datatype="BYTES", shape=[-1])],
        outputs=[
            MetadataTensor(name="label", datatype="BYTES", shape=[-1, 1]),  # StringCodec's own column
            MetadataTensor(name="probabilities", datatype="FP32", shape=[-1, len(spec.labels)]),
        ],
    )


async def serve(settings: Settings, model: ModelSettings) -> None:
    """Run the server with its one model."""
    await MLServer(settings).start([model])


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM."""
    args = parse_args(argv, __doc__)
    if args.workers != 1:
        # Its pool of processes dies at the start with uvloop 0.22 and later: github.com/SeldonIO/MLServer/issues/2286.
        raise SystemExit("MLServer 1.7.1 answers from one process here; leave out --workers")
    settings = Settings(
        host="127.0.0.1",
        http_port=args.port,
        grpc_port=args.grpc_port or 0,
        metrics_endpoint=None,
        parallel_workers=0,
        load_models_at_startup=False,
    )
    asyncio.run(serve(settings, model_settings(args.model)))


if __name__ == "__main__":
    main()

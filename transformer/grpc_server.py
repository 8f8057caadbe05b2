"""The V2 protocol over gRPC, with the specification's own proto.

Its descriptors live in a pool of their own: a process may also import KServe's SDK or tritonclient, each of which
registers the same message names in protobuf's default pool, where the second one would fail.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2_grpc

from handlers.errors import VisorError
from transformer import metadata
from transformer.errors import GRPC_CODES, BinaryInvalid, PortTaken, ProtobufInvalid, show
from transformer.grpc_health import Health
from transformer.messages import InferAnswer, InferRequest
from transformer.service import Service
from transformer.tensors import BYTES, InputTensor, RawContent, TypedContent, check_shape

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"
DESCRIPTORS = Path(__file__).with_name("open_inference.binpb")
CODE_KEY = "visor-code"  # trailing metadata: an error's stable code
# Where each datatype of our inputs has its elements; another datatype is refused before it is read.
CONTENTS = {BYTES: "bytes_contents", "UINT8": "uint_contents"}
PARAMETERS: dict[type, str] = {bool: "bool_param", float: "double_param", str: "string_param"}
# Details travel in a header, and clients refuse headers over 8 KiB.
DETAIL_CHARACTERS = 1000

Method = Callable[[Any], Awaitable[Any]]


@cache
def service_descriptor() -> ServiceDescriptor:
    """The service of `open_inference.proto`, out of a private pool."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool.FindServiceByName(SERVICE)


def message(name: str) -> Any:
    """The class of a message of `open_inference.proto`, by its short name."""
    return message_factory.GetMessageClass(service_descriptor().file.message_types_by_name[name])


def create_server(service: Service, host: str, port: int, age_s: float) -> tuple[grpc.aio.Server, int]:
    """The gRPC side of a service, not started, and the port it has bound. `age_s`: of a connection. Raises PortTaken."""
    limit = service.max_body_bytes
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.so_reuseport", 0),  # a port that another process has is an error, not half of its connections
            ("grpc.max_connection_age_ms", round(age_s * 1000)),
        ]
    )
    server.add_generic_rpc_handlers((_handlers(_Api(service)),))
    health_pb2_grpc.add_HealthServicer_to_server(Health(service, SERVICE), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server, server.add_insecure_port(address)
    except RuntimeError as err:
        raise PortTaken(f"gRPC cannot listen on {address}: {err}; choose another port") from err


class _Api:
    """A method for each of the service's, by its name in snake case."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def server_live(self, _: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def server_ready(self, _: Any) -> Any:
        return message("ServerReadyResponse")(ready=await self._service.ready())

    async def model_ready(self, request: Any) -> Any:
        self._service.check_model(request.name, request.version)
        return message("ModelReadyResponse")(ready=await self._service.ready())

    async def server_metadata(self, _: Any) -> Any:
        return message("ServerMetadataResponse")(**metadata.server_metadata())

    async def model_metadata(self, request: Any) -> Any:
        self._service.check_model(request.name, request.version)
        return message("ModelMetadataResponse")(**metadata.model_metadata(self._service.spec))

    async def repository_index(self, request: Any) -> Any:
        models = metadata.repository_index(self._service.spec, await self._service.ready())
        shown = [model for model in models if model["state"] == metadata.READY or not request.ready]
        return message("RepositoryIndexResponse")(models=shown)

    async def model_infer(self, request: Any) -> Any:
        with self._service.metrics.request("grpc"):
            return render_answer(await self._service.answer(self._service.read(parse_request(request))))


def parse_request(request: Any) -> InferRequest:
    """Read a ModelInferRequest. Raises RequestError of the fitting kind."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BinaryInvalid(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs; send one for each")
    inputs = []
    for n, tensor in enumerate(request.inputs):
        if raw and tensor.HasField("contents"):
            raise BinaryInvalid(f"input {show(tensor.name)} has contents and raw_input_contents; send one of them")
        field = CONTENTS.get(tensor.datatype)
        content = RawContent(raw[n]) if raw else TypedContent(list(getattr(tensor.contents, field)) if field else [])
        inputs.append(InputTensor(tensor.name, tensor.datatype, check_shape(tensor.name, list(tensor.shape)), content))
    return InferRequest(
        model=request.model_name,
        version=request.model_version,
        id=request.id,
        inputs=tuple(inputs),
        outputs=tuple(output.name for output in request.outputs),
        parameters=_parameters(request.parameters),
    )


def render_answer(answer: InferAnswer) -> Any:
    """A ModelInferResponse, its tensors raw: tritonclient reads no other."""
    return message("ModelInferResponse")(
        model_name=answer.model,
        model_version=answer.version,
        id=answer.id,
        parameters={key: message("InferParameter")(**{PARAMETERS[type(v)]: v}) for key, v in answer.parameters.items()},
        outputs=[{"name": x.name, "datatype": x.datatype, "shape": x.shape} for x in answer.outputs],
        raw_output_contents=[tensor.to_raw() for tensor in answer.outputs],
    )


def _parameters(fields: Any) -> dict[str, Any]:
    chosen = {key: value.WhichOneof("parameter_choice") for key, value in fields.items()}
    parameters = {key: getattr(fields[key], choice) for key, choice in chosen.items() if choice}
    # KServe's SDK can send a number that is not whole only as a string.
    if isinstance(threshold := parameters.get("threshold"), str):
        parameters["threshold"] = _number(threshold)
    return parameters


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # refused where the other parameters are


def _handlers(api: _Api) -> grpc.GenericRpcHandler:
    descriptor = service_descriptor()
    methods = {
        method.name: grpc.unary_unary_rpc_method_handler(
            # Bytes in and bytes out: a message that cannot be parsed is the client's mistake, and gRPC would call it ours.
            _answering(message_factory.GetMessageClass(method.input_type), getattr(api, _snake(method.name)))
        )
        for method in descriptor.methods
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _answering(request_class: Any, method: Method) -> Callable[[bytes, Any], Awaitable[bytes | None]]:
    async def answer(body: bytes, context: Any) -> bytes | None:
        error: VisorError
        try:
            answered: bytes = (await method(_parse(request_class, body))).SerializeToString()
        except VisorError as err:
            error = err
        except Exception as err:
            logger.exception("an error that is not the client's")
            error = VisorError(type(err).__name__)
        else:
            return answered
        if error.status >= 500:
            logger.warning("%s", error)
        await context.abort(GRPC_CODES[error.status], str(error)[:DETAIL_CHARACTERS], trailing_metadata=((CODE_KEY, error.code),))
        return None  # not reached: abort raises

    return answer


def _parse(request_class: Any, body: bytes) -> Any:
    try:
        return request_class.FromString(body)
    except DecodeError as err:
        raise ProtobufInvalid(f"{len(body)} bytes are not a {request_class.DESCRIPTOR.full_name}: {err}") from err


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()

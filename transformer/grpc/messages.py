"""Messages of the V2 protocol over gRPC, with the specification's own proto, are read and written here.

Its descriptors live in a pool of their own: a process may also import KServe's SDK or tritonclient, each of which
registers the same message names in protobuf's default pool, where the second one would fail.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor

from transformer.errors import BinaryInvalid, show
from transformer.messages import InferAnswer, InferRequest, RequestedOutput, check_parameters
from transformer.tensors import BYTES, Buffer, InputTensor, RawContent, TypedContent, check_shape

SERVICE = "inference.GRPCInferenceService"
DESCRIPTORS = Path(__file__).with_name("open_inference.binpb")
# Where each datatype of our inputs has its elements; another datatype is refused before it is read.
CONTENTS = {BYTES: "bytes_contents", "UINT8": "uint_contents"}
PARAMETERS: dict[type, str] = {bool: "bool_param", float: "double_param", str: "string_param"}


@cache
def service_descriptor() -> ServiceDescriptor:
    """Load the descriptor of the service in `open_inference.proto`, in a private pool."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool.FindServiceByName(SERVICE)


def message(name: str) -> Any:
    """Find the class of a message of `open_inference.proto` by its short name."""
    return message_factory.GetMessageClass(service_descriptor().file.message_types_by_name[name])


def parse_request(request: Any, raw: Sequence[Buffer] = ()) -> InferRequest:
    """Read a ModelInferRequest. `raw`: its raw contents, where they were taken out. Raises RequestError of the fitting kind."""
    for tensor in request.inputs:
        if tensor.parameters:  # before the contents are missed, which an input in shared memory has not
            check_parameters(parameters_of(tensor), f"input {show(tensor.name)}")
    raw = raw or request.raw_input_contents
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
        outputs=tuple(_requested(one) for one in request.outputs),
        parameters=check_parameters(parameters_of(request), "the request"),
    )


def render_answer(answer: InferAnswer) -> Any:
    """Make a ModelInferResponse with raw tensors, because tritonclient reads no others."""
    return message("ModelInferResponse")(
        model_name=answer.model,
        model_version=answer.version,
        id=answer.id or "",
        parameters={key: _parameter(value) for key, value in answer.parameters.items()},
        outputs=[{"name": x.name, "datatype": x.datatype, "shape": x.shape} for x in answer.outputs],
        raw_output_contents=[tensor.to_raw() for tensor in answer.outputs],
    )


@lru_cache(maxsize=256, typed=True)  # True and 1.0 are two parameters
def _parameter(value: bool | float | str) -> Any:
    """Make a parameter, to be copied and not changed: most answers of an archive have the same ones."""
    return message("InferParameter")(**{PARAMETERS[type(value)]: value})


def parameters_of(sent: Any) -> dict[str, Any]:
    """Read the parameters of a message; a parameter without a value is left out."""
    chosen = {key: value.WhichOneof("parameter_choice") for key, value in sent.parameters.items()}
    return {key: getattr(sent.parameters[key], choice) for key, choice in chosen.items() if choice}


def _requested(output: Any) -> RequestedOutput:
    parameters = check_parameters(parameters_of(output), f"output {show(output.name)}")
    return RequestedOutput(output.name, parameters.get("classification"))

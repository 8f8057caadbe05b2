"""V2 over gRPC: requests, and responses read strictly. The stubs are tritonclient's, made of the protocol's own messages."""

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from tests.conformance.answers import Answer
from tests.conformance.tensors import NUMPY, Tensor, Violation, from_contents, from_raw

TIMEOUT_S = 60.0
# What a caller's mistake may be called (grpc/doc/statuscodes.md). UNKNOWN and INTERNAL say that the server broke, and
# UNIMPLEMENTED that there is no such method.
CLIENTS_MISTAKE = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
}
NOBODY_ANSWERED = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


def connect(address: str) -> tuple[Any, grpc.Channel]:
    """A stub and its channel, without limits of its own on a message's size."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(address, options=unlimited)
    return service_pb2_grpc.GRPCInferenceServiceStub(channel), channel


def infer_request(model: str, tensors: Sequence[Tensor], *, raw: bool = True, outputs: Iterable[str] = (), **members: Any) -> Any:
    """A ModelInferRequest with raw or typed contents; `members`: id, model_version, parameters (name → field and value)."""
    parameters = {key: messages.InferParameter(**value) for key, value in members.pop("parameters", {}).items()}
    request = messages.ModelInferRequest(model_name=model, **members)
    for key, parameter in parameters.items():
        request.parameters[key].CopyFrom(parameter)
    for tensor in tensors:
        described = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            request.raw_input_contents.append(tensor.to_raw())
        else:
            described.contents.CopyFrom(messages.InferTensorContents(**tensor.to_contents()))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def read_answer(response: Any) -> Answer:
    """A ModelInferResponse. Raises Violation where it is not as the protocol has it."""
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise Violation(f"{len(raw)} raw_output_contents for {len(response.outputs)} outputs")
    outputs = {}
    for n, tensor in enumerate(response.outputs):
        if tensor.datatype not in NUMPY:
            raise Violation(f"{tensor.name} has datatype {tensor.datatype}, which the protocol does not have")
        # An empty `contents` beside raw ones is there on the wire, and no reader can be misled by it.
        if raw and tensor.contents.ByteSize():
            raise Violation(f"{tensor.name} has both contents and raw_output_contents")
        outputs[tensor.name] = (
            from_raw(tensor.name, tensor.datatype, tensor.shape, raw[n])
            if raw
            else from_contents(tensor.name, tensor.datatype, tensor.shape, tensor.contents)
        )
    return Answer(response.model_name, response.model_version, response.id, dict(response.parameters), outputs)


def check_refused(call: Any, request: Any) -> grpc.RpcError:
    """The error of a call that cannot be answered. Raises Violation where it is answered, or where nobody looked at it."""
    try:
        answered = call(request, timeout=TIMEOUT_S)
    except grpc.RpcError as err:
        if err.code() in NOBODY_ANSWERED:
            raise Violation(f"expected a refusal, got {err.code().name}: {err.details()}") from err
        return err
    raise Violation(f"expected an error, got {str(answered)[:300]}")


def check_clients_mistake(call: Any, request: Any) -> None:
    """Raises Violation where a refusal does not say, by its code and in words, that the caller has to change its request."""
    err = check_refused(call, request)
    if err.code() not in CLIENTS_MISTAKE:
        raise Violation(f"expected a code of the client's mistake, got {err.code().name}: {err.details()}")
    if not err.details():
        raise Violation(f"{err.code().name} comes without a sentence")

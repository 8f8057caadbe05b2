"""Refusals over gRPC: a status that is not OK. Which one: test_mistakes."""

from collections.abc import Callable
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance.rpc import TIMEOUT_S, check_refused, infer_request, read_answer
from tests.conformance.subject import UNKNOWN, Subject

pytestmark = [pytest.mark.over("grpc"), pytest.mark.group("gRPC: errors")]

ERROR = "inference_grpc.md, Inference (errors are indicated by google.rpc.Status)"


def _both(request: Any) -> None:
    tensor = request.inputs[0]
    tensor.contents.CopyFrom(messages.InferTensorContents(bytes_contents=[b"image"]))


def _other_datatype(request: Any) -> None:
    request.inputs[0].datatype = "FP64" if request.inputs[0].datatype == "BYTES" else "BYTES"


def _shape(*sides: int) -> Callable[[Any], None]:
    def change(request: Any) -> None:
        request.inputs[0].shape[:] = sides

    return change


def _longer(request: Any) -> None:
    request.raw_input_contents[0] += b"\0"


def _shorter(request: Any) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]


def one_more(request: Any) -> None:
    """No sentence forbids raw contents for which there is no input; somebody has miscounted all the same."""
    request.raw_input_contents.append(request.raw_input_contents[0])


# What is wrong → how a good request with raw contents is spoiled; the section for each is ModelInferRequest.
SPOILED: dict[str, Callable[[Any], object]] = {
    "unknown model": lambda request: setattr(request, "model_name", UNKNOWN),
    "no model": lambda request: setattr(request, "model_name", ""),
    "unknown input": lambda request: setattr(request.inputs[0], "name", UNKNOWN),
    "unknown output": lambda request: request.outputs.add(name=UNKNOWN),
    "no inputs": lambda request: (request.ClearField("inputs"), request.ClearField("raw_input_contents")),
    "unknown datatype": lambda request: setattr(request.inputs[0], "datatype", "FP7"),
    "no datatype": lambda request: setattr(request.inputs[0], "datatype", ""),
    "another datatype than the model's": _other_datatype,
    "negative side": _shape(-1),
    "no shape": _shape(),
    "shape of another rank than the model's": lambda request: request.inputs[0].shape.extend([1, 1]),
    "shape of more elements": _shape(1000),
    "contents beside raw_input_contents": _both,
    "raw contents longer than the shape": _longer,
    "raw contents shorter than the shape": _shorter,
    "no contents at all": lambda request: request.ClearField("raw_input_contents"),
}


@pytest.mark.required(ERROR)
@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_wrong_request_is_refused(subject: Subject, spoil: Callable[[Any], object]) -> None:
    request = infer_request(subject.options.model, subject.sample(0))
    read_answer(subject.stub.ModelInfer(request, timeout=TIMEOUT_S))  # it was good before
    spoil(request)
    check_refused(subject.stub.ModelInfer, request)


@pytest.mark.required(f"inference_grpc.md, InferTensorContents; {ERROR}")
def test_typed_contents_of_another_count_than_the_shape_are_refused(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0), raw=False)
    read_answer(subject.stub.ModelInfer(request, timeout=TIMEOUT_S))
    ((field, elements),) = subject.sample(0)[0].to_contents().items()
    getattr(request.inputs[0].contents, field).append(elements[0])
    check_refused(subject.stub.ModelInfer, request)


@pytest.mark.required(f"inference_grpc.md, InferTensorContents; {ERROR}")
def test_typed_contents_of_another_datatype_are_refused(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0), raw=False)
    read_answer(subject.stub.ModelInfer(request, timeout=TIMEOUT_S))
    count = len(subject.sample(0)[0].values)
    other = {"fp64_contents": [0.5] * count} if subject.sample(0)[0].datatype != "FP64" else {"bool_contents": [True] * count}
    request.inputs[0].contents.CopyFrom(messages.InferTensorContents(**other))
    check_refused(subject.stub.ModelInfer, request)

"""The parameters extension: requests with parameters of the client's own."""

from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance.answers import check_same
from tests.conformance.rest import outputs_named, read_error, request_fields
from tests.conformance.rest import read_answer as read_rest
from tests.conformance.rpc import TIMEOUT_S, check_refused, infer_request
from tests.conformance.rpc import read_answer as read_grpc
from tests.conformance.subject import UNKNOWN, Subject

pytestmark = pytest.mark.group("Parameters")
OWN = pytest.mark.extension("parameters", "extension_parameters.md; required_api.md, Parameters")
KINDS = pytest.mark.recommended("required_api.md, Parameters (a value is a string, a number or a boolean)")
SHARED = {"shared_memory_region": UNKNOWN, "shared_memory_byte_size": 1 << 20}
MEMORY = pytest.mark.recommended("extension_shared_memory.md (a region that was not registered)")


@OWN
@pytest.mark.over("rest")
@pytest.mark.parametrize("value", [42, 0.5, "text", True], ids=["integer", "number", "string", "boolean"])
def test_a_parameter_of_the_clients_own_is_allowed_over_rest(subject: Subject, value: Any) -> None:
    fields = request_fields(subject.sample(0), parameters={"my_custom_parameter": value})
    check_same(read_rest(subject.infer(fields)), subject.reference)


@OWN
@pytest.mark.over("grpc")
@pytest.mark.parametrize(
    "value", [{"int64_param": 42}, {"string_param": "text"}, {"bool_param": True}], ids=["integer", "string", "boolean"]
)
def test_a_parameter_of_the_clients_own_is_allowed_over_grpc(subject: Subject, value: dict[str, Any]) -> None:
    request = infer_request(subject.options.model, subject.sample(0), parameters={"my_custom_parameter": value})
    check_same(read_grpc(subject.stub.ModelInfer(request, timeout=TIMEOUT_S)), subject.reference)


@KINDS
@pytest.mark.over("rest")
@pytest.mark.parametrize("value", [{"a": 1}, [1]], ids=["object", "array"])
def test_a_parameter_of_another_kind_is_refused(subject: Subject, value: Any) -> None:
    """What is taken without a word is taken for something that has an effect."""
    read_error(subject.infer(request_fields(subject.sample(0), parameters={"my_custom_parameter": value})))


@MEMORY
@pytest.mark.over("rest")
def test_an_output_into_unknown_shared_memory_is_refused(subject: Subject) -> None:
    """A client that is answered in the body reads old memory as the answer."""
    name = next(iter(subject.reference.outputs))
    read_error(subject.infer(request_fields(subject.sample(0), outputs=outputs_named([name], SHARED))))


@MEMORY
@pytest.mark.over("grpc")
def test_an_output_into_unknown_shared_memory_is_refused_over_grpc(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0), outputs=[next(iter(subject.reference.outputs))])
    read_grpc(subject.stub.ModelInfer(request, timeout=TIMEOUT_S))
    request.outputs[0].parameters["shared_memory_region"].CopyFrom(messages.InferParameter(string_param=UNKNOWN))
    request.outputs[0].parameters["shared_memory_byte_size"].CopyFrom(messages.InferParameter(int64_param=1 << 20))
    check_refused(subject.stub.ModelInfer, request)

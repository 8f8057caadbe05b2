"""The parameters extension: requests with parameters of the client's own."""

from typing import Any

import pytest

from tests.conformance.answers import check_same
from tests.conformance.rest import read_answer as read_rest
from tests.conformance.rest import request_fields
from tests.conformance.rpc import TIMEOUT_S, infer_request
from tests.conformance.rpc import read_answer as read_grpc
from tests.conformance.subject import Subject

pytestmark = [
    pytest.mark.group("Parameters"),
    pytest.mark.extension("parameters", "extension_parameters.md; required_api.md, Parameters"),
]


@pytest.mark.over("rest")
@pytest.mark.parametrize("value", [42, 0.5, "text", True], ids=["integer", "number", "string", "boolean"])
def test_a_parameter_of_the_clients_own_is_allowed_over_rest(subject: Subject, value: Any) -> None:
    fields = request_fields(subject.sample(0), parameters={"my_custom_parameter": value})
    check_same(read_rest(subject.infer(fields)), subject.reference)


@pytest.mark.over("grpc")
@pytest.mark.parametrize(
    "value", [{"int64_param": 42}, {"string_param": "text"}, {"bool_param": True}], ids=["integer", "string", "boolean"]
)
def test_a_parameter_of_the_clients_own_is_allowed_over_grpc(subject: Subject, value: dict[str, Any]) -> None:
    request = infer_request(subject.options.model, subject.sample(0), parameters={"my_custom_parameter": value})
    check_same(read_grpc(subject.stub.ModelInfer(request, timeout=TIMEOUT_S)), subject.reference)

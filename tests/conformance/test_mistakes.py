"""A client's mistake is told as one. The protocol wants an error status, "typically 400", and does not say which one.

RFC 9110 gives 5xx the meaning that the server is at fault, and so do gRPC's INTERNAL and UNKNOWN; a mistake called that sends an
operator after a fault that is not there. But no text has a MUST for it, so these checks are recommendations.
"""

from collections.abc import Callable
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance import test_binary_data, test_classification, test_grpc_errors, test_model_repository, test_rest_errors
from tests.conformance.rest import (
    HEADER_LENGTH,
    JSON_HEADERS,
    Fields,
    binary_request,
    check_clients_mistake,
    frame,
    outputs_named,
    request_fields,
)
from tests.conformance.rpc import check_clients_mistake as check_code
from tests.conformance.rpc import infer_request
from tests.conformance.subject import CODINGS, UNKNOWN, Subject
from tests.conformance.test_classification import Scores
from tests.conformance.test_http import good_body, post_coded

pytestmark = pytest.mark.group("A client's mistake is told as one")

REST, GRPC = pytest.mark.over("rest"), pytest.mark.over("grpc")
STATUS = "required_api.md, Inference Response JSON Error Object (typically 400); RFC 9110, section 15.5"
CODE = "grpc/doc/statuscodes.md"
scores = test_classification.scores


@REST
@pytest.mark.recommended(STATUS)
@pytest.mark.parametrize("spoil", test_rest_errors.SPOILED.values(), ids=test_rest_errors.SPOILED)
def test_a_wrong_request(subject: Subject, spoil: Callable[[Fields], None]) -> None:
    fields = request_fields(subject.sample(0))
    spoil(fields)
    check_clients_mistake(subject.infer(fields))


@REST
@pytest.mark.recommended(STATUS)
@pytest.mark.parametrize("body", test_rest_errors.NO_REQUEST.values(), ids=test_rest_errors.NO_REQUEST)
def test_no_request_at_all(subject: Subject, body: bytes) -> None:
    check_clients_mistake(subject.http.post(f"{subject.model_path}/infer", content=body, headers=JSON_HEADERS))


@REST
@pytest.mark.recommended(STATUS)
@pytest.mark.parametrize("path", ["", "/infer"], ids=["metadata", "infer"])
def test_an_unknown_model(subject: Subject, path: str) -> None:
    method = "POST" if path else "GET"
    check_clients_mistake(subject.http.request(method, f"/v2/models/{UNKNOWN}{path}", content=good_body(subject)))


@REST
@pytest.mark.recommended(STATUS, extension="versions")
def test_an_unknown_version(subject: Subject) -> None:
    check_clients_mistake(subject.infer(request_fields(subject.sample(0)), f"/versions/{UNKNOWN}/infer"))


@REST
@pytest.mark.recommended(f"extension_statistics.md (typically 400); {STATUS}", extension="statistics")
def test_statistics_of_an_unknown_model(subject: Subject) -> None:
    check_clients_mistake(subject.http.get(f"/v2/models/{UNKNOWN}/stats"))


@REST
@pytest.mark.recommended(f"extension_model_configuration.md (typically 400); {STATUS}", extension="model_configuration")
def test_configuration_of_an_unknown_model(subject: Subject) -> None:
    check_clients_mistake(subject.http.get(f"/v2/models/{UNKNOWN}/config"))


@REST
@pytest.mark.recommended(STATUS, extension="binary_tensor_data")
@pytest.mark.parametrize("length", test_binary_data.WRONG_LENGTHS)
def test_a_header_length_that_cannot_be(subject: Subject, length: str) -> None:
    body, headers = binary_request(subject.sample(0))
    headers = {**headers, HEADER_LENGTH: length}
    check_clients_mistake(subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers))


@REST
@pytest.mark.recommended(STATUS, extension="binary_tensor_data")
@pytest.mark.parametrize("spoil", test_binary_data.SPOILED.values(), ids=test_binary_data.SPOILED)
def test_a_wrong_binary_data_size(subject: Subject, spoil: Callable[[Fields], None]) -> None:
    fields, blob = test_binary_data.parts(subject)
    spoil(fields)
    body, headers = frame(fields, blob)
    check_clients_mistake(subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers))


@REST
@pytest.mark.recommended(STATUS, extension="binary_tensor_data")
def test_binary_inputs_without_the_header(subject: Subject) -> None:
    body, headers = binary_request(subject.sample(0))
    headers = {"Content-Type": headers["Content-Type"]}
    check_clients_mistake(subject.http.post(f"{subject.model_path}/infer", content=body, headers=headers))


@REST
@pytest.mark.recommended(STATUS, extension="classification")
@pytest.mark.parametrize("count", test_classification.NO_COUNTS)
def test_a_classification_of_no_count(subject: Subject, scores: Scores, count: object) -> None:
    outputs = outputs_named([scores.name], {"classification": count})
    check_clients_mistake(subject.infer(request_fields(subject.sample(0), outputs=outputs)))


@REST
@pytest.mark.parametrize(
    "coding",
    [
        pytest.param(coding, marks=pytest.mark.recommended("RFC 9110, section 15.5", extension=f"content_coding({coding})"))
        for coding in CODINGS
    ],
)
@pytest.mark.parametrize("part", [0.0, 0.5], ids=["not compressed", "half of it"])
def test_a_body_that_is_not_compressed_as_it_says(subject: Subject, coding: str, part: float) -> None:
    whole = CODINGS[coding](good_body(subject))
    check_clients_mistake(post_coded(subject, whole[: int(len(whole) * part)] if part else good_body(subject), coding))


@REST
@pytest.mark.recommended("RFC 9110, section 15.5.16 (415)", extension="content_coding(gzip)")
def test_an_unknown_content_coding(subject: Subject) -> None:
    check_clients_mistake(post_coded(subject, good_body(subject), UNKNOWN))


@REST
@pytest.mark.recommended(f"extension_model_repository.md, Index (typically 400); {STATUS}", extension="model_repository(index)")
@pytest.mark.parametrize("body", test_model_repository.WRONG_INDEX)
def test_a_wrong_index_request(subject: Subject, body: str) -> None:
    check_clients_mistake(subject.http.post("/v2/repository/index", content=body, headers=JSON_HEADERS))


@REST
@pytest.mark.recommended(f"extension_model_repository.md, Load (typically 400); {STATUS}", extension="model_repository")
def test_loading_an_unknown_model(subject: Subject) -> None:
    check_clients_mistake(test_model_repository.control(subject, "load", UNKNOWN))


@GRPC
@pytest.mark.recommended(CODE)
@pytest.mark.parametrize("spoil", test_grpc_errors.SPOILED.values(), ids=test_grpc_errors.SPOILED)
def test_a_wrong_request_over_grpc(subject: Subject, spoil: Callable[[Any], object]) -> None:
    request = infer_request(subject.options.model, subject.sample(0))
    spoil(request)
    check_code(subject.stub.ModelInfer, request)


@GRPC
@pytest.mark.recommended(f"inference_grpc.md, ModelInferRequest (raw_input_contents, for each tensor); {CODE}")
def test_more_raw_contents_than_inputs(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0))
    test_grpc_errors.one_more(request)
    check_code(subject.stub.ModelInfer, request)


@GRPC
@pytest.mark.recommended(CODE)
def test_metadata_of_an_unknown_model_over_grpc(subject: Subject) -> None:
    check_code(subject.stub.ModelMetadata, messages.ModelMetadataRequest(name=UNKNOWN))


@GRPC
@pytest.mark.recommended(CODE, extension="model_repository")
def test_loading_an_unknown_model_over_grpc(subject: Subject) -> None:
    check_code(subject.stub.RepositoryModelLoad, messages.RepositoryModelLoadRequest(model_name=UNKNOWN))

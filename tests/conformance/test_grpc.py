"""Health, metadata and inference over gRPC."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance.answers import check_same
from tests.conformance.rpc import NOBODY_ANSWERED, TIMEOUT_S, check_refused, infer_request, read_answer
from tests.conformance.subject import UNKNOWN, Subject

pytestmark = [pytest.mark.over("grpc"), pytest.mark.group("gRPC: health, metadata, inference")]

REQUESTS = 32
LARGE = 8 << 20  # bytes; gRPC's own default limit is 4 MiB


def _infer(subject: Subject, request: Any) -> Any:
    return read_answer(subject.stub.ModelInfer(request, timeout=TIMEOUT_S))


@pytest.mark.required("inference_grpc.md, Server Live")
def test_the_server_is_live(subject: Subject) -> None:
    assert subject.stub.ServerLive(messages.ServerLiveRequest(), timeout=TIMEOUT_S).live


@pytest.mark.required("inference_grpc.md, Server Ready")
def test_the_server_is_ready(subject: Subject) -> None:
    assert subject.stub.ServerReady(messages.ServerReadyRequest(), timeout=TIMEOUT_S).ready


@pytest.mark.required("inference_grpc.md, Model Ready")
def test_the_model_is_ready(subject: Subject) -> None:
    assert subject.stub.ModelReady(messages.ModelReadyRequest(name=subject.options.model), timeout=TIMEOUT_S).ready


@pytest.mark.required("inference_grpc.md, Model Ready")
def test_an_unknown_model_is_not_ready(subject: Subject) -> None:
    """False or an error: the text says both `false if not ready` and that errors are a status."""
    try:
        ready = subject.stub.ModelReady(messages.ModelReadyRequest(name=UNKNOWN), timeout=TIMEOUT_S).ready
    except grpc.RpcError as err:
        ready = err.code() in NOBODY_ANSWERED
    assert not ready


@pytest.mark.required("inference_grpc.md, Server Metadata")
def test_server_metadata_has_name_and_version(subject: Subject) -> None:
    answered = subject.stub.ServerMetadata(messages.ServerMetadataRequest(), timeout=TIMEOUT_S)
    assert answered.name
    assert answered.version
    if subject.options.rest:
        assert (answered.name, answered.version) == (subject.metadata["name"], subject.metadata["version"])
        assert list(answered.extensions) == subject.metadata["extensions"]


@pytest.mark.required("inference_grpc.md, Model Metadata")
def test_model_metadata_describes_each_tensor(subject: Subject) -> None:
    answered = subject.stub.ModelMetadata(messages.ModelMetadataRequest(name=subject.options.model), timeout=TIMEOUT_S)
    assert answered.name == subject.options.model
    for kind in ("inputs", "outputs"):
        found = [(x.name, x.datatype, list(x.shape)) for x in getattr(answered, kind)]
        assert found
        if subject.options.rest:
            assert found == [(x["name"], x["datatype"], x["shape"]) for x in subject.model_metadata[kind]]


@pytest.mark.required("inference_grpc.md, Model Metadata (errors)")
def test_metadata_of_an_unknown_model_is_an_error(subject: Subject) -> None:
    check_refused(subject.stub.ModelMetadata, messages.ModelMetadataRequest(name=UNKNOWN))


@pytest.mark.required("inference_grpc.md, Model Metadata (inputs: the model's inputs)")
def test_a_request_of_all_that_the_metadata_lists_is_answered(subject: Subject) -> None:
    """Whatever the suite was told of a valid request: a client that reads the metadata has nothing else to go by."""
    assert _infer(subject, infer_request(subject.options.model, subject.by_metadata(0))).outputs


@pytest.mark.required("inference_grpc.md, ModelInferRequest (raw_input_contents)")
def test_raw_contents_are_answered(subject: Subject) -> None:
    answer = _infer(subject, infer_request(subject.options.model, subject.sample(0)))
    assert answer.model == subject.options.model
    check_same(answer, subject.reference)


@pytest.mark.required("inference_grpc.md, InferTensorContents")
def test_typed_contents_are_answered_as_raw_ones_are(subject: Subject) -> None:
    check_same(_infer(subject, infer_request(subject.options.model, subject.sample(0), raw=False)), subject.reference)


@pytest.mark.required("inference_grpc.md, ModelInferRequest (id)")
def test_the_id_comes_back(subject: Subject) -> None:
    assert _infer(subject, infer_request(subject.options.model, subject.sample(0), id="42 ünïcode")).id == "42 ünïcode"


@pytest.mark.required("inference_grpc.md, ModelInferRequest (outputs)")
def test_each_output_can_be_asked_for_alone(subject: Subject) -> None:
    for name in subject.reference.outputs:
        request = infer_request(subject.options.model, subject.sample(0), outputs=[name])
        check_same(_infer(subject, request), subject.reference, {name})


@pytest.mark.required("inference_grpc.md, ModelInferRequest (outputs) and ModelInferResponse (raw_output_contents)")
def test_outputs_can_be_asked_for_in_any_order(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0), outputs=[*subject.reference.outputs][::-1])
    check_same(_infer(subject, request), subject.reference)


@pytest.mark.required("inference_grpc.md, ModelInferRequest (each answer belongs to its request)")
def test_requests_in_parallel_get_their_own_answers(subject: Subject) -> None:
    other = subject.other_sample()
    expected = {0: subject.reference, other: subject.answer_to(subject.sample(other))}
    numbers = [(0, other)[n % 2] for n in range(REQUESTS)]
    requests = [infer_request(subject.options.model, subject.sample(number), id=str(n)) for n, number in enumerate(numbers)]
    calls = [subject.stub.ModelInfer.future(request, timeout=TIMEOUT_S) for request in requests]
    found = [read_answer(call.result()) for call in calls]
    assert [answer.id for answer in found] == [str(n) for n in range(REQUESTS)]
    for answer, number in zip(found, numbers, strict=True):
        check_same(answer, expected[number])


@pytest.mark.extension("batch", "inference_grpc.md, ModelInferRequest (inputs)")
def test_a_batch_is_answered(subject: Subject) -> None:
    answer = _infer(subject, infer_request(subject.options.model, subject.batch(3)))
    assert {tensor.shape[0] for tensor in answer.outputs.values()} == {3}
    check_same(answer, subject.answer_to(subject.batch(3)))


@pytest.mark.extension("versions", "inference_grpc.md, ModelInferRequest (model_version)")
def test_a_version_can_be_asked_by_name(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0), model_version=subject.version)
    answer = _infer(subject, request)
    assert answer.version == subject.version
    check_same(answer, subject.reference)
    ready = messages.ModelReadyRequest(name=subject.options.model, version=subject.version)
    assert subject.stub.ModelReady(ready, timeout=TIMEOUT_S).ready
    metadata = messages.ModelMetadataRequest(name=subject.options.model, version=subject.version)
    assert subject.stub.ModelMetadata(metadata, timeout=TIMEOUT_S).name == subject.options.model


@pytest.mark.extension("versions", "inference_grpc.md, ModelInferRequest and ModelMetadataRequest (version)")
def test_an_unknown_version_is_refused(subject: Subject) -> None:
    check_refused(subject.stub.ModelInfer, infer_request(subject.options.model, subject.sample(0), model_version=UNKNOWN))
    check_refused(subject.stub.ModelMetadata, messages.ModelMetadataRequest(name=subject.options.model, version=UNKNOWN))


@pytest.mark.recommended("grpc.io/docs/guides/deadlines (a server gives up what nobody waits for)")
def test_calls_past_their_deadline_leave_a_server_that_answers(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0))
    calls = [subject.stub.ModelInfer.future(request, timeout=0.001) for _ in range(REQUESTS)]
    codes = {call.code() for call in calls}
    assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
    check_same(_infer(subject, request), subject.reference)


@pytest.mark.recommended("grpc.io/docs/guides/cancellation")
def test_cancelled_calls_leave_a_server_that_answers(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0))
    calls = [subject.stub.ModelInfer.future(request, timeout=TIMEOUT_S) for _ in range(REQUESTS)]
    for call in calls:
        call.cancel()
    assert {call.code() for call in calls} <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}
    check_same(_infer(subject, request), subject.reference)


@pytest.mark.required("grpc/doc/compression.md (UNIMPLEMENTED where the server does not read the algorithm)")
def test_a_compressed_call_is_answered_or_its_compression_refused(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0))
    check_same(_infer(subject, request), subject.reference)
    call = subject.stub.ModelInfer.future(request, timeout=TIMEOUT_S, compression=grpc.Compression.Gzip)
    if call.code() != grpc.StatusCode.UNIMPLEMENTED:
        check_same(read_answer(call.result()), subject.reference)


@pytest.mark.recommended("grpc/doc/statuscodes.md (RESOURCE_EXHAUSTED) where it is more than the server takes")
def test_a_large_request_is_answered_or_refused_as_too_large(subject: Subject) -> None:
    request = infer_request(subject.options.model, subject.sample(0), id="x" * LARGE)
    call = subject.stub.ModelInfer.future(request, timeout=TIMEOUT_S)
    if call.code() not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT):
        check_same(read_answer(call.result()), subject.reference)


@pytest.mark.required("grpc/doc/statuscodes.md (UNIMPLEMENTED)")
def test_an_unknown_method_is_unimplemented(subject: Subject) -> None:
    call: Callable[..., Any] = subject.channel.unary_unary("/inference.GRPCInferenceService/NoSuchThing")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=TIMEOUT_S)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.required("inference_grpc.md, ModelInfer (errors are indicated by the status)")
def test_bytes_that_are_no_request_are_an_error(subject: Subject) -> None:
    call: Callable[..., Any] = subject.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff\xff", timeout=TIMEOUT_S)
    assert caught.value.code() != grpc.StatusCode.UNIMPLEMENTED
    check_same(_infer(subject, infer_request(subject.options.model, subject.sample(0))), subject.reference)

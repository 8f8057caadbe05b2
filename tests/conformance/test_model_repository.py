"""The model repository extension: index, load, unload. What is unloaded is loaded again."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2 as messages

from tests.conformance import rpc
from tests.conformance.answers import check_same
from tests.conformance.rest import JSON_HEADERS, read_answer, read_error, request_fields
from tests.conformance.subject import UNKNOWN, Subject
from tests.conformance.tensors import Violation

pytestmark = pytest.mark.group("Model repository")

INDEX = pytest.mark.extension("model_repository(index)", "extension_model_repository.md, Index")
CONTROL = pytest.mark.extension("model_repository", "extension_model_repository.md, Load and Unload")
UNLOAD = pytest.mark.recommended(
    "extension_model_repository.md, Unload (no sentence says what becomes of a model that is not there)",
    extension="model_repository",
)
LAST = pytest.mark.disruptive
READY = "READY"
WRONG_INDEX = ["{", "[]", '{"ready": "yes"}']
READY_TIMEOUT_S = 60.0


def _index(subject: Subject, body: str = "{}") -> list[dict[str, Any]]:
    response = subject.http.post("/v2/repository/index", content=body, headers=JSON_HEADERS)
    assert response.status_code == 200
    models: list[dict[str, Any]] = response.json()
    assert isinstance(models, list)
    return models


def control(subject: Subject, verb: str, model: str, body: str = "{}") -> httpx.Response:
    return subject.http.post(f"/v2/repository/models/{model}/{verb}", content=body, headers=JSON_HEADERS)


def _wait(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not done():
        if time.monotonic() > deadline:
            raise Violation(f"{what} did not come about within {READY_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


def _is_ready(subject: Subject) -> bool:
    return subject.http.get(f"{subject.model_path}/ready").status_code == 200


@pytest.fixture
def served(subject: Subject) -> Iterator[None]:
    """Whatever a check does, the model is served afterwards."""
    yield
    if not _is_ready(subject):
        control(subject, "load", subject.options.model)
        _wait(lambda: _is_ready(subject), "readiness after loading")


@INDEX
@pytest.mark.over("rest")
@pytest.mark.parametrize("body", ["{}", "", '{"ready": false}', '{"ready": true}'])
def test_the_index_has_the_model_and_its_state(subject: Subject, body: str) -> None:
    """An empty body is what tritonclient sends."""
    entries = [model for model in _index(subject, body) if model["name"] == subject.options.model]
    assert entries
    for entry in entries:
        assert entry["state"] == READY
        assert isinstance(entry.get("reason", ""), str)
        assert isinstance(entry.get("version", ""), str)


@INDEX
@pytest.mark.over("rest")
@pytest.mark.parametrize("body", WRONG_INDEX)
def test_a_wrong_index_request_is_refused(subject: Subject, body: str) -> None:
    read_error(subject.http.post("/v2/repository/index", content=body, headers=JSON_HEADERS))


@INDEX
@pytest.mark.over("grpc")
@pytest.mark.parametrize("ready", [False, True])
def test_the_index_has_the_model_over_grpc(subject: Subject, ready: bool) -> None:
    models = subject.stub.RepositoryIndex(messages.RepositoryIndexRequest(ready=ready), timeout=rpc.TIMEOUT_S).models
    assert [model.state for model in models if model.name == subject.options.model]
    assert {model.state for model in models if model.name == subject.options.model} == {READY}


@CONTROL
@pytest.mark.over("rest")
def test_an_unknown_model_cannot_be_loaded(subject: Subject) -> None:
    read_error(control(subject, "load", UNKNOWN))


@UNLOAD
@pytest.mark.over("rest")
def test_an_unknown_model_cannot_be_unloaded(subject: Subject) -> None:
    read_error(control(subject, "unload", UNKNOWN))


@CONTROL
@LAST
@pytest.mark.over("rest")
@pytest.mark.parametrize("body", ["", "{}"])
@pytest.mark.usefixtures("served")
def test_a_loaded_model_can_be_loaded_again(subject: Subject, body: str) -> None:
    assert control(subject, "load", subject.options.model, body).status_code == 200
    _wait(lambda: _is_ready(subject), "readiness after loading")
    check_same(read_answer(subject.infer(request_fields(subject.sample(0)))), subject.reference)


@CONTROL
@LAST
@pytest.mark.over("rest")
@pytest.mark.usefixtures("served")
def test_unloading_takes_the_model_away_until_it_is_loaded_or_is_refused(subject: Subject) -> None:
    """A failed request is an error in the document too; then nothing has changed."""
    expected = subject.reference
    response = control(subject, "unload", subject.options.model)
    if response.status_code == 200:
        _wait(lambda: not _is_ready(subject), "unreadiness after unloading")
        assert subject.infer(request_fields(subject.sample(0))).status_code in (400, 404, 503)
        assert READY not in {model["state"] for model in _index(subject) if model["name"] == subject.options.model}
        assert subject.options.model not in {model["name"] for model in _index(subject, '{"ready": true}')}
        assert subject.http.get("/v2/health/live").status_code == 200
        assert control(subject, "load", subject.options.model).status_code == 200
        _wait(lambda: _is_ready(subject), "readiness after loading")
    else:
        read_error(response)
        assert _is_ready(subject)
    check_same(read_answer(subject.infer(request_fields(subject.sample(0)))), expected)


@CONTROL
@pytest.mark.over("grpc")
def test_an_unknown_model_cannot_be_loaded_over_grpc(subject: Subject) -> None:
    rpc.check_refused(subject.stub.RepositoryModelLoad, messages.RepositoryModelLoadRequest(model_name=UNKNOWN))


@UNLOAD
@pytest.mark.over("grpc")
def test_an_unknown_model_cannot_be_unloaded_over_grpc(subject: Subject) -> None:
    rpc.check_refused(subject.stub.RepositoryModelUnload, messages.RepositoryModelUnloadRequest(model_name=UNKNOWN))


@CONTROL
@LAST
@pytest.mark.over("grpc")
def test_unloading_takes_the_model_away_until_it_is_loaded_or_is_refused_over_grpc(subject: Subject) -> None:
    expected, name = subject.reference, subject.options.model
    inference = rpc.infer_request(name, subject.sample(0))

    def is_ready() -> bool:
        try:
            return bool(subject.stub.ModelReady(messages.ModelReadyRequest(name=name), timeout=rpc.TIMEOUT_S).ready)
        except grpc.RpcError:
            return False

    request = messages.RepositoryModelUnloadRequest(model_name=name)
    call = subject.stub.RepositoryModelUnload.future(request, timeout=rpc.TIMEOUT_S)
    if call.code() == grpc.StatusCode.OK:
        try:
            _wait(lambda: not is_ready(), "unreadiness after unloading")
            with pytest.raises(grpc.RpcError) as caught:
                subject.stub.ModelInfer(inference, timeout=rpc.TIMEOUT_S)
            assert caught.value.code() in rpc.CLIENTS_MISTAKE | {grpc.StatusCode.UNAVAILABLE}
        finally:
            subject.stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name=name), timeout=rpc.TIMEOUT_S)
            _wait(is_ready, "readiness after loading")
    else:
        rpc.check_refused(subject.stub.RepositoryModelUnload, request)
        assert is_ready()
    check_same(rpc.read_answer(subject.stub.ModelInfer(inference, timeout=rpc.TIMEOUT_S)), expected)

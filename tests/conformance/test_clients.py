"""The clients that people have, unmodified: tritonclient's four and KServe's two."""

import base64
import json
import queue
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from tests.conformance.answers import Answer, check_same
from tests.conformance.rpc import infer_request
from tests.conformance.subject import CODINGS, TIMEOUT_S, UNKNOWN, Subject
from tests.conformance.tensors import Tensor, from_json, make_values

pytestmark = pytest.mark.group("Clients: tritonclient, KServe's")

REST, GRPC = pytest.mark.over("rest"), pytest.mark.over("grpc")
BINARY = pytest.mark.extension("binary_tensor_data", "extension_binary_data.md, as tritonclient and KServe's client speak it")
PROTOCOL = pytest.mark.required("inference_rest.md and inference_grpc.md, as tritonclient and KServe's clients speak them")
BODIES = pytest.mark.recommended(
    "inference_rest.md, Server Live, Server Ready and Model Ready Response JSON Object; required_api.md, Health has no body, and "
    "KServe's client needs one"
)
KSERVE_TIMEOUT_S = 120


def _address(subject: Subject) -> str:
    return (subject.options.rest or "").removeprefix("http://").rstrip("/")


def _inputs(library: Any, tensors: list[Tensor], **how: Any) -> list[Any]:
    made = []
    for tensor in tensors:
        values = tensor.to_numpy()
        if how.get("binary_data") is False and tensor.datatype == "BYTES":
            values = make_values([str(text).encode() for text in tensor.to_json()]).reshape(tensor.shape)
        made.append(library.InferInput(tensor.name, list(tensor.shape), tensor.datatype))
        made[-1].set_data_from_numpy(values, **how)
    return made


def _outputs(library: Any, subject: Subject, **how: Any) -> list[Any]:
    return [library.InferRequestedOutput(name, **how) for name in subject.reference.outputs]


def _check(result: Any, subject: Subject, request_id: str) -> None:
    """tritonclient's result says what the reference does."""
    described = result.get_response()
    if not isinstance(described, dict):
        described = {"id": described.id, "model_name": described.model_name, "outputs": described.outputs}
    names = [output["name"] if isinstance(output, dict) else output.name for output in described["outputs"]]
    outputs = {}
    for name in names:
        values = result.as_numpy(name)
        assert values is not None
        is_bytes = values.dtype.kind in "OSU"
        flat = values.ravel()
        elements = make_values([x if isinstance(x, bytes) else str(x).encode() for x in flat.tolist()]) if is_bytes else flat
        outputs[name] = Tensor(name, subject.reference.outputs[name].datatype, values.shape, elements)
    answer = Answer(described["model_name"], "", described["id"], {}, outputs)
    assert (answer.model, answer.id) == (subject.options.model, request_id)
    check_same(answer, subject.reference)


@PROTOCOL
@REST
def test_tritonclient_http_asks_for_health_and_metadata(subject: Subject) -> None:
    name = subject.options.model
    with tritonclient.http.InferenceServerClient(_address(subject)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(name)
        assert not client.is_model_ready(UNKNOWN)
        assert client.get_server_metadata()["name"] == subject.metadata["name"]
        assert client.get_model_metadata(name)["inputs"]


@PROTOCOL
@REST
def test_tritonclient_http_infers_by_json(subject: Subject) -> None:
    library = tritonclient.http
    with library.InferenceServerClient(_address(subject)) as client:
        inputs = _inputs(library, subject.sample(0), binary_data=False)
        outputs = _outputs(library, subject, binary_data=False)
        _check(client.infer(subject.options.model, inputs, outputs=outputs, request_id="42"), subject, "42")


@BINARY
@REST
@pytest.mark.parametrize("asked", [True, False], ids=["named outputs", "all outputs"])
def test_tritonclient_http_infers_by_bytes(subject: Subject, asked: bool) -> None:
    library = tritonclient.http
    with library.InferenceServerClient(_address(subject)) as client:
        outputs = _outputs(library, subject) if asked else None
        result = client.infer(subject.options.model, _inputs(library, subject.sample(0)), outputs=outputs, request_id="42")
        _check(result, subject, "42")


@BINARY
@REST
def test_tritonclient_http_infers_in_parallel(subject: Subject) -> None:
    library = tritonclient.http
    with library.InferenceServerClient(_address(subject), concurrency=4) as client:
        inputs = _inputs(library, subject.sample(0))
        calls = [client.async_infer(subject.options.model, inputs, request_id=str(n)) for n in range(8)]
        for n, call in enumerate(calls):
            _check(call.get_result(), subject, str(n))


@BINARY
@REST
async def test_tritonclient_http_aio_infers(subject: Subject) -> None:
    library = tritonclient.http.aio
    async with library.InferenceServerClient(_address(subject)) as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready(subject.options.model)
        _check(await client.infer(subject.options.model, _inputs(library, subject.sample(0)), request_id="42"), subject, "42")


@REST
@pytest.mark.parametrize(
    "coding",
    [
        pytest.param(
            coding, marks=pytest.mark.extension(f"content_coding({coding})", "RFC 9110, section 8.4, as tritonclient has it")
        )
        for coding in CODINGS
    ],
)
def test_tritonclient_http_infers_compressed(subject: Subject, coding: str) -> None:
    library = tritonclient.http
    with library.InferenceServerClient(_address(subject)) as client:
        result = client.infer(
            subject.options.model,
            _inputs(library, subject.sample(0), binary_data=False),
            outputs=_outputs(library, subject, binary_data=False),
            request_id="42",
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        _check(result, subject, "42")


@PROTOCOL
@GRPC
def test_tritonclient_grpc_asks_for_health_and_metadata(subject: Subject) -> None:
    name = subject.options.model
    with tritonclient.grpc.InferenceServerClient(subject.options.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(name)
        assert client.get_server_metadata().name == subject.metadata["name"]
        assert client.get_model_metadata(name).inputs


@PROTOCOL
@GRPC
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_tritonclient_grpc_infers(subject: Subject, compression: str | None) -> None:
    library = tritonclient.grpc
    with library.InferenceServerClient(subject.options.grpc) as client:
        inputs, outputs = _inputs(library, subject.sample(0)), _outputs(library, subject)
        result = client.infer(subject.options.model, inputs, outputs=outputs, request_id="42", compression_algorithm=compression)
        _check(result, subject, "42")


@PROTOCOL
@GRPC
async def test_tritonclient_grpc_aio_infers(subject: Subject) -> None:
    library = tritonclient.grpc.aio
    async with library.InferenceServerClient(subject.options.grpc) as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready(subject.options.model)
        _check(await client.infer(subject.options.model, _inputs(library, subject.sample(0)), request_id="42"), subject, "42")


@pytest.mark.extension("model_repository(index)", "extension_model_repository.md, Index, as tritonclient speaks it")
@REST
def test_tritonclient_http_reads_the_index(subject: Subject) -> None:
    with tritonclient.http.InferenceServerClient(_address(subject)) as client:
        assert subject.options.model in {model["name"] for model in client.get_model_repository_index()}


@pytest.mark.extension("model_repository(index)", "extension_model_repository.md, Index, as tritonclient speaks it")
@GRPC
def test_tritonclient_grpc_reads_the_index(subject: Subject) -> None:
    with tritonclient.grpc.InferenceServerClient(subject.options.grpc) as client:
        assert subject.options.model in {model.name for model in client.get_model_repository_index().models}


@pytest.mark.extension("statistics", "extension_statistics.md, as tritonclient speaks it")
@REST
def test_tritonclient_http_reads_statistics(subject: Subject) -> None:
    with tritonclient.http.InferenceServerClient(_address(subject)) as client:
        for name in ("", subject.options.model):
            stats = client.get_inference_statistics(name)["model_stats"]
            assert subject.options.model in {model["name"] for model in stats}


@pytest.mark.extension("statistics", "extension_statistics.md, as tritonclient speaks it")
@GRPC
def test_tritonclient_grpc_reads_statistics(subject: Subject) -> None:
    with tritonclient.grpc.InferenceServerClient(subject.options.grpc) as client:
        for name in ("", subject.options.model):
            assert subject.options.model in {model.name for model in client.get_inference_statistics(name).model_stats}


@pytest.mark.recommended(
    "inference_grpc.md, Model Ready (false if not ready), as Triton answers and tritonclient's callers expect"
)
@GRPC
def test_tritonclient_grpc_says_that_an_unknown_model_is_not_ready(subject: Subject) -> None:
    with tritonclient.grpc.InferenceServerClient(subject.options.grpc) as client:
        assert client.is_model_ready(UNKNOWN) is False


@pytest.mark.extension("streams", "grpc_service.proto, ModelStreamInfer, as tritonclient speaks it")
@GRPC
def test_tritonclient_grpc_infers_over_a_stream(subject: Subject) -> None:
    library, found = tritonclient.grpc, queue.Queue[tuple[Any, Any]]()
    # First without it, as it waits for ever for a server whose stream fails before the first answer, MLServer 1.7.1's for one.
    [first] = subject.stub.ModelStreamInfer(iter([infer_request(subject.options.model, subject.sample(0))]), timeout=TIMEOUT_S)
    assert first.error_message == ""
    with library.InferenceServerClient(subject.options.grpc) as client:
        # With an end of its own: the client's waits for the server's, which one that has lost count never gives.
        client.start_stream(lambda result, error: found.put((result, error)), stream_timeout=TIMEOUT_S)
        for request_id in ("1", "2"):
            inputs = _inputs(library, subject.sample(0))
            client.async_stream_infer(subject.options.model, inputs, outputs=_outputs(library, subject), request_id=request_id)
        answers = [found.get(timeout=TIMEOUT_S) for _ in range(2)]
        client.stop_stream()
    assert [error for _, error in answers] == [None, None]
    assert {result.get_response().id for result, _ in answers} == {"1", "2"}
    for result, _ in answers:
        _check(result, subject, result.get_response().id)


@pytest.mark.extension("model_configuration", "extension_model_configuration.md, as tritonclient speaks it")
@REST
def test_tritonclient_http_reads_the_configuration(subject: Subject) -> None:
    with tritonclient.http.InferenceServerClient(_address(subject)) as client:
        assert client.get_model_config(subject.options.model)["name"] == subject.options.model


@pytest.mark.extension("model_configuration", "extension_model_configuration.md, as tritonclient speaks it")
@GRPC
def test_tritonclient_grpc_reads_the_configuration(subject: Subject) -> None:
    with tritonclient.grpc.InferenceServerClient(subject.options.grpc) as client:
        assert client.get_model_config(subject.options.model).config.name == subject.options.model


@pytest.fixture(scope="session")
def kserve(subject: Subject) -> Callable[[str, str], Any]:
    """What a call of KServe's client answered; all calls of a protocol are made in one process."""
    outcomes: dict[str, dict[str, Any]] = {}
    address = {"rest": subject.options.rest, "grpc": subject.options.grpc}
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "data": tensor.to_json(),
            "raw": base64.b64encode(tensor.to_raw()).decode(),
        }
        for tensor in subject.sample(0)
    ]

    def call(protocol: str, name: str) -> Any:
        if protocol not in outcomes:
            done = subprocess.run(
                [sys.executable, str(Path(__file__).with_name("kserve_calls.py")), protocol, str(address[protocol])],
                input=json.dumps({"model": subject.options.model, "id": "42", "inputs": inputs}),
                capture_output=True,
                text=True,
                timeout=KSERVE_TIMEOUT_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            outcomes[protocol] = json.loads(done.stdout.splitlines()[-1])
        assert "error" not in outcomes[protocol][name], outcomes[protocol][name]["error"]
        return outcomes[protocol][name]["answer"]

    return call


def _check_kserve(answered: Any, subject: Subject) -> None:
    outputs = {name: from_json(name, x["datatype"], x["shape"], x["data"]) for name, x in answered["outputs"].items()}
    assert (answered["model"], answered["id"]) == (subject.options.model, "42")
    check_same(Answer(answered["model"], "", answered["id"], {}, outputs), subject.reference)


@BODIES
@REST
@pytest.mark.parametrize("call", ["live", "ready", "model ready"])
def test_kserve_rest_asks_for_health(kserve: Callable[[str, str], Any], call: str) -> None:
    assert kserve("rest", call) is True


@PROTOCOL
@REST
def test_kserve_rest_infers_by_json(subject: Subject, kserve: Callable[[str, str], Any]) -> None:
    _check_kserve(kserve("rest", "infer"), subject)


@BINARY
@REST
def test_kserve_rest_infers_by_bytes(subject: Subject, kserve: Callable[[str, str], Any]) -> None:
    _check_kserve(kserve("rest", "infer binary"), subject)


@PROTOCOL
@GRPC
@pytest.mark.parametrize("call", ["live", "ready", "model ready"])
def test_kserve_grpc_asks_for_health(kserve: Callable[[str, str], Any], call: str) -> None:
    assert kserve("grpc", call) is True


@PROTOCOL
@GRPC
def test_kserve_grpc_infers(subject: Subject, kserve: Callable[[str, str], Any]) -> None:
    _check_kserve(kserve("grpc", "infer"), subject)

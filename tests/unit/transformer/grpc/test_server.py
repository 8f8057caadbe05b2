"""The protocol over a real gRPC channel, with messages of our own descriptors."""

import asyncio
import subprocess
import sys

import grpc
import numpy as np
import pytest
from aiohttp import web
from google.protobuf import json_format

from transformer.grpc.messages import DESCRIPTORS, SERVICE, message, service_descriptor
from transformer.grpc.server import PING_MS, create_server


def length_prefixed(items):
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)


def elements(raw):
    found = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found


@pytest.fixture
async def channel(service):
    server, port = create_server(service, "127.0.0.1", 0, age_s=10.0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


@pytest.fixture
def call(channel):
    """Call a method by its name: fields of its request, or bytes."""

    async def call(method, request=None, **fields):
        described = service_descriptor().methods_by_name[method]
        stub = channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=message(described.output_type.name).FromString)
        return await stub(message(described.input_type.name)(**fields).SerializeToString() if request is None else request)

    return call


async def refused(call, method, code, key, **fields):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(method, **fields)
    assert caught.value.code() is code
    assert caught.value.details().startswith(f"{key}: ")
    assert dict(caught.value.trailing_metadata())["visor-code"] == key
    return caught.value.details()


def image_request(images, **fields):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)]}
    return {"model_name": "roofs", "inputs": [tensor], "raw_input_contents": [length_prefixed(images)], **fields}


async def test_health_and_metadata(call, torchserve):
    assert (await call("ServerLive")).live
    assert (await call("ServerReady")).ready
    assert (await call("ModelReady", name="roofs")).ready
    assert (await call("ModelReady", name="roofs", version="3")).ready
    assert (await call("ServerMetadata")).name == "visor"
    model = await call("ModelMetadata", name="roofs")
    assert (model.name, list(model.versions), model.platform) == ("roofs", ["3"], "visor_torch")
    assert [(x.name, x.datatype, list(x.shape)) for x in model.inputs] == [("image", "BYTES", [-1])]
    assert ("probabilities", "FP32", [-1, 3]) in [(x.name, x.datatype, list(x.shape)) for x in model.outputs]
    [entry] = (await call("RepositoryIndex")).models
    assert (entry.name, entry.version, entry.state, entry.reason) == ("roofs", "3", "READY", "")
    torchserve.workers = []
    assert not (await call("ServerReady")).ready
    assert not (await call("ModelReady", name="roofs")).ready
    assert (await call("RepositoryIndex")).models[0].state == "UNAVAILABLE"
    assert not (await call("RepositoryIndex", ready=True)).models


@pytest.mark.parametrize("raw", [True, False])
async def test_infer(call, images, ask_handler, raw):
    request = image_request(images[:2], id="7", parameters={"explain": {"bool_param": True}, "top_k": {"int64_param": 2}})
    if not raw:
        del request["raw_input_contents"]
        request["inputs"][0]["contents"] = {"bytes_contents": images[:2]}
    answer = await call("ModelInfer", **request)
    expected = [ask_handler(image, explain="true") for image in images[:2]]
    assert (answer.model_name, answer.model_version, answer.id) == ("roofs", "3", "7")
    assert answer.parameters["archive_digest"].string_param == "ab" * 32
    assert answer.parameters["model_version"].string_param == "3"
    assert answer.parameters["threshold"].double_param == 0.4
    assert answer.parameters["threshold_overridden"].bool_param is False
    assert not any(output.HasField("contents") for output in answer.outputs)
    contents = {output.name: blob for output, blob in zip(answer.outputs, answer.raw_output_contents, strict=True)}
    assert elements(contents["label"]) == [answer["label"].encode() for answer in expected]
    assert elements(contents["decision"]) == [answer["decision"].encode() for answer in expected]
    assert elements(contents["heatmap_label"]) == [answer["heatmap_label"].encode() for answer in expected]
    np.testing.assert_allclose(
        np.frombuffer(contents["probabilities"], "<f4").reshape(2, 3), [answer["probabilities"] for answer in expected], rtol=1e-6
    )
    np.testing.assert_allclose(
        np.frombuffer(contents["heatmap"], "<f4").reshape(2, 4, 4), [answer["heatmap"] for answer in expected], atol=1e-6
    )
    assert {output.name: list(output.shape) for output in answer.outputs}["top_labels"] == [2, 2]


@pytest.mark.parametrize("form", ["raw", "typed"])
async def test_pixels(call, form, ask_handler):
    pixels = np.random.default_rng(5).integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": pixels.shape}
    request = {"model_name": "roofs", "inputs": [tensor], "outputs": [{"name": "label"}, {"name": "confidence"}]}
    if form == "raw":
        request["raw_input_contents"] = [pixels.tobytes()]
    else:
        tensor["contents"] = {"uint_contents": pixels.ravel().tolist()}
    answer = await call("ModelInfer", **request)
    expected = ask_handler(pixels.tobytes(), shape="16,24")
    assert [output.name for output in answer.outputs] == ["label", "confidence"]
    assert elements(answer.raw_output_contents[0]) == [expected["label"].encode()]
    assert np.frombuffer(answer.raw_output_contents[1], "<f4")[0] == pytest.approx(expected["confidence"], rel=1e-6)


@pytest.mark.parametrize("threshold", [{"double_param": 0.25}, {"string_param": "0.25"}])
async def test_threshold(call, images, threshold):
    answer = await call("ModelInfer", **image_request(images[:1], parameters={"threshold": threshold}))
    assert answer.parameters["threshold"].double_param == 0.25
    assert answer.parameters["threshold_overridden"].bool_param


async def test_whole_numbers_are_thresholds_too(call, images):
    answer = await call("ModelInfer", **image_request(images[:1], parameters={"threshold": {"int64_param": 1}}))
    assert answer.parameters["threshold"].double_param == 1.0


async def test_a_bad_image_answers_for_itself(call, images):
    answer = await call("ModelInfer", **image_request([b"", images[0], b"junk"], outputs=[{"name": "error"}]))
    assert elements(answer.raw_output_contents[0]) == [b"image.empty", b"", b"image.undecodable"]


INVALID, UNKNOWN = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1]}
RAW = [b"\x01\0\0\0x"]
SHARED = {"shared_memory_region": {"string_param": "mine"}, "shared_memory_byte_size": {"int64_param": 100}}


@pytest.mark.parametrize(
    ("code", "key", "fields"),
    [
        (UNKNOWN, "model.not_found", {"model_name": "walls"}),
        (UNKNOWN, "model.version", {"model_version": "2"}),
        (INVALID, "image.undecodable", {}),
        (INVALID, "image.empty", {"raw_input_contents": [b"\0\0\0\0"]}),
        (INVALID, "request.input", {"inputs": [], "raw_input_contents": []}),
        (INVALID, "request.input", {"inputs": [{**IMAGE, "name": "x"}]}),
        (INVALID, "request.input", {"inputs": [IMAGE, IMAGE], "raw_input_contents": RAW * 2}),
        (INVALID, "request.datatype", {"inputs": [{**IMAGE, "datatype": "FP32"}]}),
        (INVALID, "request.datatype", {"inputs": [{**IMAGE, "datatype": "?"}], "raw_input_contents": []}),
        (INVALID, "request.shape", {"inputs": [{**IMAGE, "shape": [-1]}]}),
        (INVALID, "request.shape", {"inputs": [{**IMAGE, "shape": []}]}),
        (INVALID, "request.shape", {"inputs": [{**IMAGE, "shape": [2]}]}),
        (INVALID, "request.shape", {"inputs": [IMAGE], "raw_input_contents": []}),
        (INVALID, "request.shape", {"inputs": [{**IMAGE, "contents": {"uint_contents": [1]}}], "raw_input_contents": []}),
        (INVALID, "request.too_large", {"inputs": [{**IMAGE, "shape": [7]}]}),
        (INVALID, "request.binary", {"raw_input_contents": [b"\x05\0\0\0x"]}),
        (INVALID, "request.binary", {"raw_input_contents": RAW * 2}),
        (INVALID, "request.binary", {"inputs": [{**IMAGE, "contents": {"bytes_contents": [b"x"]}}]}),
        (INVALID, "request.output", {"outputs": [{"name": "x" * 20_000}]}),
        (INVALID, "request.output", {"outputs": [{"name": "label"}, {"name": "label"}]}),
        (INVALID, "request.parameter", {"parameters": {"explain": {"int64_param": 1}}}),
        (INVALID, "request.parameter", {"parameters": {"threshold": {"string_param": "low"}}}),
        (INVALID, "request.parameter", {"parameters": {"threshold": {"string_param": "nan"}}}),
        (INVALID, "request.parameter", {"parameters": {"top_k": {"double_param": 1.0}}}),
        (INVALID, "request.parameter", {"parameters": {"priority": {"int64_param": -1}}}),
        (INVALID, "request.shared_memory", {"inputs": [{**IMAGE, "parameters": SHARED}], "raw_input_contents": []}),
        (INVALID, "request.shared_memory", {"outputs": [{"name": "label", "parameters": SHARED}]}),
    ],
)
async def test_refusals(call, code, key, fields):
    request = {"model_name": "roofs", "inputs": [IMAGE], "raw_input_contents": RAW, **fields}
    details = await refused(call, "ModelInfer", code, key, **request)
    assert len(details) < 500


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
async def test_unknown_models(call, method):
    await refused(call, method, UNKNOWN, "model.not_found", name="walls")
    await refused(call, method, UNKNOWN, "model.version", name="roofs", version="1")


async def test_unknown_models_are_not_ready(call):
    """As Triton has it: who asks whether something is ready gets no error."""
    assert not (await call("ModelReady", name="walls")).ready
    assert not (await call("ModelReady", name="roofs", version="1")).ready


async def test_model_config(call, client):
    config = (await call("ModelConfig", name="roofs", version="3")).config
    said = json_format.MessageToDict(config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    said["input"][0]["dims"] = [int(side) for side in said["input"][0]["dims"]]  # protobuf's JSON has int64 as text
    for output in said["output"]:
        output["dims"] = [int(side) for side in output["dims"]]
    assert said == (await client.get("/v2/models/roofs/config")).json()


@pytest.mark.parametrize("parameters", [{"threshold": {"string_param": "0.25"}, "top_k": {"string_param": "2"}}])
async def test_numbers_may_be_strings(call, images, parameters):
    answer = await call("ModelInfer", **image_request(images[:1], parameters=parameters))
    assert answer.parameters["threshold"].double_param == 0.25
    assert {output.name: list(output.shape) for output in answer.outputs}["top_labels"] == [1, 2]


async def test_a_parameter_without_a_value_is_none(call, images):
    assert (await call("ModelInfer", **image_request(images[:1], parameters={"explain": {}}))).model_name == "roofs"


async def test_bytes_that_are_no_message(call):
    await refused(call, "ModelInfer", INVALID, "request.protobuf", request=b"\xff\xff\xff")


async def test_a_message_over_the_limit(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call("ModelInfer", **image_request([bytes(500_000)]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_call_whose_client_pings_meanwhile_is_answered(service, torchserve, images):
    async def reply(_request, _body):
        await asyncio.sleep(4.2)  # without the setting: UNAVAILABLE after 3.6 s
        return web.json_response({"code": 507, "type": "InternalServerException", "message": "Worker died."}, status=507)

    torchserve.reply = reply
    server, port = create_server(service, "127.0.0.1", 0, age_s=60.0)
    await server.start()
    pings = [("grpc.keepalive_time_ms", PING_MS + 100), ("grpc.http2.max_pings_without_data", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=pings) as channel:
        request = message("ModelInferRequest")(**image_request(images[:1])).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/ModelInfer")(request)
    await server.stop(0)
    assert caught.value.details().startswith("model.not_ready: ")  # TorchServe's answer, and not "Too many pings"


async def test_methods_that_are_not_spoken(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(f"/{SERVICE}/TraceSetting")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("kind", ["System", "Cuda"])
@pytest.mark.parametrize("verb", ["Status", "Register", "Unregister"])
async def test_shared_memory_is_refused(channel, kind, verb):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(f"/{SERVICE}/{kind}SharedMemory{verb}")(b"\x0a\x04mine")
    assert dict(caught.value.trailing_metadata())["visor-code"] == "request.shared_memory"


async def test_trouble_behind_the_edge(call, torchserve, images):
    async def reply(_request, _body):
        return web.json_response({"code": 507, "type": "InternalServerException", "message": "Worker died."}, status=507)

    torchserve.reply = reply
    await refused(call, "ModelInfer", grpc.StatusCode.UNAVAILABLE, "model.not_ready", **image_request(images[:1]))


async def test_a_bug_is_an_answer_too(call, monkeypatch, images):
    monkeypatch.setattr("transformer.grpc.api.parse_request", lambda _: 1 / 0)
    await refused(call, "ModelInfer", grpc.StatusCode.INTERNAL, "internal", **image_request(images[:1]))


def test_the_descriptors_are_those_of_the_proto(tmp_path):
    proto = DESCRIPTORS.parent
    command = ["-m", "grpc_tools.protoc", f"-I{proto}", f"--descriptor_set_out={tmp_path / 'out'}", "open_inference.proto"]
    subprocess.run([sys.executable, *command], check=True)
    assert (tmp_path / "out").read_bytes() == DESCRIPTORS.read_bytes()

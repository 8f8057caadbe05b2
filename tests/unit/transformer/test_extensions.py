"""Triton's protocol extensions: classification, statistics, model repository; over REST and gRPC alike."""

import base64
import json

import grpc
import numpy as np
import pytest

from transformer.grpc.messages import SERVICE, message, service_descriptor

URL = "/v2/models/roofs/infer"
LABELS = ("intact", "damaged", "unsure")


@pytest.fixture
async def call(edge):
    """Call a gRPC method by its name and its request's fields."""
    async with grpc.aio.insecure_channel(edge.grpc) as channel:

        async def call(method, **fields):
            described = service_descriptor().methods_by_name[method]
            read = message(described.output_type.name).FromString
            stub = channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=read)
            return await stub(message(described.input_type.name)(**fields).SerializeToString())

        yield call


def rest_request(images, classification):
    data = [base64.b64encode(image).decode() for image in images]
    return {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(images)], "data": data}],
        "outputs": [{"name": "probabilities", "parameters": {"classification": classification}}],
    }


def expected_classes(answer, count):
    """By the extension's words: the highest first, VALUE:INDEX:LABEL."""
    ranked = sorted(enumerate(answer["probabilities"]), key=lambda pair: -pair[1])[:count]
    return [f"{np.float32(value):.6f}:{index}:{LABELS[index]}" for index, value in ranked]


@pytest.mark.parametrize(("asked", "got"), [(1, 1), (2, 2), (3, 3), (9, 3)])
async def test_classification_over_rest(client, images, ask_handler, asked, got):
    answer = (await client.post(URL, json=rest_request(images[:2], asked))).json()
    [output] = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "BYTES", [2, got])
    assert output["data"] == [text for image in images[:2] for text in expected_classes(ask_handler(image), got)]


async def test_a_bad_image_has_no_classes(client, images):
    fields = rest_request([images[0], b"junk"], 2)
    fields["outputs"].append({"name": "error"})
    classes, errors = (await client.post(URL, json=fields)).json()["outputs"]
    assert [bool(text) for text in classes["data"]] == [True, True, False, False]
    assert errors["data"] == ["", "image.undecodable"]


async def test_classification_over_grpc(call, images, ask_handler):
    answer = await call(
        "ModelInfer",
        model_name="roofs",
        inputs=[{"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": images[:1]}}],
        outputs=[{"name": "probabilities", "parameters": {"classification": message("InferParameter")(int64_param=2)}}],
    )
    [output], [raw] = answer.outputs, answer.raw_output_contents
    assert (output.datatype, list(output.shape)) == ("BYTES", [1, 2])
    texts = [text.encode() for text in expected_classes(ask_handler(images[0]), 2)]
    assert raw == b"".join(len(text).to_bytes(4, "little") + text for text in texts)


@pytest.mark.parametrize(
    ("name", "classification", "code"),
    [
        ("probabilities", 0, "request.parameter"),
        ("probabilities", -1, "request.parameter"),
        ("probabilities", True, "request.parameter"),
        ("probabilities", "2", "request.parameter"),
        ("label", 1, "request.output"),
        ("confidence", 1, "request.output"),
    ],
)
async def test_classifications_that_cannot_be(client, images, name, classification, code):
    fields = rest_request(images[:1], classification)
    fields["outputs"][0]["name"] = name
    answer = await client.post(URL, json=fields)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.fixture
async def counted(client, images, torchserve):
    """Three images answered in two requests, and one request refused."""
    torchserve.workers = [{"status": "READY"}] * 2
    await client.post(URL, json=rest_request(images[:2], 1))
    await client.post(URL, content=images[0], headers={"Inference-Header-Content-Length": "0"})
    await client.post(URL, content=b"{")


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("url", ["/v2/models/stats", "/v2/models/roofs/stats", "/v2/models/roofs/versions/3/stats"])
async def test_statistics(client, url):
    [model] = (await client.get(url)).json()["model_stats"]
    assert (model["name"], model["version"]) == ("roofs", "3")
    assert (model["inference_count"], model["execution_count"]) == (3, 3)
    assert model["last_inference"] > 1_700_000_000_000  # milliseconds, of this decade
    counts = {name: duration["count"] for name, duration in model["inference_stats"].items()}
    assert counts == {
        "success": 2,
        "fail": 1,
        "queue": 3,
        "compute_input": 3,
        "compute_infer": 3,
        "compute_output": 3,
        "cache_hit": 0,
        "cache_miss": 0,
    }
    spent = {name: duration["ns"] for name, duration in model["inference_stats"].items()}
    assert 0 < spent["compute_input"] + spent["compute_infer"] + spent["compute_output"] < 60e9
    assert 0 < spent["success"] < 60e9
    assert (model["response_stats"], model["memory_usage"]) == ({}, [])
    [batch] = model["batch_stats"]
    assert (batch["batch_size"], batch["compute_infer"]) == (1, model["inference_stats"]["compute_infer"])


async def test_statistics_of_nothing(client):
    [model] = (await client.get("/v2/models/stats")).json()["model_stats"]
    assert (model["inference_count"], model["last_inference"], model["batch_stats"]) == (0, 0, [])


async def test_statistics_over_grpc(call, images):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": images[:1]}}
    await call("ModelInfer", model_name="roofs", inputs=[tensor])
    for fields in ({}, {"name": "roofs"}, {"name": "roofs", "version": "3"}):
        [model] = (await call("ModelStatistics", **fields)).model_stats
        assert (model.name, model.version, model.inference_count) == ("roofs", "3", 1)
        assert model.inference_stats.success.count == 1
        assert model.inference_stats.success.ns > model.inference_stats.compute_infer.ns > 0


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters": {}}'])
async def test_load_of_what_is_loaded(client, body):
    answer = await client.post("/v2/repository/models/roofs/load", content=body)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("url", "body", "status", "code"),
    [
        ("roofs/load", {"parameters": {"config": "{}"}}, 400, "repository.fixed"),
        ("roofs/load", {"parameters": [1]}, 400, "request.json"),
        ("walls/load", {}, 404, "model.not_found"),
        ("roofs/unload", {"parameters": {"unload_dependents": False}}, 400, "repository.fixed"),
        ("walls/unload", {}, 404, "model.not_found"),
    ],
)
async def test_what_the_repository_does_not_grant(client, url, body, status, code):
    answer = await client.post(f"/v2/repository/models/{url}", content=json.dumps(body))
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_load_of_what_is_not_ready(client, torchserve):
    torchserve.workers = []
    answer = await client.post("/v2/repository/models/roofs/load")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "model.not_ready", "1")


async def test_the_repository_over_grpc(call):
    await call("RepositoryModelLoad", model_name="roofs")
    for method, name, code in [
        ("RepositoryModelLoad", "walls", grpc.StatusCode.NOT_FOUND),
        ("RepositoryModelUnload", "roofs", grpc.StatusCode.INVALID_ARGUMENT),
        ("RepositoryModelUnload", "walls", grpc.StatusCode.NOT_FOUND),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(method, model_name=name)
        assert caught.value.code() is code
    config = message("ModelRepositoryParameter")(string_param="{}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call("RepositoryModelLoad", model_name="roofs", parameters={"config": config})
    assert dict(caught.value.trailing_metadata())["visor-code"] == "repository.fixed"

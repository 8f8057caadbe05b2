"""The rule that decided, in every form of answer: an archive that has a bound, a band, groups, sets and a decision on errors."""

import base64
import json
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from aiohttp import web

from handlers.decision import prediction_sets
from handlers.entry import VisorHandler
from handlers.spec import CurvePoint, FnrBound, GroupRule, Limits, PredictionSets, Preprocessing, Spec
from tests.unit.specs import make_spec
from tests.unit.transformer.conftest import ANSWER, DIGEST, load_handler, write_archive
from transformer.grpc.messages import SERVICE, message, service_descriptor
from transformer.grpc.server import create_server
from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.service import Service

URL = "/v2/models/roofs/infer"
POINTS = (CurvePoint(threshold=0.1, missed=0.0, false_alarms=0.5), CurvePoint(threshold=0.9, missed=0.4, false_alarms=0.0))
BOUND = FnrBound(level=0.05, threshold=0.6, positives=99)
NORTH, SOUTH = "site=north", "Straße=Süd 1"


@pytest.fixture(scope="module")
def spec() -> Spec:
    view = Preprocessing(height=32, width=32, fit="crop", resize=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    return make_spec(
        ("intact", "damaged", "unsure"),
        name="roofs",
        version="3",
        preprocessing=view,
        feature_map=(128, 4, 4),
        temperature=1.5,
        positive=("damaged", "unsure"),
        threshold=0.4,
        review_from=0.25,
        review_to=0.75,
        fnr_bound=BOUND,
        curve=POINTS,
        groups=(
            GroupRule(name=NORTH, threshold=0.0, images=40, positives=20),
            GroupRule(name=SOUTH, threshold=0.9, images=40, positives=20),
        ),
        on_error="review",
        prediction_sets=PredictionSets(method="lac", coverage=0.9, limit=0.8, images=99),
        limits=Limits(max_bytes=100_000, max_pixels=1_000_000),
    )


@pytest.fixture(scope="module")
def handler(spec: Spec, tmp_path_factory: pytest.TempPathFactory) -> VisorHandler:
    return load_handler(write_archive(tmp_path_factory.mktemp("archive"), spec))


@pytest.fixture
async def rpc(service):
    server, port = create_server(service, "127.0.0.1", 0, age_s=10.0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

        async def call(method: str, **fields: Any) -> Any:
            described = service_descriptor().methods_by_name[method]
            answered = message(described.output_type.name).FromString
            stub = channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=answered)
            return await stub(message(described.input_type.name)(**fields).SerializeToString())

        yield call
    await server.stop(0)


def tensor(images: list[bytes]) -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [len(images)]}


async def ask_json(client, images, parameters):
    data = [base64.b64encode(image).decode() for image in images]
    response = await client.post(URL, json={"inputs": [{**tensor(images), "data": data}], "parameters": parameters})
    assert response.status_code == 200, response.text
    said = response.json()
    outputs = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in said["outputs"]}
    return said["parameters"], outputs, {one["name"]: one["datatype"] for one in said["outputs"]}


def raw_array(datatype: str, shape: list[int], raw: bytes) -> np.ndarray:
    if datatype != "BYTES":
        return np.frombuffer(raw, {"FP32": "<f4", "BOOL": "?"}[datatype]).reshape(shape)
    found = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return np.array(found).reshape(shape)


def prefixed(images):
    return b"".join(len(image).to_bytes(4, "little") + image for image in images)


async def ask_binary(client, images, parameters):
    blob = prefixed(images)
    fields = {
        "inputs": [{**tensor(images), "parameters": {"binary_data_size": len(blob)}}],
        "parameters": {**parameters, "binary_data_output": True},
    }
    text = json.dumps(fields).encode()
    response = await client.post(URL, content=text + blob, headers={"Inference-Header-Content-Length": str(len(text))})
    assert response.status_code == 200, response.text
    size = int(response.headers["inference-header-content-length"])
    said, raw, outputs = json.loads(response.content[:size]), response.content[size:], {}
    for one in said["outputs"]:
        length = one["parameters"]["binary_data_size"]
        outputs[one["name"]] = raw_array(one["datatype"], one["shape"], raw[:length])
        raw = raw[length:]
    return said["parameters"], outputs, {one["name"]: one["datatype"] for one in said["outputs"]}


KINDS = {bool: "bool_param", float: "double_param", str: "string_param"}


async def ask_grpc(rpc, images, parameters):
    sent = {name: {KINDS[type(value)]: value} for name, value in parameters.items()}
    fields = {"inputs": [tensor(images)], "raw_input_contents": [prefixed(images)], "parameters": sent}
    said = await rpc("ModelInfer", model_name="roofs", **fields)
    outputs = {
        one.name: raw_array(one.datatype, list(one.shape), raw)
        for one, raw in zip(said.outputs, said.raw_output_contents, strict=True)
    }
    parameters = {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in said.parameters.items()}
    return parameters, outputs, {one.name: one.datatype for one in said.outputs}


@pytest.fixture(params=["json", "binary", "grpc"])
def ask(request, client, rpc):
    """Ask in one form: the answer's parameters, its outputs as arrays, and their datatypes."""
    form = {"json": (ask_json, client), "binary": (ask_binary, client), "grpc": (ask_grpc, rpc)}[request.param]
    return lambda images, parameters: form[0](form[1], images, parameters)


RULE = {"archive_digest": DIGEST, "model_version": "3", "threshold_overridden": False, "positive": '["damaged", "unsure"]'}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, {"threshold": 0.4, "review_from": 0.25, "review_to": 0.75, "promise": "held"}),
        (
            {"threshold": 0.4},
            {"threshold": 0.4, "review_from": 0.25, "review_to": 0.4, "promise": "held", "threshold_overridden": True},
        ),
        (
            {"threshold": 0.7},
            {"threshold": 0.7, "review_from": 0.25, "review_to": 0.7, "promise": "overridden", "threshold_overridden": True},
        ),
        ({"group": NORTH}, {"threshold": 0.0, "review_from": 0.0, "review_to": 0.75, "promise": "held", "group": NORTH}),
        ({"group": SOUTH}, {"threshold": 0.9, "review_from": 0.25, "review_to": 0.9, "promise": "overridden", "group": SOUTH}),
        (
            {"group": SOUTH, "threshold": 0.0},
            {
                "threshold": 0.0,
                "review_from": 0.0,
                "review_to": 0.0,
                "promise": "held",
                "group": SOUTH,
                "threshold_overridden": True,
            },
        ),
    ],
)
async def test_an_answer_says_the_rule_that_decided(ask, images, asked, said):
    parameters, outputs, _ = await ask(images, asked)
    assert parameters == RULE | said
    by_hand = [
        "flag" if score >= said["review_to"] else "review" if score >= said["review_from"] else "pass"
        for score in outputs["probabilities"].astype(np.float64)[:, 1:].sum(axis=1)
    ]
    assert outputs["decision"].tolist() == by_hand


async def test_the_request_log_is_told_which_rule_was_asked_for(client, service, images, monkeypatch):
    ended = []
    monkeypatch.setattr(service, "end", ended.append)
    for asked in ({"group": NORTH}, {"threshold": 0.7}, {}):
        await ask_json(client, images[:1], asked)
    assert [(record.group, record.threshold) for record in ended] == [(NORTH, None), (None, 0.7), (None, None)]


async def test_score_and_set_are_of_the_probabilities(ask, images, spec):
    _, outputs, datatypes = await ask(images, {})
    probs = outputs["probabilities"].astype(np.float32)
    assert (datatypes["score"], datatypes["prediction_set"]) == ("FP32", "BOOL")
    np.testing.assert_allclose(outputs["score"], probs[:, 1] + probs[:, 2], atol=1e-6)
    assert outputs["prediction_set"].shape == (4, 3)
    assert outputs["prediction_set"].astype(bool).tolist() == (probs >= 0.2 - 1e-7).tolist()  # a set's limit is 0.8 of 1 - p
    assert prediction_sets(probs, spec.prediction_sets).tolist() == outputs["prediction_set"].astype(bool).tolist()


async def test_a_heat_map_comes_with_its_box_and_its_peak(ask, images):
    plain = (await ask(images, {}))[1]
    assert not {name for name in plain if name.startswith("heatmap")}
    _, outputs, datatypes = await ask(images, {"explain": True})
    assert datatypes["heatmap_box"] == datatypes["heatmap_peak"] == "FP32"
    # 48 x 40 pixels, scaled to 77 x 64, of which the middle 32 x 32 were seen
    seen = [(1 - 32 / 77) / 2, 0.25, 32 / 77, 0.5]
    np.testing.assert_allclose(outputs["heatmap_box"], [seen] * 4, rtol=1e-6)
    assert outputs["heatmap_peak"].shape == (4,)
    assert ((outputs["heatmap_peak"] > 0) == outputs["heatmap"].any(axis=(1, 2))).all()


async def test_a_picture_that_fails_gets_the_archives_decision(ask, images):
    _, outputs, _ = await ask([images[0], b"no image"], {"explain": True})
    assert outputs["error"].tolist() == ["", "image.undecodable"]
    assert outputs["decision"][1] == "review"
    assert outputs["error_message"][0] == ""
    assert outputs["error_message"][1].startswith("image.undecodable: 8 bytes are not a whole image")
    assert outputs["label"][1] == ""
    assert not outputs["prediction_set"].astype(bool)[1].any()
    assert outputs["score"][1] == outputs["confidence"][1] == outputs["heatmap_peak"][1] == 0
    assert not outputs["heatmap_box"][1].any()
    # Also where all of them do: no request is refused for its pictures.
    _, outputs, _ = await ask([b"no image", bytes(100_001)], {})
    assert outputs["decision"].tolist() == ["review", "review"]
    assert outputs["error"].tolist() == ["image.undecodable", "image.too_large"]


async def test_an_unknown_group_is_refused(client, rpc, images):
    for group, code in (("site=south", "request.group"), (7, "request.parameter")):
        data = [base64.b64encode(images[0]).decode()]
        fields = {"inputs": [{**tensor(images[:1]), "data": data}], "parameters": {"group": group}}
        response = await client.post(URL, json=fields)
        assert (response.status_code, response.json()["code"]) == (400, code)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask_grpc(rpc, images[:1], {"group": "site=south"})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["visor-code"] == "request.group"
    assert f"it has {NORTH}, {SOUTH}" in caught.value.details()


async def test_a_server_may_refuse_a_requests_own_threshold(upstream, spec, images):
    strict = Service(spec, DIGEST, upstream, Metrics(spec, DIGEST), allow_threshold=False)
    transport = httpx.ASGITransport(create_app(strict), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        for parameters, status in (({}, 200), ({"group": NORTH}, 200), ({"threshold": 0.4}, 400), ({"threshold": 0}, 400)):
            data = [base64.b64encode(images[0]).decode()]
            fields = {"inputs": [{**tensor(images[:1]), "data": data}], "parameters": parameters}
            response = await client.post(URL, json=fields)
            assert response.status_code == status
            assert response.json().get("code") == ("request.threshold" if status == 400 else None)
    server, port = create_server(strict, "127.0.0.1", 0, age_s=10.0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        sent = {"inputs": [tensor(images[:1])], "parameters": {"threshold": {"double_param": 0.4}}}
        request = message("ModelInferRequest")(model_name="roofs", raw_input_contents=[prefixed(images[:1])], **sent)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(request.SerializeToString())
    await server.stop(0)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["visor-code"] == "request.threshold"


async def test_metadata_has_the_rule_and_grpc_s_configuration_too(client, rpc):
    answer = (await client.get("/v2/models/roofs")).json()
    facts = answer["parameters"]
    assert (facts["threshold"], facts["review_from"], facts["review_to"]) == (0.4, 0.25, 0.75)
    assert facts["positive"] == ["damaged", "unsure"]
    assert facts["curve"] == [
        {"threshold": 0.1, "missed": 0.0, "false_alarms": 0.5},
        {"threshold": 0.9, "missed": 0.4, "false_alarms": 0.0},
    ]
    assert facts["fnr_bound"] == {"level": 0.05, "threshold": 0.6, "positives": 99}
    assert facts["groups"] == [
        {"name": NORTH, "threshold": 0.0, "review_from": 0.0, "review_to": 0.75},
        {"name": SOUTH, "threshold": 0.9, "review_from": 0.25, "review_to": 0.9},
    ]
    assert facts["prediction_sets"] == {"method": "lac", "coverage": 0.9}
    assert facts["on_error"] == "review"
    config = (await rpc("ModelConfig", name="roofs")).config
    said = {name: fact.string_value for name, fact in config.parameters.items()}
    texts = {name: said.pop(name) for name in ("archive_digest", "on_error")}
    assert texts | {name: json.loads(fact) for name, fact in said.items()} == facts
    outputs = {one.name: (one.datatype, list(one.shape)) for one in (await rpc("ModelMetadata", name="roofs")).outputs}
    assert outputs["score"] == ("FP32", [-1])
    assert outputs["prediction_set"] == ("BOOL", [-1, 3])
    assert outputs["error_message"] == ("BYTES", [-1])
    assert {one["name"]: (one["datatype"], one["shape"]) for one in answer["outputs"]} == outputs


OLD = {**ANSWER, "heatmap": [[0.0] * 4] * 4, "heatmap_label": "damaged"}


async def test_a_worker_of_an_older_archive_is_served_without_what_it_does_not_say(client, images, torchserve):
    async def reply(*_):
        return web.json_response(OLD)

    torchserve.reply = reply
    _, outputs, _ = await ask_json(client, images[:1], {"explain": True})
    assert {"heatmap", "heatmap_label", "score"} <= outputs.keys()
    assert outputs["score"].tolist() == [0.5]  # 0.25 and 0.25, the positive labels' probabilities
    assert not {"heatmap_box", "heatmap_peak"} & outputs.keys()


async def test_an_older_worker_s_nan_is_an_error_of_its_image(client, images, torchserve):
    sound = True

    async def reply(*_):
        nonlocal sound
        sound = not sound
        broken = {**ANSWER, "confidence": float("nan"), "probabilities": [float("nan")] * 3}
        return web.Response(text=json.dumps(ANSWER if sound else broken))  # as the handler writes it, NaN and all

    torchserve.reply = reply
    _, outputs, _ = await ask_json(client, images[:2], {})
    assert sorted(outputs["error"].tolist()) == ["", "image.unanswerable"]
    assert sorted(outputs["decision"].tolist()) == ["pass", "review"]

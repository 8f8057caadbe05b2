"""Health, metadata, index, metrics and the addresses that are not there."""

import asyncio
import json
from importlib.metadata import version

import pytest

from transformer.metrics import Metrics
from transformer.request_log import Record


async def test_live_says_nothing_of_torchserve(client, torchserve):
    torchserve.workers = None
    assert (await client.get("/v2/health/live")).json() == {"live": True}


NOT_READY = [None, [], [{"status": "LOADING"}], [{"status": "UNLOADING"}, {"status": "LOADING"}], [{}]]


@pytest.mark.parametrize("workers", NOT_READY)
async def test_ready_only_with_a_worker(client, torchserve, workers):
    for url in ("/v2/health/ready", "/v2/models/roofs/ready", "/v2/models/roofs/versions/3/ready"):
        assert (await client.get(url)).status_code == 200
        assert (await client.get(url)).json()["ready"] is True
        good, torchserve.workers = torchserve.workers, workers
        response = await client.get(url)
        torchserve.workers = good
        assert response.status_code == 503
        assert response.json()["code"] == "model.not_ready"
    torchserve.workers = workers
    assert (await client.get("/v2/health/ready")).json()["ready"] is False


async def test_one_worker_of_several_is_enough(client, torchserve):
    torchserve.workers = [{"status": "LOADING"}, {"status": "READY"}]
    assert (await client.get("/v2/health/ready")).status_code == 200


async def test_readiness_is_asked_once_in_a_while(client, torchserve, upstream):
    upstream._ready_cache_s = 60.0
    answers = await asyncio.gather(*(client.get("/v2/health/ready") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert torchserve.polls == 1


async def test_server_metadata(client):
    assert (await client.get("/v2")).json() == {
        "name": "visor",
        "version": version("visor"),
        "extensions": [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "parameters",
            "statistics",
        ],
    }


@pytest.mark.parametrize("url", ["/v2/models/roofs", "/v2/models/roofs/versions/3"])
async def test_model_metadata(client, url):
    answer = (await client.get(url)).json()
    assert (answer["name"], answer["versions"], answer["platform"]) == ("roofs", ["3"], "visor_torch")
    assert answer["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert {output["name"]: (output["datatype"], output["shape"]) for output in answer["outputs"]} == {
        "label": ("BYTES", [-1]),
        "confidence": ("FP32", [-1]),
        "probabilities": ("FP32", [-1, 3]),
        "decision": ("BYTES", [-1]),
        "score": ("FP32", [-1]),
        "error": ("BYTES", [-1]),
    }
    on_request = answer["parameters"].pop("outputs_on_request")
    assert {output["name"]: (output["datatype"], output["shape"]) for output in on_request} == {
        "heatmap": ("FP32", [-1, 4, 4]),
        "heatmap_label": ("BYTES", [-1]),
        "heatmap_box": ("FP32", [-1, 4]),
        "heatmap_peak": ("FP32", [-1]),
        "top_labels": ("BYTES", [-1, -1]),
        "top_probabilities": ("FP32", [-1, -1]),
    }
    assert answer["parameters"] == {
        "archive_digest": "ab" * 32,
        "inputs_instead": [{"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3], "instead_of": "image"}],
        "labels": ["intact", "damaged", "unsure"],
        "positive": ["damaged"],
        "threshold": 0.4,
        "review_from": 0.4,
        "review_to": 0.4,
    }


@pytest.mark.parametrize("url", ["/v2/models/roofs/config", "/v2/models/roofs/versions/3/config"])
async def test_model_config(client, torchserve, url):
    torchserve.workers = [{"status": "READY"}] * 2
    answer = (await client.get(url)).json()
    facts = {name: parameter["string_value"] for name, parameter in answer.pop("parameters").items()}
    assert answer == {
        "name": "roofs",
        "platform": "visor_torch",
        "backend": "visor",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [{"name": "image", "data_type": "TYPE_STRING", "dims": [-1]}],
        "output": [
            {"name": "label", "data_type": "TYPE_STRING", "dims": [-1]},
            {"name": "confidence", "data_type": "TYPE_FP32", "dims": [-1]},
            {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [-1, 3]},
            {"name": "decision", "data_type": "TYPE_STRING", "dims": [-1]},
            {"name": "score", "data_type": "TYPE_FP32", "dims": [-1]},
            {"name": "error", "data_type": "TYPE_STRING", "dims": [-1]},
        ],
        "instance_group": [{"name": "roofs_0", "kind": "KIND_CPU", "count": 2}],
    }
    metadata = (await client.get("/v2/models/roofs")).json()["parameters"]
    assert facts.pop("archive_digest") == metadata.pop("archive_digest")
    assert {name: json.loads(fact) for name, fact in facts.items()} == metadata


async def test_the_config_knows_no_workers_where_nobody_tells(client, torchserve):
    torchserve.workers = None
    assert (await client.get("/v2/models/roofs/config")).json()["instance_group"] == []


async def test_every_declared_output_can_be_asked_for(client, images):
    model = (await client.get("/v2/models/roofs")).json()
    headers = {"Content-Type": "image/png"}
    bare = await client.post("/v2/models/roofs/infer", content=images[0], headers=headers)
    assert [output["name"] for output in bare.json()["outputs"]] == [output["name"] for output in model["outputs"]]
    declared = model["outputs"] + model["parameters"]["outputs_on_request"]
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [9] * 192}
    fields = {
        "inputs": [pixels],
        "outputs": [{"name": output["name"]} for output in declared],
    }
    answer = (await client.post("/v2/models/roofs/infer", json=fields)).json()
    for said, got in zip(declared, answer["outputs"], strict=True):
        assert (said["name"], said["datatype"]) == (got["name"], got["datatype"])
        assert len(said["shape"]) == len(got["shape"])
        assert all(side in (-1, size) for side, size in zip(said["shape"], got["shape"], strict=True))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_index(client, torchserve, method):
    ready = {"name": "roofs", "version": "3", "state": "READY", "reason": ""}
    assert (await client.request(method, "/v2/repository/index")).json() == [ready]
    torchserve.workers = []
    [model] = (await client.request(method, "/v2/repository/index")).json()
    assert (model["state"], model["reason"]) == ("UNAVAILABLE", "no worker is ready")
    assert (await client.request(method, "/v2/repository/index", json={"ready": True})).json() == []


async def test_index_refuses_what_is_no_json(client):
    response = await client.post("/v2/repository/index", content=b"{")
    assert (response.status_code, response.json()["code"]) == (400, "request.json")


@pytest.mark.parametrize(
    ("method", "url", "status", "code"),
    [
        ("GET", "/", 404, "request.path"),
        ("GET", "/v2/", 404, "request.path"),
        ("GET", "/v1/models/roofs", 404, "request.path"),
        ("GET", "/v2/models/roofs/infer", 405, "request.method"),
        ("DELETE", "/v2/models/roofs", 405, "request.method"),
        ("GET", "/v2/models/walls", 404, "model.not_found"),
        ("GET", "/v2/models/walls/ready", 404, "model.not_found"),
        ("GET", "/v2/models/walls/config", 404, "model.not_found"),
        ("GET", "/v2/models/roofs/versions/1/config", 404, "model.version"),
        ("GET", "/v2/models/roofs/versions/1", 404, "model.version"),
        ("GET", "/v2/models/roofs/versions/1/ready", 404, "model.version"),
    ],
)
async def test_addresses_that_are_not_there(client, method, url, status, code):
    response = await client.request(method, url)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["error"].startswith(f"{code}: ")
    assert ("POST" in response.headers.get("allow", "")) == (method == "GET" and status == 405)


async def test_what_clients_invent_makes_no_series(client):
    async def invent(n):
        await client.post(f"/v2/models/m{n}/infer", content=b"{}")
        await client.post(f"/v2/models/roofs/versions/{n}/infer", content=b"{}")
        await client.post("/v2/models/roofs/infer", json={"id": f"i{n}", "inputs": [], "parameters": {f"p{n}": n}})
        await client.get(f"/nothing/{n}")
        await client.request(f"X{n}", "/v2")
        text = (await client.get("/metrics")).text
        return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}

    first = await invent(1001)
    for n in range(1002, 1020):
        assert await invent(n) == first


async def test_metrics_count_what_happened(client, images):
    headers = {"Content-Type": "image/png"}
    label = (await client.post("/v2/models/roofs/infer", content=images[0], headers=headers)).json()["outputs"][0]["data"][0]
    await client.post("/v2/models/roofs/infer", content=b"no image", headers=headers)
    await client.post("/v2/models/roofs/infer", content=b"{")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    request = 'visor_request_seconds_count{code="%s",model="roofs",protocol="rest",version="3"}'
    assert lines[request % 200] == "1.0"
    assert lines[request % 400] == "2.0"
    decisions = {key: value for key, value in lines.items() if key.startswith("visor_decisions_total")}
    assert list(decisions.values()) == ["1.0"]
    assert f'label="{label}"' in next(iter(decisions))
    assert lines['visor_confidence_count{model="roofs",version="3"}'] == "1.0"
    assert lines['visor_images_rejected_total{code="image.undecodable",model="roofs",version="3"}'] == "1.0"
    stages = [key.split('stage="')[1].split('"')[0] for key in lines if key.startswith("visor_stage_seconds_count")]
    assert sorted(stages) == ["decide", "decode", "explain", "infer", "queue", "transport"]
    refused = 'visor_requests_refused_total{code="%s",model="roofs",protocol="rest",version="3"}'
    assert (lines[refused % "image.undecodable"], lines[refused % "request.json"]) == ("1.0", "1.0")
    assert lines['visor_queue_images{model="roofs",version="3"}'] == "0.0"
    [build] = [key for key in lines if key.startswith("visor_build_info")]
    assert f'archive_digest="{"ab" * 32}"' in build


async def test_two_apps_count_apart(service, spec):
    other = Metrics(spec, "cd" * 32)
    other.end(Record("rest", "/v2/models/roofs/infer"))
    assert b"visor_request_seconds_count" in other.render()
    assert b"visor_request_seconds_count" not in service.metrics.render()

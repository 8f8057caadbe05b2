"""perf_analyzer's own calls, recorded from 2.60.0, are answered; what it reads of the answers is held as its sources have it.

`perf_analyzer.json` says by which commands they came. `python -m loadtests.perf_analyzer` runs the program itself.
"""

import base64
import json
from pathlib import Path

import grpc
import pytest

from transformer.grpc.messages import SERVICE, message, service_descriptor

RECORDED = json.loads(Path(__file__).with_name("perf_analyzer.json").read_text())


async def test_its_rest_calls_are_answered(client):
    answers = {}
    for call in RECORDED["rest"]:
        body = base64.b64decode(call["body"])
        answer = await client.request(call["method"], call["path"], headers=call["headers"], content=body)
        assert answer.status_code == 200, answer.text
        answers.setdefault(call["path"], []).append(answer)
    check_description(answers["/v2/models/roofs"][0].json(), answers["/v2/models/roofs/config"][0].json())
    assert answers["/v2"][0].json()["extensions"]
    for answer in answers["/v2/models/roofs/infer"]:  # it asks for each output as binary
        size = int(answer.headers["inference-header-content-length"])
        outputs = json.loads(answer.content[:size])["outputs"]
        assert sum(output["parameters"]["binary_data_size"] for output in outputs) == len(answer.content) - size
    [stats] = (await client.get("/v2/models/roofs/stats")).json()["model_stats"]
    assert stats["inference_stats"]["success"]["count"] == len(answers["/v2/models/roofs/infer"]) == 2
    assert {"queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"} < set(
        stats["inference_stats"]
    )


def check_description(metadata, config):
    """Its model_parser.cc: the config's inputs and outputs must be in the metadata; these members would change how it asks."""
    for kind in ("input", "output"):
        assert {tensor["name"] for tensor in config[kind]} <= {tensor["name"] for tensor in metadata[f"{kind}s"]}
    assert isinstance(config["max_batch_size"], int)
    assert not {"sequence_batching", "dynamic_batching", "ensemble_scheduling", "response_cache"} & set(config)


@pytest.fixture
async def call(edge):
    """Call a method with a recorded message, several for a stream; the answers."""
    async with grpc.aio.insecure_channel(edge.grpc) as channel:

        async def call(method, *bodies):
            described = service_descriptor().methods_by_name[method]
            read = message(described.output_type.name).FromString
            if method == "ModelStreamInfer":
                return [answer async for answer in channel.stream_stream(f"/{SERVICE}/{method}", None, read)(iter(bodies))]
            stub = channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=read)
            return [await stub(body) for body in bodies]

        yield call


async def test_its_grpc_calls_are_answered(call):
    bodies = {}
    for recorded in RECORDED["grpc"]:
        bodies.setdefault(recorded["method"], []).append(base64.b64decode(recorded["body"]))
    answers = {method: await call(method, *sent) for method, sent in bodies.items()}
    assert {len(answers[method]) == len(sent) for method, sent in bodies.items()} == {True}
    streamed = answers["ModelStreamInfer"]
    assert [answer.error_message for answer in streamed] == ["", ""]
    sent = [message("ModelInferRequest").FromString(body) for body in bodies["ModelStreamInfer"]]
    assert [answer.infer_response.id for answer in streamed] == [request.id for request in sent]
    assert all(answer.infer_response.parameters["triton_final_response"].bool_param for answer in streamed)
    [statistics] = (await call("ModelStatistics", b""))[0].model_stats
    assert statistics.inference_stats.success.count == 4

"""Standard clients, unchanged, against the edge on real ports."""

import asyncio
import json
import queue
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from transformer.grpc.messages import service_descriptor

KSERVE = '''
"""Answers as JSON what KServe's SDK saw; a process of its own, because its proto and tritonclient's cannot meet in one."""
import asyncio, base64, json, sys
import numpy as np
from google.protobuf import descriptor_pb2
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2
from kserve.protocol.infer_type import RequestedOutput
from transformer.grpc.messages import service_descriptor

def fields(descriptor):
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    return flat(proto)

def flat(proto):
    found = {f"{field.name}": [field.number, field.type, field.label, field.type_name] for field in proto.field}
    for nested in proto.nested_type:
        found.update({f"{nested.name}.{name}": value for name, value in flat(nested).items()})
    return found

def described(file):
    return {name: fields(message) for name, message in file.message_types_by_name.items()}

def request(image, binary, outputs=None):
    tensor = InferInput("image", [1], "BYTES")
    data = image if binary else base64.b64encode(image)
    tensor.set_data_from_numpy(np.array([data], dtype=np.object_), binary_data=binary)
    return InferRequest("roofs", [tensor], request_id="9", parameters={"explain": True}, request_outputs=outputs)

async def main(http, grpc, image):
    seen = {"ours": described(service_descriptor().file), "theirs": described(grpc_predict_v2_pb2.DESCRIPTOR)}
    service = grpc_predict_v2_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for who, methods in (("ours", service_descriptor().methods), ("theirs", service.methods)):
        seen[f"{who}_methods"] = {m.name: [m.input_type.full_name, m.output_type.full_name] for m in methods}
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    seen["rest"] = [
        await rest.is_server_live(http), await rest.is_server_ready(http), await rest.is_model_ready(http, "roofs"),
        await rest.is_model_ready(http, "walls"),
    ]
    for name, binary, outputs in [
        ("json", False, None), ("binary", True, None), ("binary_out", True, [RequestedOutput("label", {"binary_data": True})]),
    ]:
        answer = await rest.infer(http, request(image, binary, outputs), model_name="roofs")
        seen[name] = summary(answer)
    await rest.close()
    client = InferenceGRPCClient(grpc)
    seen["grpc"] = [
        await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready("roofs"),
    ]
    seen["grpc_infer"] = summary(await client.infer(request(image, True)))
    await client.close()
    print(json.dumps(seen))

def text(value):
    return value.decode() if isinstance(value, bytes) else value

def summary(answer):
    outputs = {output.name: output for output in answer.outputs}
    return [answer.id, answer.model_name, list(outputs), text(outputs["label"].as_numpy()[0])]

image = sys.stdin.buffer.read()
asyncio.run(main(sys.argv[1], sys.argv[2], image))
'''


def triton_inputs(kind, images, *, binary=True):
    tensor = kind.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=np.object_), **({} if kind is triton_grpc else {"binary_data": binary}))
    return [tensor]


def check_triton(kind, address, images, expected):
    """Everything that tritonclient asks of a server that serves one model; blocking."""
    client = kind.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("roofs")
    assert client.is_model_ready("roofs", "3")
    assert not client.is_model_ready("walls")
    assert not client.is_model_ready("roofs", "9")
    for ask in (client.get_system_shared_memory_status, client.unregister_cuda_shared_memory):
        with pytest.raises(InferenceServerException, match=r"request\.shared_memory"):
            ask()
    shared = kind.InferRequestedOutput("label")
    shared.set_shared_memory("mine", 100)
    with pytest.raises(InferenceServerException, match=r"request\.shared_memory"):
        client.infer("roofs", triton_inputs(kind, images), outputs=[shared])
    [unfilled] = triton_inputs(kind, images)
    unfilled.set_shared_memory("mine", 100)
    with pytest.raises(InferenceServerException, match=r"request\.shared_memory"):
        client.infer("roofs", [unfilled])
    with pytest.raises(InferenceServerException, match=r"model\.not_found"):
        client.get_model_metadata("walls")
    result = client.infer("roofs", triton_inputs(kind, images), model_version="3", request_id="5", parameters={"explain": True})
    labels = [answer["label"].encode() for answer in expected]
    assert result.as_numpy("label").tolist() == labels
    np.testing.assert_allclose(result.as_numpy("probabilities"), [answer["probabilities"] for answer in expected], rtol=1e-6)
    np.testing.assert_allclose(result.as_numpy("heatmap"), [answer["heatmap"] for answer in expected], atol=1e-6)
    assert result.as_numpy("error").tolist() == [b""] * len(images)
    asked = client.infer(
        "roofs", triton_inputs(kind, images), outputs=[kind.InferRequestedOutput("decision")], parameters={"threshold": 0.0}
    )
    assert asked.as_numpy("label") is None
    assert asked.as_numpy("decision").tolist() == [b"flag"] * len(images)
    with pytest.raises(InferenceServerException, match=r"^.*image\.undecodable"):
        client.infer("roofs", triton_inputs(kind, [b"junk"]))
    with pytest.raises(InferenceServerException, match=r"model\.version"):
        client.infer("roofs", triton_inputs(kind, images), model_version="9")
    client.close()


async def test_tritonclient_over_http(edge, images, ask_handler):
    expected = [ask_handler(image, explain="true") for image in images[:2]]
    await asyncio.to_thread(check_triton, triton_http, edge.http, images[:2], expected)

    def more():
        client = triton_http.InferenceServerClient(edge.http)
        assert client.get_server_metadata()["name"] == "visor"
        assert client.get_model_metadata("roofs")["versions"] == ["3"]
        assert client.get_model_config("roofs", "3")["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [-1]}]
        assert client.get_model_repository_index()[0]["state"] == "READY"
        outputs = [triton_http.InferRequestedOutput(name, binary_data=False) for name in ("label", "heatmap")]
        pixels = triton_http.InferInput("pixels", [1, 8, 8, 3], "UINT8")
        pixels.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8), binary_data=False)
        result = client.infer("roofs", [pixels], outputs=outputs, parameters={"explain": True})
        assert result.as_numpy("heatmap").shape == (1, 4, 4)
        client.close()

    await asyncio.to_thread(more)


async def test_tritonclient_over_grpc(edge, images, ask_handler):
    expected = [ask_handler(image, explain="true") for image in images[:2]]
    await asyncio.to_thread(check_triton, triton_grpc, edge.grpc, images[:2], expected)

    def more():
        client = triton_grpc.InferenceServerClient(edge.grpc)
        assert client.get_server_metadata().name == "visor"
        assert list(client.get_model_metadata("roofs").versions) == ["3"]
        config = client.get_model_config("roofs", "3").config
        assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.input] == [
            ("image", model_config_pb2.TYPE_STRING, [-1])
        ]
        assert (config.backend, config.max_batch_size, config.instance_group[0].count) == ("visor", 0, 1)
        assert json.loads(config.parameters["labels"].string_value) == ["intact", "damaged", "unsure"]
        assert client.get_model_repository_index().models[0].state == "READY"
        client.close()

    await asyncio.to_thread(more)


async def test_tritonclient_over_a_stream(edge, images, ask_handler):
    """Answers come in the requests' order; an error is the answer to its own request, and the stream goes on."""

    def stream():
        found = queue.Queue()
        with triton_grpc.InferenceServerClient(edge.grpc) as client:
            client.start_stream(lambda result, error: found.put((result, error)))
            for n, image in enumerate([images[0], b"junk", images[1]]):
                client.async_stream_infer(
                    "roofs", triton_inputs(triton_grpc, [image]), request_id=str(n), enable_empty_final_response=True
                )
            answers = [found.get(timeout=5) for _ in range(3)]
            client.stop_stream()
        return answers

    (first, no_error), (_, error), (last, _) = await asyncio.to_thread(stream)
    assert no_error is None
    assert "image.undecodable: " in str(error)
    for n, result, image in ((0, first, images[0]), (2, last, images[1])):
        assert result.as_numpy("label").tolist() == [ask_handler(image)["label"].encode()]
        assert result.get_response().id == str(n)
        assert result.get_response().parameters["triton_final_response"].bool_param


def test_our_messages_are_tritons():
    """Field by field: what we have of a message has its number, its type and how often it comes."""

    def check(ours, theirs):
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), field.full_name
        for nested in ours.nested_types:
            check(nested, theirs.nested_types_by_name[nested.name])
        for kind in ours.enum_types:
            check_enum(kind, theirs.enum_types_by_name[kind.name])

    def check_enum(ours, theirs):
        numbers = {value.name: value.number for value in theirs.values}
        assert {value.name: value.number for value in ours.values}.items() <= numbers.items()

    file, files = service_descriptor().file, (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR)
    messages = {name: found for one in files for name, found in one.message_types_by_name.items()}
    enums = {name: found for one in files for name, found in one.enum_types_by_name.items()}
    for name, ours in file.message_types_by_name.items():
        check(ours, messages[name])
    for name, ours in file.enum_types_by_name.items():
        check_enum(ours, enums[name])
    methods = files[0].services_by_name["GRPCInferenceService"].methods_by_name
    for method in service_descriptor().methods:
        theirs = methods[method.name]
        for one, other in ((method.input_type, theirs.input_type), (method.output_type, theirs.output_type)):
            assert one.full_name == other.full_name
        streams = (method.client_streaming, method.server_streaming)
        assert streams == (theirs.client_streaming, theirs.server_streaming)


async def test_kserves_sdk_and_its_proto(edge, images, ask_handler):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KSERVE, f"http://{edge.http}", edge.grpc),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate(images[0])
    assert process.returncode == 0, err.decode()[-3000:]
    seen = json.loads(out.splitlines()[-1])

    assert seen["rest"] == [True, True, True, False]
    assert seen["grpc"] == [True, True, True]
    label = ask_handler(images[0])["label"]
    maps = ["heatmap", "heatmap_label", "heatmap_box", "heatmap_peak"]
    names = ["label", "confidence", "probabilities", "decision", "score", *maps, "error"]
    for way in ("json", "binary", "grpc_infer"):
        assert seen[way] == ["9", "roofs", names, label]
    assert seen["binary_out"] == ["9", "roofs", ["label"], label]

    # The specification's double_param and uint64_param, which KServe's copy of the proto lacks.
    newer = {"InferParameter": ["double_param", "uint64_param"]}
    for name, fields in seen["theirs"].items():
        if not name.startswith(("RepositoryModelLoad", "RepositoryModelUnload")):
            assert {key: value for key, value in seen["ours"][name].items() if key not in newer.get(name, [])} == fields
    for method, types in seen["theirs_methods"].items():
        if not method.startswith("RepositoryModel"):
            assert seen["ours_methods"][method] == types

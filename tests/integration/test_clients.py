"""Standard clients, unchanged, against `visor serve`: all that tritonclient and KServe's SDK can ask of a server of one model."""

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from aiohttp import web
from tritonclient.utils import InferenceServerException

from tests.integration.running import Server

# A process of its own: KServe's proto and tritonclient's cannot meet in one.
KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def main(rest_url, grpc_url):
    tensor = InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([sys.stdin.buffer.read()], dtype=np.object_), binary_data=True)
    request = InferRequest("digits", [tensor], request_id="7")
    rest, over_grpc = InferenceRESTClient(RESTConfig(protocol="v2")), InferenceGRPCClient(grpc_url)
    ready = [await rest.is_server_live(rest_url), await rest.is_server_ready(rest_url),
             await rest.is_model_ready(rest_url, "digits"), await over_grpc.is_server_live(),
             await over_grpc.is_server_ready(), await over_grpc.is_model_ready("digits")]
    answers = [await rest.infer(rest_url, request, model_name="digits"), await over_grpc.infer(request)]
    told = []
    for answer in answers:
        label = next(output for output in answer.outputs if output.name == "label").as_numpy()[0]
        told.append([answer.id, answer.model_name, label.decode() if isinstance(label, bytes) else str(label)])
    await rest.close()
    await over_grpc.close()
    print(json.dumps({"ready": ready, "told": told}))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="session")
def picture(images: dict[Path, str]) -> bytes:
    """One of the test images."""
    return next(iter(images)).read_bytes()


@pytest.fixture(scope="session")
def label(server: Server, picture: bytes) -> str:
    """What the server says of it by the plainest of requests, which needs no client."""
    headers = {"Content-Type": "image/png"}
    answer = httpx.post(f"http://{server.rest}/v2/models/digits/infer", content=picture, headers=headers).json()
    return next(str(output["data"][0]) for output in answer["outputs"] if output["name"] == "label")


def tensor(kind: Any, picture: bytes) -> Any:
    made = kind.InferInput("image", [1], "BYTES")
    made.set_data_from_numpy(np.array([picture], dtype=np.object_))
    return made


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"},
        {"request_compression_algorithm": "deflate", "response_compression_algorithm": "deflate"},
        {"timeout": 60_000_000, "request_id": "7", "priority": 1},
    ],
)
def test_tritonclient_over_http(server: Server, picture: bytes, label: str, options: dict[str, Any]) -> None:
    with tritonclient.http.InferenceServerClient(server.rest) as client:
        result = client.infer("digits", [tensor(tritonclient.http, picture)], model_version="1", **options)
        assert result.as_numpy("label").tolist() == [label.encode()]


@pytest.mark.parametrize(
    "options", [{}, {"compression_algorithm": "gzip"}, {"compression_algorithm": "deflate"}, {"client_timeout": 60.0}]
)
def test_tritonclient_over_grpc(server: Server, picture: bytes, label: str, options: dict[str, Any]) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        result = client.infer("digits", [tensor(tritonclient.grpc, picture)], model_version="1", **options)
        assert result.as_numpy("label").tolist() == [label.encode()]


def plain(answer: Any) -> Any:
    """An answer over gRPC as the JSON that REST gives."""
    from google.protobuf.json_format import MessageToDict

    return answer if isinstance(answer, dict | list) else MessageToDict(answer, preserving_proto_field_name=True)


@pytest.mark.parametrize("kind", [tritonclient.http, tritonclient.grpc])
def test_tritonclients_other_calls(server: Server, picture: bytes, label: str, kind: Any) -> None:
    address = server.rest if kind is tritonclient.http else server.grpc
    with kind.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits", "1")
        assert set(plain(client.get_server_metadata())["extensions"]) >= {"classification", "model_repository", "statistics"}
        assert plain(client.get_model_metadata("digits"))["versions"] == ["1"]
        index = plain(client.get_model_repository_index())
        [model] = index if isinstance(index, list) else index["models"]
        assert (model["name"], model["state"]) == ("digits", "READY")
        client.load_model("digits")
        for name, code in (("digits", "repository.fixed"), ("walls", "model.not_found")):
            with pytest.raises(InferenceServerException, match=code):
                client.unload_model(name)
        asked = kind.InferRequestedOutput("probabilities", class_count=1)
        classes = client.infer("digits", [tensor(kind, picture)], outputs=[asked]).as_numpy("probabilities")
        value, index, name = classes[0, 0].decode().split(":")
        assert (classes.shape, name) == ((1, 1), label)
        assert 0 < float(value) <= 1
        [stats] = plain(client.get_inference_statistics("digits"))["model_stats"]
        assert int(stats["inference_stats"]["success"]["count"]) >= 1


@pytest.mark.parametrize("kind", [tritonclient.http, tritonclient.grpc])
async def test_tritonclients_aio(server: Server, picture: bytes, label: str, kind: Any) -> None:
    address = server.rest if kind is tritonclient.http else server.grpc
    async with kind.aio.InferenceServerClient(address) as client:
        assert await client.is_model_ready("digits")
        made = tensor(kind, picture)
        results = await asyncio.gather(*(client.infer("digits", [made]) for _ in range(8)))
        assert {result.as_numpy("label").tolist()[0] for result in results} == {label.encode()}
        [stats] = plain(await client.get_inference_statistics("digits"))["model_stats"]
        assert int(stats["inference_count"]) >= 8
        with pytest.raises(InferenceServerException, match=r"image\.undecodable"):
            await client.infer("digits", [tensor(kind, b"junk")])


def test_kserves_clients(server: Server, picture: bytes, label: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KSERVE, f"http://{server.rest}", server.grpc], input=picture, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {"ready": [True] * 6, "told": [["7", "digits", label]] * 2}


@pytest.fixture
async def compressing(server: Server) -> AsyncIterator[str]:
    """The address of a gateway that compresses what it may, as Envoy's compressor does."""

    async def hand_on(request: web.Request) -> web.Response:
        headers = {
            name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length", "Accept-Encoding")
        }
        url = f"http://{server.rest}{request.path_qs}"
        async with asking.request(request.method, url, data=await request.read(), headers=headers) as answer:
            body, copied = await answer.read(), dict(answer.headers)
        asks = "gzip" in request.headers.get("Accept-Encoding", "")
        if asks and "no-transform" not in copied.get("Cache-Control", "") and "Content-Encoding" not in copied:
            body, copied = gzip.compress(body), {**copied, "Content-Encoding": "gzip"}
        return web.Response(body=body, status=answer.status, headers={**copied, "Content-Length": str(len(body))})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hand_on)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession(auto_decompress=False) as asking:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


async def test_tritonclients_aio_behind_a_gateway_that_compresses(compressing: str, picture: bytes, label: str) -> None:
    async with tritonclient.http.aio.InferenceServerClient(compressing) as client:
        with pytest.raises(InferenceServerException, match=r"image\.undecodable"):
            await client.infer("digits", [tensor(tritonclient.http, b"junk")])
        with pytest.raises(InferenceServerException, match=r"model\.not_found"):
            await client.infer("walls", [tensor(tritonclient.http, picture)])
        assert (await client.get_model_metadata("digits"))["name"] == "digits"
        assert (await client.get_model_config("digits"))["name"] == "digits"
        assert [one["name"] for one in await client.get_model_repository_index()] == ["digits"]
        assert (await client.get_inference_statistics("digits"))["model_stats"]
        answer = await client.infer("digits", [tensor(tritonclient.http, picture)])
        assert answer.get_response()["model_name"] == "digits"
        assert answer.as_numpy("label").tolist() == [label.encode()]
    async with aiohttp.ClientSession() as session, session.get(f"http://{compressing}/openapi.json") as page:
        assert page.headers["Content-Encoding"] == "gzip"  # it does compress

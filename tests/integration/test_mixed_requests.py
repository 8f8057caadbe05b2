"""A thousand good and bad requests over REST and gRPC: each gets its own answer, and the same workers live at the end."""

import base64
import io
import itertools
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.integration.running import Server

MODEL = "digits"
REQUESTS = 1000


@dataclass(frozen=True)
class Case:
    """One kind of request. `expected`: (HTTP status or gRPC status, stable code or "")."""

    name: str
    send: Callable[[], tuple[Any, str]]
    expected: tuple[Any, str]


def png(size: tuple[int, int], mode: str = "L") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return out.getvalue()


class Rest:
    """Requests over REST, as (status, code)."""

    def __init__(self, server: Server) -> None:
        self.client = httpx.Client(base_url=f"http://{server.rest}", timeout=60)

    def post(self, content: bytes, model: str = MODEL, headers: dict[str, str] | None = None) -> tuple[int, str]:
        response = self.client.post(f"/v2/models/{model}/infer", content=content, headers=headers)
        body = response.json()
        if response.status_code == 200:
            errors = next(output["data"] for output in body["outputs"] if output["name"] == "error")
            return 200, errors[0]
        assert body["error"].startswith(body["code"])
        return response.status_code, body["code"]

    def json(self, model: str = MODEL, **changes: Any) -> tuple[int, str]:
        body = {"inputs": [self.tensor(b"")]} | changes
        return self.post(httpx.Request("POST", "http://x", json=body).content, model)

    @staticmethod
    def tensor(image: bytes, **changes: Any) -> dict[str, Any]:
        return {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(image).decode()]} | changes

    def image(self, image: bytes) -> tuple[int, str]:
        return self.json(inputs=[self.tensor(image)])

    def binary(self, image: bytes) -> tuple[int, str]:
        element = struct.pack("<I", len(image)) + image
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
        head = httpx.Request("POST", "http://x", json={"inputs": [tensor]}).content
        return self.post(head + element, headers={"Inference-Header-Content-Length": str(len(head))})


class Grpc:
    """Requests over gRPC by tritonclient, as (status, code)."""

    def __init__(self, server: Server) -> None:
        self.client = triton.InferenceServerClient(server.grpc)

    def infer(self, tensor: triton.InferInput, model: str = MODEL, **options: Any) -> tuple[Any, str]:
        try:
            result = self.client.infer(model, [tensor], **options)
        except InferenceServerException as err:
            return err.status(), err.message().split(":")[0]
        return "OK", result.as_numpy("error")[0].decode()

    @staticmethod
    def tensor(image: bytes, name: str = "image") -> triton.InferInput:
        tensor = triton.InferInput(name, [1], "BYTES")
        tensor.set_data_from_numpy(np.array([image], dtype=np.object_))
        return tensor

    @staticmethod
    def floats() -> triton.InferInput:
        tensor = triton.InferInput("pixels", [1, 2, 2, 3], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 2, 2, 3), dtype=np.float32))
        return tensor


INVALID, MISSING = "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"


def cases(rest: Rest, rpc: Grpc, good: list[bytes]) -> list[Case]:
    noise = random.Random(0).randbytes(5000)
    truncated = good[0][: len(good[0]) // 2]
    wide = png((20_000, 20_000), "1")
    images = itertools.cycle(good)
    no_end = httpx.Request("POST", "http://x", json={"inputs": [Rest.tensor(good[0])]}).content[:-20]
    return [
        *[Case("rest json", lambda: rest.image(next(images)), (200, ""))] * 4,
        *[Case("rest binary", lambda: rest.binary(next(images)), (200, ""))] * 4,
        *[Case("grpc", lambda: rpc.infer(rpc.tensor(next(images))), ("OK", ""))] * 8,
        Case("rest corrupt", lambda: rest.binary(noise), (400, "image.undecodable")),
        Case("rest cut off", lambda: rest.image(truncated), (400, "image.undecodable")),
        Case("rest no base64", lambda: rest.json(inputs=[Rest.tensor(b"", data=["§§"])]), (400, "image.undecodable")),
        Case("rest empty image", lambda: rest.binary(b""), (400, "image.empty")),
        Case("rest empty body", lambda: rest.post(b""), (400, "request.json")),
        Case("rest huge picture", lambda: rest.binary(wide), (400, "image.too_large")),
        Case("rest wrong datatype", lambda: rest.json(inputs=[Rest.tensor(b"", datatype="FP32")]), (400, "request.datatype")),
        Case("rest wrong input", lambda: rest.json(inputs=[Rest.tensor(good[0], name="picture")]), (400, "request.input")),
        Case("rest wrong shape", lambda: rest.json(inputs=[Rest.tensor(good[0], shape=[2])]), (400, "request.shape")),
        Case("rest wrong model", lambda: rest.json(model="nobody"), (404, "model.not_found")),
        Case("rest truncated json", lambda: rest.post(no_end), (400, "request.json")),
        Case(
            "rest threshold",
            lambda: rest.json(inputs=[Rest.tensor(good[0])], parameters={"threshold": 7}),
            (400, "request.parameter"),
        ),
        Case("grpc corrupt", lambda: rpc.infer(rpc.tensor(noise)), (INVALID, "image.undecodable")),
        Case("grpc cut off", lambda: rpc.infer(rpc.tensor(truncated)), (INVALID, "image.undecodable")),
        Case("grpc empty image", lambda: rpc.infer(rpc.tensor(b"")), (INVALID, "image.empty")),
        Case("grpc huge picture", lambda: rpc.infer(rpc.tensor(wide)), (INVALID, "image.too_large")),
        Case("grpc wrong datatype", lambda: rpc.infer(rpc.floats()), (INVALID, "request.datatype")),
        Case("grpc wrong input", lambda: rpc.infer(rpc.tensor(good[0], "picture")), (INVALID, "request.input")),
        Case("grpc wrong model", lambda: rpc.infer(rpc.tensor(good[0]), model="nobody"), (MISSING, "model.not_found")),
    ]


@pytest.fixture
def rest(server: Server) -> Iterator[Rest]:
    asking = Rest(server)
    yield asking
    asking.client.close()


@pytest.fixture
def rpc(server: Server) -> Iterator[Grpc]:
    asking = Grpc(server)
    yield asking
    asking.client.close()


def test_a_thousand_mixed_requests(server: Server, rest: Rest, rpc: Grpc, images: dict[Path, str]) -> None:
    workers = server.workers()
    kinds = cases(rest, rpc, [image.read_bytes() for image in images])
    order = [kinds[n % len(kinds)] for n in range(REQUESTS)]
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda case: case.send(), order))
    wrong = Counter(
        f"{case.name}: {answer} instead of {case.expected}"
        for case, answer in zip(order, answers, strict=True)
        if answer != case.expected
    )
    assert len(answers) == REQUESTS
    assert wrong == Counter()
    assert server.workers() == workers


def peak_kib(pid: int) -> int:
    """The most memory that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_a_png_bomb_is_refused_without_decoding(server: Server, rest: Rest, images: dict[Path, str]) -> None:
    good = next(iter(images)).read_bytes()
    bomb = png((20_000, 20_000), "L")  # 400 MB once decoded
    for _ in range(4):
        assert rest.binary(good) == (200, "")
    before = {pid: peak_kib(pid) for pid in server.workers()}
    for _ in range(8):
        assert rest.binary(bomb) == (400, "image.too_large")
    grown = {pid: peak_kib(pid) - before[pid] for pid in server.workers()}
    assert max(grown.values()) < 50 * 1024


def test_a_body_over_the_limit_is_refused_early(server: Server) -> None:
    with httpx.Client(timeout=60) as client:
        response = client.post(f"http://{server.rest}/v2/models/{MODEL}/infer", content=bytes(70 << 20))
    assert response.status_code == 413
    assert response.json()["code"] == "request.too_large"


def test_good_items_are_answered_beside_a_bad_one(server: Server, images: dict[Path, str]) -> None:
    good = next(iter(images)).read_bytes()
    data = [base64.b64encode(item).decode() for item in (good, b"no image", good)]
    body = {"id": "7", "inputs": [{"name": "image", "shape": [3], "datatype": "BYTES", "data": data}]}
    response = httpx.post(f"http://{server.rest}/v2/models/{MODEL}/infer", json=body, timeout=60)
    assert response.status_code == 200
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    assert response.json()["id"] == "7"
    assert outputs["error"] == ["", "image.undecodable", ""]
    assert outputs["label"][0] == outputs["label"][2] != ""
    assert outputs["label"][1] == ""
    assert outputs["confidence"][1] == 0


@pytest.mark.parametrize("method", ["ServerLive", "ModelInfer"])
def test_grpc_speaks_the_package_of_the_protocol(server: Server, method: str) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        if method == "ServerLive":
            assert call(b"") == b"\x08\x01"  # live: true
        else:
            with pytest.raises(grpc.RpcError) as caught:
                call(b"")
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND

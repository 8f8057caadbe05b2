"""A small V2 server that is right, or wrong in one named way: python -m tests.integration.toy_server [DEFECT]

Model `toy`: input `x` FP32 [-1, 4]; outputs `double` FP32 [-1, 4], twice x, and `sign` BYTES [-1], of each row's sum. REST and
the binary tensor extension; on its gRPC port nothing is served. Prints both ports once it listens.
"""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import grpc
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

HEADER = "Inference-Header-Content-Length"
DEFECTS = (
    "knows every model",
    "forgets the id",
    "says detail instead of error",
    "breaks at a wrong request",
    "answers all outputs",
    "promises another shape",
    "mixes up answers",
    "reads nested data by columns",
    "ignores the wish for binary",
    "takes what binary data there is",
    "closes each connection",
    "lists an input that it refuses",
    "takes any parameter",
    "takes a request without a host",
)
Rows = np.ndarray[Any, np.dtype[np.float32]]


class Toy:
    """The server's routes. `defect`: one of DEFECTS, or empty."""

    def __init__(self, defect: str) -> None:
        self._defect = defect
        self._last: dict[str, Any] | None = None

    def has(self, defect: str) -> bool:
        """Whether this server is wrong in that way."""
        if defect not in DEFECTS:
            raise ValueError(f"{defect} is no defect of the toy")
        return self._defect == defect

    def check_model(self, request: Request) -> None:
        """Raises HTTPException 404."""
        name = request.path_params["name"]
        if name != "toy" and not self.has("knows every model"):
            raise HTTPException(404, f"model {name} is not served")

    async def live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        return JSONResponse({"ready": True})

    async def model_ready(self, request: Request) -> Response:
        self.check_model(request)
        return JSONResponse({"name": "toy", "ready": True})

    async def server(self, _: Request) -> Response:
        return JSONResponse({"name": "toy", "version": "1", "extensions": ["binary_tensor_data", "parameters"]})

    async def model(self, request: Request) -> Response:
        self.check_model(request)
        width = 5 if self.has("promises another shape") else 4
        outputs = [("double", "FP32", [-1, width]), ("sign", "BYTES", [-1])]
        described = [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in outputs]
        inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        if self.has("lists an input that it refuses"):
            inputs.append({"name": "y", "datatype": "FP32", "shape": [-1, 4]})
        return JSONResponse({"name": "toy", "platform": "numpy", "inputs": inputs, "outputs": described})

    async def infer(self, request: Request) -> Response:
        self.check_model(request)
        body = await request.body()
        try:
            return self._answer(body, request.headers.get(HEADER))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as err:
            raise HTTPException(500 if self.has("breaks at a wrong request") else 400, f"{type(err).__name__}: {err}") from err

    def _answer(self, body: bytes, header: str | None) -> Response:
        length = len(body) if header is None else int(header)
        if not 0 <= length <= len(body):
            raise ValueError(f"{HEADER} {length} for {len(body)} bytes")
        fields = json.loads(body[:length])
        (tensor,) = fields["inputs"]
        rows = self._read(tensor, body[length:] if header is not None else None)
        outputs: dict[str, Any] = {"double": rows * np.float32(2), "sign": ["+" if row.sum() > 0 else "-" for row in rows]}
        asked = fields.get("outputs") or [{"name": name} for name in outputs]
        self._check_parameters(fields, *asked)
        if self.has("answers all outputs"):
            asked = [{"name": name} for name in outputs]
        if self.has("mixes up answers"):
            outputs, self._last = self._last or outputs, outputs
        everything = (fields.get("parameters") or {}).get("binary_data_output", False)
        described, blobs = [], []
        for output in asked:
            binary = (output.get("parameters") or {}).get("binary_data", everything)
            described.append(self._describe(output["name"], outputs[output["name"]], binary, blobs))
        answer = {"model_name": "toy", "outputs": described}
        if "id" in fields and not self.has("forgets the id"):
            answer["id"] = fields["id"]
        text = json.dumps(answer).encode()
        headers = {HEADER: str(len(text))} if blobs else {}
        media_type = "application/octet-stream" if blobs else "application/json"
        return Response(b"".join((text, *blobs)), media_type=media_type, headers=headers)

    def _check_parameters(self, *described: dict[str, Any]) -> None:
        for fields in described:
            for name, value in (fields.get("parameters") or {}).items():
                if not self.has("takes any parameter") and (name.startswith("shared_memory") or isinstance(value, dict | list)):
                    raise ValueError(f"parameter {name}: {value}")

    def _describe(self, name: str, values: Any, binary: bool, blobs: list[bytes]) -> dict[str, Any]:
        is_text = isinstance(values, list)
        fields = {
            "name": name,
            "datatype": "BYTES" if is_text else "FP32",
            "shape": [len(values)] if is_text else list(values.shape),
        }
        if not binary or self.has("ignores the wish for binary"):
            return {**fields, "data": values if is_text else values.ravel().tolist()}
        blobs.append(b"".join(b"\1\0\0\0" + x.encode() for x in values) if is_text else values.astype("<f4").tobytes())
        return {**fields, "parameters": {"binary_data_size": len(blobs[-1])}}

    def _read(self, tensor: dict[str, Any], blob: bytes | None) -> Rows:
        shape = tensor["shape"]
        if tensor["name"] != "x" or tensor["datatype"] != "FP32" or len(shape) != 2 or shape[1] != 4:
            raise ValueError(f"the model takes x FP32 [-1, 4], got {tensor['name']} {tensor['datatype']} {shape}")
        if any(type(side) is not int or side < 0 for side in shape):
            raise ValueError(f"shape {shape}")
        if "data" in tensor:
            if not isinstance(tensor["data"], list):
                raise TypeError("data must be an array")
            values = np.array(tensor["data"], dtype=np.float32)
            return values.ravel("F" if self.has("reads nested data by columns") else "C").reshape(shape)
        size = tensor["parameters"]["binary_data_size"]
        if blob is None or type(size) is not int or (size != len(blob) and not self.has("takes what binary data there is")):
            raise ValueError(f"binary_data_size {size}")
        whole = np.zeros(shape, np.float32).ravel()
        if not self.has("takes what binary data there is"):
            return np.frombuffer(blob, "<f4").reshape(shape)
        found = np.frombuffer(blob[: len(blob) // 4 * 4], "<f4")[: whole.size]
        whole[: len(found)] = found
        return whole.reshape(shape)

    async def refuse(self, _: Request, error: Exception) -> Response:
        """Any HTTPException, also Starlette's own, in the protocol's form."""
        if not isinstance(error, HTTPException):
            raise error
        key = "detail" if self.has("says detail instead of error") else "error"
        return JSONResponse({key: error.detail}, error.status_code, headers=error.headers)


def make_app(defect: str) -> Starlette:
    """The server as an application."""
    toy = Toy(defect)
    routes = [
        Route("/v2/health/live", toy.live),
        Route("/v2/health/ready", toy.ready),
        Route("/v2", toy.server),
        Route("/v2/models/{name}", toy.model),
        Route("/v2/models/{name}/ready", toy.model_ready),
        Route("/v2/models/{name}/infer", toy.infer, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: toy.refuse})


def main(defect: str = "") -> None:
    """Serve until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0))
    empty = grpc.server(ThreadPoolExecutor(1))
    print(listener.getsockname()[1], empty.add_insecure_port("127.0.0.1:0"), flush=True)  # noqa: T201
    empty.start()
    headers = [("connection", "close")] if defect == "closes each connection" else []
    # h11 keeps to RFC 9112 in more than httptools does.
    parser: Literal["httptools", "h11"] = "httptools" if defect == "takes a request without a host" else "h11"
    uvicorn.Server(uvicorn.Config(make_app(defect), http=parser, log_level="error", headers=headers)).run([listener])


if __name__ == "__main__":
    main(*sys.argv[1:])

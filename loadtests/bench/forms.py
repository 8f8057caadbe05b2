"""How an image is asked about: one entry for each way, which makes the HTTP request (or the gRPC message) of N images."""

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tritonclient.grpc.service_pb2 as v2

BOUNDARY = "visor-bench-boundary"
JSON, BINARY, GRPC = "V2 JSON", "V2 binary", "V2 gRPC"


@dataclass(frozen=True)
class Request:
    """A POST to `path`; for gRPC `body` is the message and `path` the method."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Form:
    """A way to ask. `make`: (images, model) → request. `many`: several images go into one request."""

    make: Callable[[Sequence[bytes], str], Request]
    many: bool = True
    is_grpc: bool = False


def v2_json(images: Sequence[bytes], model: str) -> Request:
    """All JSON, the images in base64."""
    data = [base64.b64encode(image).decode() for image in images]
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(images)], "data": data}]}
    return Request(f"/v2/models/{model}/infer", {"Content-Type": "application/json"}, json.dumps(body).encode())


def v2_binary(images: Sequence[bytes], model: str, *, explain: bool = False) -> Request:
    """The binary tensor data extension, there and back: a JSON header, then each image behind its length."""
    blob = b"".join(struct.pack("<I", len(image)) + image for image in images)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "parameters": {"binary_data_size": len(blob)}}
    parameters = {"binary_data_output": True, **({"explain": True} if explain else {})}
    header = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
    return Request(f"/v2/models/{model}/infer", headers, header + blob)


def v2_grpc(images: Sequence[bytes], model: str) -> Request:
    """ModelInfer with raw_input_contents."""
    tensor = v2.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[len(images)])
    blob = b"".join(struct.pack("<I", len(image)) + image for image in images)
    message = v2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[blob])
    return Request("/inference.GRPCInferenceService/ModelInfer", {}, message.SerializeToString())


def raw(path: str) -> Form:
    """The encoded image as the body; `{model}` in the path is the model's name."""

    def make(images: Sequence[bytes], model: str) -> Request:
        return Request(path.format(model=model), {"Content-Type": "application/octet-stream"}, images[0])

    return Form(make, many=False)


def upload(path: str, field: str) -> Form:
    """A form with the image as the file `field`."""

    def make(images: Sequence[bytes], _model: str) -> Request:
        disposition = f'Content-Disposition: form-data; name="{field}"; filename="image.jpg"'
        head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
        body = head.encode() + images[0] + f"\r\n--{BOUNDARY}--\r\n".encode()
        return Request(path, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body)

    return Form(make, many=False)


V2_FORMS = {BINARY: Form(v2_binary), JSON: Form(v2_json), GRPC: Form(v2_grpc, is_grpc=True)}

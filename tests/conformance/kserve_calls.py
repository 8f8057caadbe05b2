"""KServe's clients, each call's outcome as JSON: python kserve_calls.py rest|grpc URL < request.json

A process of its own, because KServe's generated messages and tritonclient's cannot be loaded in one. The request:
{"model": NAME, "id": ID, "inputs": [{"name", "datatype", "shape", "data" (for JSON), "raw" (base64)}]}.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import deserialize_bytes_tensor
from kserve.utils.numpy_codec import to_np_dtype


def json_input(tensor: dict[str, Any]) -> InferInput:
    """An input that travels as JSON."""
    return InferInput(tensor["name"], tensor["shape"], tensor["datatype"], data=tensor["data"])


def binary_input(tensor: dict[str, Any]) -> InferInput:
    """An input that travels as bytes."""
    raw = base64.b64decode(tensor["raw"])
    is_bytes = tensor["datatype"] == "BYTES"
    values = deserialize_bytes_tensor(raw) if is_bytes else np.frombuffer(raw, to_np_dtype(tensor["datatype"]))
    made = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
    made.set_data_from_numpy(values.reshape(tensor["shape"]), binary_data=True)
    return made


def show(answer: InferResponse) -> dict[str, Any]:
    """An answer as JSON; text comes as bytes over gRPC and as strings over REST."""
    outputs = {}
    for output in answer.outputs:
        values = output.as_numpy()
        elements = [x.decode() if isinstance(x, bytes) else x for x in values.ravel().tolist()]
        outputs[output.name] = {"datatype": output.datatype, "shape": list(values.shape), "data": elements}
    return {"id": answer.id, "model": answer.model_name, "outputs": outputs}


async def outcome(call: Awaitable[Any]) -> dict[str, Any]:
    """What a call answered, or how it failed."""
    try:
        answered = await call
    except Exception as err:  # each call is a check of its own, whatever it raises
        return {"error": f"{type(err).__name__}: {err}"[:500]}
    return {"answer": show(answered) if isinstance(answered, InferResponse) else answered}


async def over_rest(url: str, request: dict[str, Any]) -> dict[str, Any]:
    """Every call of InferenceRESTClient."""
    name = request["model"]
    as_json = InferRequest(name, [json_input(x) for x in request["inputs"]], request_id=request["id"])
    as_bytes = InferRequest(name, [binary_input(x) for x in request["inputs"]], request_id=request["id"])
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        return {
            "live": await outcome(client.is_server_live(url)),
            "ready": await outcome(client.is_server_ready(url)),
            "model ready": await outcome(client.is_model_ready(url, model_name=name)),
            "infer": await outcome(client.infer(url, as_json, model_name=name)),
            "infer binary": await outcome(client.infer(url, as_bytes, model_name=name)),
        }


async def over_grpc(url: str, request: dict[str, Any]) -> dict[str, Any]:
    """Every call of InferenceGRPCClient."""
    name = request["model"]
    as_bytes = InferRequest(name, [binary_input(x) for x in request["inputs"]], request_id=request["id"])
    async with InferenceGRPCClient(url) as client:
        return {
            "live": await outcome(client.is_server_live()),
            "ready": await outcome(client.is_server_ready()),
            "model ready": await outcome(client.is_model_ready(name)),
            "infer": await outcome(client.infer(as_bytes)),
        }


if __name__ == "__main__":
    protocol, url = sys.argv[1:]
    calls = {"rest": over_rest, "grpc": over_grpc}[protocol](url, json.load(sys.stdin))
    json.dump(asyncio.run(calls), sys.stdout)

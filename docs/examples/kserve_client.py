"""Ask a visor server with KServe's clients, over REST and gRPC: python kserve_client.py HOST:PORT HOST:GRPC_PORT MODEL IMAGE"""

import argparse
import asyncio
import base64
from pathlib import Path

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse
from kserve.inference_client import RESTConfig


def show(protocol: str, answer: InferResponse) -> None:
    """Print one answer; text comes as bytes over gRPC and as strings over REST."""
    first = {output.name: output.as_numpy()[0] for output in answer.outputs}
    text = {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in first.items()}
    print(f"{protocol}: {text['label']} {first['confidence']:.3f} {text['decision']} heatmap {first['heatmap'].shape}")


async def main(rest_url: str, grpc_url: str, model: str, image: str) -> None:
    """Ask about one image over both protocols."""
    picture = Path(image).read_bytes()

    over_rest = InferInput("image", [1], "BYTES", data=[base64.b64encode(picture).decode()])
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        request = InferRequest(model, [over_rest], parameters={"explain": True})
        show("kserve REST", await client.infer(f"http://{rest_url}", request, model_name=model))

    over_grpc = InferInput("image", [1], "BYTES")
    over_grpc.set_data_from_numpy(np.array([picture], dtype=np.object_))
    async with InferenceGRPCClient(grpc_url) as client:
        show("kserve gRPC", await client.infer(InferRequest(model, [over_grpc], parameters={"explain": True})))


parser = argparse.ArgumentParser(description="Ask a visor server with KServe's clients, over REST and gRPC.")
parser.add_argument("rest_url", metavar="HOST:PORT", help="where the server speaks REST")
parser.add_argument("grpc_url", metavar="HOST:GRPC_PORT", help="where it speaks gRPC")
parser.add_argument("model", metavar="MODEL", help="the model's name")
parser.add_argument("image", metavar="IMAGE", help="the picture's file")
asyncio.run(main(**vars(parser.parse_args())))

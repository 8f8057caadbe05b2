"""Ask a visor server with tritonclient, over REST and gRPC: python triton_client.py HOST:PORT HOST:GRPC_PORT MODEL IMAGE"""

import argparse
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http

parser = argparse.ArgumentParser(description="Ask a visor server with tritonclient, over REST and gRPC.")
parser.add_argument("rest_url", metavar="HOST:PORT", help="where the server speaks REST")
parser.add_argument("grpc_url", metavar="HOST:GRPC_PORT", help="where it speaks gRPC")
parser.add_argument("model", metavar="MODEL", help="the model's name")
parser.add_argument("image", metavar="IMAGE", help="the picture's file")
given = parser.parse_args()

for protocol, url in ((tritonclient.http, given.rest_url), (tritonclient.grpc, given.grpc_url)):
    client = protocol.InferenceServerClient(url)
    tensor = protocol.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([Path(given.image).read_bytes()], dtype=np.object_))
    result = client.infer(given.model, [tensor], parameters={"explain": True})
    label, decision = result.as_numpy("label")[0].decode(), result.as_numpy("decision")[0].decode()
    heatmap = result.as_numpy("heatmap")[0]  # (h, w) float32 in [0, 1]
    print(f"{protocol.__name__}: {label} {result.as_numpy('confidence')[0]:.3f} {decision} heatmap {heatmap.shape}")
    client.close()

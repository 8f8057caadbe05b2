"""Ask a visor server with tritonclient, over REST and gRPC: python triton_client.py HOST:PORT HOST:GRPC_PORT MODEL IMAGE"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http

rest_url, grpc_url, model, image = sys.argv[1:]

for protocol, url in ((tritonclient.http, rest_url), (tritonclient.grpc, grpc_url)):
    client = protocol.InferenceServerClient(url)
    tensor = protocol.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([Path(image).read_bytes()], dtype=np.object_))
    result = client.infer(model, [tensor], parameters={"explain": True})
    label, decision = result.as_numpy("label")[0].decode(), result.as_numpy("decision")[0].decode()
    heatmap = result.as_numpy("heatmap")[0]  # (h, w) float32 in [0, 1]
    print(f"{protocol.__name__}: {label} {result.as_numpy('confidence')[0]:.3f} {decision} heatmap {heatmap.shape}")
    client.close()

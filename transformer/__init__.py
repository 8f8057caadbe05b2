"""The edge: the Open Inference Protocol (V2, REST and gRPC) in front of TorchServe.

KServe's word for this container is "transformer", and the folder has its name from there. It transforms nothing: it is the
protocol's edge, and images go through it as bytes.
"""

import os

# gRPC's C core reads it once, when it is imported. It writes to standard error from the threads that serve, and a full pipe
# there would stop them, at the latest when the server stops listening.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

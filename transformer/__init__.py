"""The edge: the Open Inference Protocol (V2, REST and gRPC) in front of TorchServe.

KServe's word for this container is "transformer", and the folder has its name from there. It transforms nothing: it is the
protocol's edge, and images go through it as bytes.
"""

"""The V2 edge (Open Inference Protocol, REST and gRPC) in front of TorchServe; KServe calls this part the transformer."""

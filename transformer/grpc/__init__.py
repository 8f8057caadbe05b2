"""The V2 protocol over gRPC: the service, its messages and gRPC's health protocol."""

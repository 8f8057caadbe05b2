"""The edge's way to TorchServe and its workers: admission, caching, connections and the answers that come back."""

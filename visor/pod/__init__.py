"""The serving container of a pod: it verifies the one archive that storage put there, and runs TorchServe on it."""

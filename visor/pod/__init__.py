"""The serving container of a pod: TorchServe on the one archive that storage put there, once its signature is verified."""

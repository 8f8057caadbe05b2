"""TorchServe's worker without torch, and without what it does for each request beside answering it.

TorchServe imports torch in one place, the codec that turns what a handler returns into bytes, to serialise tensors. Ours
returns text. With torch that import costs seconds and 300 MB for each worker, and 5 GB of an image; here the codec gets a
stand-in, and nobody else: after it, `import torch` means torch again, and fails where there is none.

For each request TorchServe's worker also makes about 40 system calls to read it field by field, and writes two lines for
Java to parse, a log's and a metric's; here it makes one call and writes none [0.4 of 2.4 ms on the way through TorchServe].
The edge measures every request and each of its stages (`transformer.metrics`).

`visor.torchserve` lays this file where TorchServe looks for its worker; it runs as a script and imports nothing of ours.
"""

import importlib
import io
import logging
import runpy
import socket
import sys
from types import ModuleType
from typing import Any, BinaryIO

CODEC = "ts.protocol.otf_message_handler"
METRICS = "ts.metrics.metric_cache_abstract"
RECEIVED = "Backend received inference at: %d"
# Most requests come whole in one call; of a larger one, what is left is read straight into its place.
BUFFER_BYTES = 64 << 10


def import_codec() -> Any:
    """TorchServe's codec, for which alone `torch` is a module with a class that has no instances."""
    stand_in = ModuleType("torch")
    stand_in.Tensor = type("Tensor", (), {})  # type: ignore[attr-defined]
    sys.modules["torch"] = stand_in
    try:
        return importlib.import_module(CODEC)
    finally:
        del sys.modules["torch"]


class Reader:
    """What the codec reads its fields with, through a buffer; the worker has one connection at a time."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._stream: BinaryIO = io.BytesIO()

    def read(self, connection: socket.socket, length: int) -> bytes:
        """Exactly `length` bytes. Where the connection ends, so does the process, as TorchServe's own worker does."""
        if connection is not self._connection:
            self._connection = connection
            self._stream = io.BufferedReader(socket.SocketIO(connection, "r"), BUFFER_BYTES)
        data = self._stream.read(length)
        if len(data) < length:
            logging.info("Frontend disconnected.")
            sys.exit(0)
        return data


def be_quick(codec: Any) -> None:
    """Read through a buffer, and say nothing of single requests."""
    codec._retrieve_buffer = Reader().read
    logging.getLogger().addFilter(lambda record: record.msg != RECEIVED)
    # PredictionTime, which TorchServe gives as the last request's alone; our handler has no metrics of its own.
    importlib.import_module(METRICS).MetricCacheAbstract.add_time = lambda *_, **__: None


if __name__ == "__main__":
    del sys.path[0]  # this script's own folder, which only looks like TorchServe's
    be_quick(import_codec())
    runpy.run_module("ts.model_service_worker", run_name="__main__", alter_sys=True)

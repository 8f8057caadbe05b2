"""This script runs TorchServe's worker without torch, and without what it does for each request beside answering it.

TorchServe imports torch in one place, the codec that turns what a handler returns into bytes, to serialise tensors. Visor's
returns text. With torch that import costs seconds and 300 MB for each worker, and 5 GB of an image; here the codec gets a
stand-in, and nothing else: after it, `import torch` means torch again, and fails where there is none.

For each request TorchServe's worker also makes about 40 system calls to read it field by field, and writes two lines for
Java to parse, a log's and a metric's; here it makes one call and writes none [0.4 of 2.4 ms on the way through TorchServe].
The edge measures every request and each of its stages (`transformer.metrics`).

And the edge may ask a worker itself, through a Unix socket beside that of TorchServe's Java, which else hands each request over
nine times between threads and processes [min 1.2, p50 1.7 ms]. One thread serves both, in turns. Java starts and watches the
worker as before.

`visor.serving.launch` lays this file where TorchServe looks for its worker; it runs as a script and imports nothing of ours.
"""

import ctypes
import importlib
import io
import json
import logging
import os
import resource
import runpy
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Protocol

# As in handlers/__init__.py, for archives whose own handlers are older.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

CODEC = "ts.protocol.otf_message_handler"
METRICS = "ts.metrics.metric_cache_abstract"
RECEIVED = "Backend received inference at: %d"
# Most requests come whole in one call; of a larger one, what is left is read straight into its place.
BUFFER_BYTES = 64 << 10
# The folder of the workers' sockets for the edge, each named by the worker's process id; the other end is
# `transformer.upstream.workers`.
SOCKETS_VARIABLE = "VISOR_WORKER_SOCKETS"
LENGTHS = struct.Struct("!II")  # asked: of the headers in JSON and of the body; answered: the status and the length of the JSON
# Answers to a question about nothing. The first also says that no more is read than the request that is answered, so that the
# next one may be sent before; workers that read on answered 200.
READS_ONE, NO_ANSWERS = 202, 404
# Right behind a request: the edge has withdrawn it; and what is answered then, unless the worker had begun with it.
WITHDRAWN, WITHDRAWN_STATUS = LENGTHS.pack(0xFFFFFFFF, 0), 204
# A client sends its requests whole, so a pause in the middle of one means that it has gone or hangs. For so long at most each
# of the three reads of a request (its lengths, its headers, its body) holds up everybody else, Java too.
PAUSE_S = 10.0
# A worker that takes longer for one picture is ended, and started again by TorchServe.
HANG_VARIABLE, HANG_S = "VISOR_WORKER_HANG_S", 10.0
# Bytes that a worker may take above what it has once the archive is loaded; without the variable there is no limit.
MEMORY_VARIABLE = "VISOR_WORKER_MEMORY"
# What took longer was a large picture: what is free of the heap afterwards goes back to the system.
LARGE_S = 0.1
STATM, DATA_PAGES = Path("/proc/self/statm"), 5  # the memory that RLIMIT_DATA counts, in pages
TOO_LARGE = json.dumps(
    {
        "error": {
            "code": "image.too_large",
            "message": "image.too_large: the image took all memory that a worker has for one; send a smaller one",
        }
    }
)


def import_codec() -> Any:
    """Import TorchServe's codec, for which alone `torch` is a module with a class that has no instances."""
    stand_in = ModuleType("torch")
    stand_in.Tensor = type("Tensor", (), {})  # type: ignore[attr-defined]
    sys.modules["torch"] = stand_in
    try:
        return importlib.import_module(CODEC)
    finally:
        del sys.modules["torch"]


class Reader:
    """A buffered reader of the codec's fields; the worker has one connection at a time.

    `skipped`: there was no memory for a field, which was passed over and is empty in its place.
    """

    def __init__(self) -> None:
        self.skipped = False
        self._connection: socket.socket | None = None
        self._stream: BinaryIO = io.BytesIO()

    def read(self, connection: socket.socket, length: int) -> bytes:
        """Read exactly `length` bytes. Where the connection ends, so does the process, as TorchServe's own worker does."""
        if connection is not self._connection:
            self._connection = connection
            self._stream = io.BufferedReader(socket.SocketIO(connection, "r"), BUFFER_BYTES)
        try:
            data = read_or_skip(self._stream, length)
        except EOFError:
            logging.info("Frontend disconnected.")
            sys.exit(0)
        self.skipped = self.skipped or data is None
        return data or b""


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, length: int, /) -> bytes:
        """Read so many bytes; fewer only at the end."""


def read_exactly(stream: Readable, length: int) -> bytes:
    """Read exactly `length` bytes. Raises EOFError where the stream ends before."""
    data = stream.read(length)
    if len(data) < length:
        raise EOFError(f"{len(data)} of {length} bytes")
    return data


def read_or_skip(stream: Readable, length: int) -> bytes | None:
    """Read exactly `length` bytes; where there is no memory for them, pass over them and return None. Raises EOFError."""
    try:
        return read_exactly(stream, length)
    except MemoryError:
        pass  # before anything was read
    while length:
        length -= len(read_exactly(stream, min(length, BUFFER_BYTES)))
    return None


def bound_memory(more: int) -> None:
    """Let this process have `more` bytes above what it has now: what would take more is a MemoryError, and not the kernel's kill.

    On Linux; elsewhere nothing happens. Java, which started this process, has no such limit.
    """
    if not STATM.exists():
        return
    has = int(STATM.read_bytes().split()[DATA_PAGES]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (has + more if hard == resource.RLIM_INFINITY else min(has + more, hard), hard))
    logging.info("This worker has %d MiB of data and may have %d.", has >> 20, (has + more) >> 20)


def give_back() -> None:
    """Give back what is free between the heap's blocks, which glibc keeps; nothing with another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def refuse_without_memory(entry: Callable[[Any, Any], Any], reader: Reader) -> Callable[[Any, Any], Any]:
    """Wrap a handler so that a request that Java brings, and for which there is no memory, is answered as the edge's own are.

    The handlers of archives before 0.2.0, which are asked through Java alone, do not see to it themselves.
    """

    def ask(data: Any, context: Any) -> Any:
        skipped, reader.skipped = reader.skipped, False
        try:
            if not skipped:
                return entry(data, context)
        except MemoryError:
            pass  # outside of it, for its traceback holds what took the memory
        for n in range(len(data)):
            context.set_response_status(400, "image.too_large", n)
            context.set_response_content_type(n, "application/json")
        return [TOO_LARGE] * len(data)

    return ask


def skip_per_request_work(codec: Any, reader: Reader) -> None:
    """Have the codec read through a buffer, and leave out the log line and the metric of single requests."""
    codec._retrieve_buffer = reader.read
    logging.getLogger().addFilter(lambda record: record.msg != RECEIVED)
    # PredictionTime, which TorchServe gives as the last request's alone; our handler has no metrics of its own.
    importlib.import_module(METRICS).MetricCacheAbstract.add_time = lambda *_, **__: None


class Requests:
    """A connection of the edge's, read as a stream of which nothing is read before it is asked for.

    The edge sends its next request while this one is answered. It stays in the socket, where `select` sees it, and so the others
    who ask have their turns in between. A read waits in the kernel for all that it wants: one system call. While it waits for the
    rest of a request nobody else has a turn (PAUSE_S).
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._wait_at_most(PAUSE_S, socket.SO_RCVTIMEO)
        self._wait_at_most(PAUSE_S, socket.SO_SNDTIMEO)

    def read(self, length: int) -> bytes:
        """Read so many bytes; fewer where the edge has gone or pauses."""
        deadline = time.monotonic() + PAUSE_S
        data = more = self.connection.recv(length, socket.MSG_WAITALL)
        # A signal ends the call early, as where this process was stopped and goes on.
        while more and len(data) < length and (left_s := deadline - time.monotonic()) > 0:
            self._wait_at_most(left_s, socket.SO_RCVTIMEO)
            more = self.connection.recv(length - len(data), socket.MSG_WAITALL)
            data += more
            self._wait_at_most(PAUSE_S, socket.SO_RCVTIMEO)
        return data

    def read_mark(self) -> bool:
        """Whether the request that was read last is withdrawn, which the mark right behind it says; then that is read."""
        try:
            mark = self.connection.recv(LENGTHS.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return mark == WITHDRAWN and bool(self.connection.recv(LENGTHS.size))

    def _wait_at_most(self, seconds: float, option: int) -> None:
        """Set how long the kernel waits in a call; a timeout of Python's would not let it wait."""
        micros = max(1, int(seconds * 1e6))  # 0 would be for ever
        self.connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", *divmod(micros, 1_000_000)))  # a timeval


class EdgeSocket:
    """The socket by which the edge asks this worker. `open` it for a loaded handler; `serve_until` TorchServe sends something."""

    def __init__(self, folder: Path, hang_s: float = HANG_S) -> None:
        self._path = folder / str(os.getpid())
        self._hang_s = hang_s
        self._selector = selectors.DefaultSelector()
        self._frontend: socket.socket | None = None
        self._answer: Any = None

    def open(self, handler: Any) -> None:
        """Listen once the archive is loaded; an older archive's handler, without `answer`, is asked through TorchServe alone."""
        self._answer = getattr(handler, "answer", None)
        try:
            listening = socket.socket(socket.AF_UNIX)
            self._path.unlink(missing_ok=True)  # of a process that had this one's id and has ended
            listening.bind(str(self._path))
            listening.listen()
        except OSError as err:
            logging.warning("The edge must ask through TorchServe: %s: %s", self._path, err)
            return
        self._selector.register(listening, selectors.EVENT_READ, self._accept)

    def serve_until(self, frontend: socket.socket) -> None:
        """Answer the edge until there is something to read from TorchServe."""
        if frontend is not self._frontend:
            self._frontend = frontend
            self._selector.register(frontend, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data(key.fileobj)

    def _accept(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        requests = Requests(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda _: self._serve(requests))

    def _serve(self, requests: Requests) -> None:
        """Answer one request of a connection, where more may wait. A request of nothing asks whether others are answered."""
        try:
            head, began = read_exactly(requests, LENGTHS.size), time.monotonic()
            if head == WITHDRAWN:  # what this worker had begun with, and has answered
                return
            lengths = LENGTHS.unpack(head)
            if lengths == (0, 0):
                status, text = (NO_ANSWERS if self._answer is None else READS_ONE), ""
            else:
                status, text = self._answer_one(requests, *lengths)
            answer = text.encode()
            requests.connection.sendall(LENGTHS.pack(status, len(answer)) + answer)
            if time.monotonic() - began > LARGE_S:
                give_back()
        except (OSError, EOFError):  # the edge has gone
            self._selector.unregister(requests.connection)
            requests.connection.close()

    def _answer_one(self, requests: Requests, head: int, length: int) -> tuple[int, str]:
        headers, body = read_exactly(requests, head), read_or_skip(requests, length)
        if requests.read_mark():
            return WITHDRAWN_STATUS, ""
        return (400, TOO_LARGE) if body is None else self._ask(body, headers)

    def _ask(self, body: bytes, headers: bytes) -> tuple[int, str]:
        signal.setitimer(signal.ITIMER_REAL, self._hang_s)  # its signal has no handler, so it ends the process, whatever hangs
        try:
            status, text = self._answer(body, json.loads(headers))
        except MemoryError:
            return 400, TOO_LARGE
        except Exception:
            logging.exception("The handler failed")
            return 500, json.dumps({"code": 500, "type": "InternalServerException"})
        else:
            return status, text
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def serve_edge_between(codec: Any, reader: Reader, edge: EdgeSocket, memory: int | None) -> None:
    """Serve the edge whenever TorchServe's worker would wait for its next message. `memory`: as MEMORY_VARIABLE says."""
    service = importlib.import_module("ts.service").Service
    retrieve, set_socket = codec.retrieve_msg, service.set_cl_socket

    def retrieve_message(connection: socket.socket) -> Any:
        edge.serve_until(connection)
        return retrieve(connection)

    def loaded(self: Any, connection: socket.socket) -> None:
        set_socket(self, connection)
        if memory is not None:
            bound_memory(memory)
        edge.open(getattr(self._entry_point, "__self__", None))
        self._entry_point = refuse_without_memory(self._entry_point, reader)

    codec.retrieve_msg, service.set_cl_socket = retrieve_message, loaded


if __name__ == "__main__":
    del sys.path[0]  # this script's own folder, which only looks like TorchServe's
    otf_codec, otf_reader = import_codec(), Reader()
    skip_per_request_work(otf_codec, otf_reader)
    if SOCKETS_VARIABLE in os.environ:
        own = EdgeSocket(Path(os.environ[SOCKETS_VARIABLE]), float(os.environ.get(HANG_VARIABLE, HANG_S)))
        more = int(os.environ[MEMORY_VARIABLE]) if MEMORY_VARIABLE in os.environ else None
        serve_edge_between(otf_codec, otf_reader, own, more)
    runpy.run_module("ts.model_service_worker", run_name="__main__", alter_sys=True)

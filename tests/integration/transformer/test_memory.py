"""In the memory of the chart's default pod: large requests are answered or refused, hostile ones refused, none ends it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.integration.cgroups import MIB, enter, make_cgroup, remove_cgroup
from tests.integration.transformer.edges import begin
from transformer.allocation import TRIM_EVERY_S
from transformer.grpc.messages import SERVICE, message

LIMIT_MIB = 512  # charts/visor/values.yaml, resources.transformer
CLIENTS = 16
PATH = "/v2/models/roofs/infer"
LIVE_S = 5.0  # after which the chart's liveness probe gives up


@dataclass
class Edge:
    """A running edge, and the cgroup that holds it, None where this machine lets nobody make one."""

    pid: int
    http: int
    grpc: int
    cgroup: Path | None

    @property
    def resident(self) -> int:
        """Its memory now, in MiB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // MIB

    @property
    def peak(self) -> int:
        """Its largest memory since the start, in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024


@pytest.fixture
def edge() -> Iterator[Edge]:
    cgroup = make_cgroup(f"visor-test-{os.getpid()}", LIMIT_MIB * MIB)
    # Without a cgroup: its peak is compared with the limit, and what it is told of memory is the limit's.
    process, places = begin(within=enter(cgroup), stderr=subprocess.DEVNULL)
    try:
        yield Edge(*places, cgroup)
        assert process.poll() is None, "the edge has ended: out of memory?"
    finally:
        process.terminate()
        process.communicate(timeout=30)
        if cgroup:
            remove_cgroup(cgroup)


@pytest.fixture
def in_cgroup(edge: Edge) -> Edge:
    if edge.cgroup is None:
        pytest.skip("no memory cgroup can be made here")
    return edge


def post(headers: str, body: bytes) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(edge: Edge, data: bytes) -> tuple[int, str]:
    """Send all of it, then read: status and code. Raises ConnectionResetError where the server gives up before."""
    with socket.create_connection(("127.0.0.1", edge.http), timeout=120) as connection:
        connection.sendall(data)
        got = b""
        while chunk := connection.recv(1 << 16):
            got += chunk
    return int(got[9:12]), json.loads(got.split(b"\r\n\r\n", 1)[1]).get("code", "")


def call(
    edge: Edge,
    request: bytes,
    method: str = "ModelInfer",
    service: str = SERVICE,
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> tuple[grpc.StatusCode, str]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{edge.grpc}", options=options) as channel:
        try:
            channel.unary_unary(f"/{service}/{method}")(request, timeout=120, compression=compression)
        except grpc.RpcError as err:
            return err.code(), dict(err.trailing_metadata() or ()).get("visor-code", "")
    return grpc.StatusCode.OK, ""


class Probe:
    """A process that asks for /v2/health/live every 0.1 s, and tells the longest answer."""

    CODE = """
import select, socket, sys, time
slowest = 0.0
while not select.select([sys.stdin], [], [], 0.1)[0]:
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    slowest = max(slowest, time.monotonic() - start)
print(slowest)
"""

    def __init__(self, edge: Edge) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, str(edge.http)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def slowest(self) -> float:
        told, _ = self._process.communicate("\n", timeout=60)
        return float(told)


def three_pictures() -> bytes:
    """Raw contents of three pictures, 60 MiB in all."""
    picture = b"\xff\xd8" + bytes(20 * MIB - 102)
    return (len(picture).to_bytes(4, "little") + picture) * 3


def rest_request() -> bytes:
    raw = three_pictures()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [3], "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [tensor]}).encode()
    return post(f"Inference-Header-Content-Length: {len(text)}\r\n", text + raw)


def grpc_request() -> bytes:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [3]}
    request = message("ModelInferRequest")(model_name="roofs", inputs=[tensor], raw_input_contents=[three_pictures()])
    sent: bytes = request.SerializeToString()
    return sent


def test_sixteen_clients_of_60_mib_each_are_answered_or_refused(in_cgroup: Edge) -> None:
    rest, rpc, before = rest_request(), grpc_request(), in_cgroup.resident
    probe = Probe(in_cgroup)
    with ThreadPoolExecutor(CLIENTS) as pool:
        over_rest = Counter(pool.map(lambda _: ask(in_cgroup, rest), range(CLIENTS)))
        over_grpc = Counter(pool.map(lambda _: call(in_cgroup, rpc), range(CLIENTS)))
        kinds: list[Callable[[], object]] = [lambda: ask(in_cgroup, rest), lambda: call(in_cgroup, rpc)]
        mixed = Counter(pool.map(lambda n: kinds[n % 2](), range(CLIENTS)))
    answered = {(200, ""), (grpc.StatusCode.OK, "")}
    refused = {(503, "server.memory"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "server.memory")}
    for seen in (over_rest, over_grpc, mixed):
        assert set(seen) <= answered | refused, seen
        assert any(seen[one] for one in answered), seen
    assert probe.slowest() < LIVE_S
    time.sleep(2)
    assert in_cgroup.resident < 1.1 * before + 16  # what a few threads and connections keep


def test_what_grpc_unpacks_and_refuses_is_given_back(edge: Edge) -> None:
    assert call(edge, b"")[1] == "model.not_found"
    before, deadline = edge.resident, time.monotonic() + 10 * TRIM_EVERY_S
    refused = call(edge, bytes(66 * MIB), compression=grpc.Compression.Gzip)
    assert refused == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")  # by gRPC's core, which no budget charges
    while edge.resident > before + 16:  # the core's heap had 64 MiB more for as long as nothing else was large
        assert time.monotonic() < deadline, (before, edge.resident)
        time.sleep(0.1)


def test_hostile_requests_are_refused_before_they_are_parsed(edge: Edge) -> None:
    start = edge.peak
    probe = Probe(edge)
    many = 18_000_000
    for text in (
        b'{"inputs":[' + b",".join([b"[]"] * many) + b"]}",
        b'{"a":' * (many // 2),
        b"[" * many,
        b'{"x":[' + b'"",' * many,
    ):
        assert ask(edge, post("", text)) == (413, "request.too_large")
    for fields in (b"\x2a\x00", b"\x22\x00", b"\x32\x00"):
        assert call(edge, fields * MIB) == (grpc.StatusCode.INVALID_ARGUMENT, "request.too_large")
    packed = b"\x22\x80\x80\x80\x1c" + b"\x07" * (56 * MIB)
    contents = b"\x2a\x85\x80\x80\x1c" + packed
    assert call(edge, b"\x2a\x8a\x80\x80\x1c" + contents) == (grpc.StatusCode.INVALID_ARGUMENT, "request.too_large")
    assert call(edge, b"\x22\x00" * (25 * MIB), "ServerLive") == (grpc.StatusCode.INVALID_ARGUMENT, "request.too_large")
    assert probe.slowest() < LIVE_S
    assert edge.peak - start < LIMIT_MIB / 2

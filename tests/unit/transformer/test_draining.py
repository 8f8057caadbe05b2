"""A stop under load: no request is lost that a client has sent."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from collections import Counter

import grpc
import httpx
import pytest
from aiohttp import web

from tests.unit.transformer.conftest import ANSWER
from transformer.draining import is_connected, stop_listening, take_backlog
from transformer.grpc.messages import SERVICE, message

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}
CLIENTS = 6  # of each kind
PAUSE_S = 0.01


@pytest.fixture
async def process(archive_folder, torchserve, tmp_path):
    """The edge as a process of its own, before a TorchServe that takes 5 ms for an image; and its two addresses."""

    async def reply(_request, _body):
        await asyncio.sleep(0.005)
        return web.Response(text=json.dumps(ANSWER))

    torchserve.reply = reply
    with zipfile.ZipFile(tmp_path / "roofs.mar", "w") as file:
        file.write(archive_folder / "spec.json", "spec.json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transformer", "--archive", str(tmp_path)),
        *("--torchserve", torchserve.url, "--management", torchserve.url, "--host", "127.0.0.1"),
        *("--http-port", "0", "--grpc-port", "0", "--grpc-age-s", "1", "--drain-s", "3"),
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    said = json.loads(await process.stderr.readline())["event"]
    rest, rpc = re.search(r"REST on (\S+), gRPC on (\S+)", said).groups()
    yield process, rest, rpc
    if process.returncode is None:
        process.kill()
        await process.wait()


async def ask_rest(address, seen, ended, *, keep):
    """Ask over REST until the server is gone, over one kept connection or over a new one each time."""
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
        headers = ONE if keep else {**ONE, "Connection": "close"}
        while not ended.is_set():
            try:
                response = await client.post(URL, content=b"\x89PNG", headers=headers)
                seen[f"rest {response.status_code}"] += 1
                if keep:
                    seen[f"kept, {response.headers.get('connection', 'keep-alive')}"] += 1
            except httpx.ConnectError:
                seen["rest refused"] += 1
                return
            except httpx.HTTPError as err:
                seen[f"rest lost: {err!r}"] += 1
            await asyncio.sleep(PAUSE_S)


async def ask_grpc(address, seen, ended):
    """Ask over a gRPC channel of its own until the server is gone."""
    request = message("ModelInferRequest")(
        model_name="roofs",
        inputs=[{"name": "image", "datatype": "BYTES", "shape": [1]}],
        raw_input_contents=[b"\x04\0\0\0\x89PNG"],
    ).SerializeToString()
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        while not ended.is_set():
            try:
                await infer(request, timeout=20)
                seen["grpc OK"] += 1
            except grpc.aio.AioRpcError as err:
                if err.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect" in err.details():
                    seen["grpc refused"] += 1
                    return
                seen[f"grpc lost: {err.code().name} {err.details()}"] += 1
            await asyncio.sleep(PAUSE_S)


async def test_no_request_is_lost_when_it_stops_under_load(process):
    edge, rest, rpc = process
    seen, ended = Counter(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(ask_rest(rest, seen, ended, keep=True))
            tasks.create_task(ask_rest(rest, seen, ended, keep=False))
            tasks.create_task(ask_grpc(rpc, seen, ended))
        async with asyncio.timeout(30):
            while min(seen["rest 200"], seen["grpc OK"]) < 100:
                await asyncio.sleep(PAUSE_S)
        edge.send_signal(signal.SIGTERM)
        _, log = await edge.communicate()
        await asyncio.sleep(0.2)
        ended.set()
    assert edge.returncode == 0
    assert b"the edge is drained" in log
    assert not re.search(b'"level":"error"|Traceback', log)
    assert not {what: count for what, count in seen.items() if "lost" in what}
    # Every kept connection was told to go, by the one answer that its client got after the stop.
    assert seen["kept, close"] == CLIENTS
    assert set(seen) <= {"rest 200", "grpc OK", "kept, close", "kept, keep-alive", "rest refused", "grpc refused"}
    assert seen["rest refused"] == 2 * CLIENTS


async def test_who_is_still_connected_is_answered_and_told_to_go(edge):
    async with (
        httpx.AsyncClient(base_url=f"http://{edge.http}") as client,
        grpc.aio.insecure_channel(edge.grpc) as channel,
    ):
        server_ready = channel.unary_unary(
            f"/{SERVICE}/ServerReady", response_deserializer=message("ServerReadyResponse").FromString
        )
        response = await client.get("/v2/health/ready")
        assert (response.status_code, response.headers.get("connection")) == (200, None)
        assert (await server_ready(b"")).ready
        edge.stop.set()
        await asyncio.sleep(0)
        response = await client.get("/v2/health/ready")
        assert (response.status_code, response.headers["connection"]) == (503, "close")
        assert "about to stop" in response.json()["error"]
        assert not (await server_ready(b"")).ready
        with pytest.raises(ConnectionRefusedError):
            await asyncio.wait_for(asyncio.open_connection(*edge.http.split(":")), 5)


async def test_it_ends_at_once_when_nobody_is_connected(edge):
    async with httpx.AsyncClient(base_url=f"http://{edge.http}") as client:
        await client.get("/v2/health/live")
    edge.stop.set()
    async with asyncio.timeout(0.8):  # less than the second that an idle client would be given
        await edge.task


def test_what_was_connected_before_is_kept_and_nobody_comes_in_after():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        address = listening.getsockname()
        assert not is_connected({address[1]})
        with contextlib.ExitStack() as clients:
            for n in range(3):
                client = clients.enter_context(socket.create_connection(address))
                client.sendall(b"%d" % n)
            taken = [clients.enter_context(connection) for connection in take_backlog(listening)]
            assert [connection.recv(1) for connection in taken] == [b"0", b"1", b"2"]
            assert is_connected({address[1]})
            assert not is_connected({1})
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
        assert not is_connected({address[1]})


async def test_connections_in_the_backlog_are_served(edge):
    """The loop has had no time to accept them when it is told to stop."""
    with contextlib.ExitStack() as clients:
        waiting = [clients.enter_context(socket.create_connection(("127.0.0.1", edge.bound.http_port))) for _ in range(5)]
        edge.stop.set()
        for client in waiting:
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\n\r\n")
        await edge.task
        for client in waiting:
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"connection: close" in answer


def test_a_librarys_own_socket_stops_listening():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as client:
        accepted, _ = listening.accept()
        stop_listening(listening.getsockname()[1])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(accepted.getsockname())
        with accepted:
            client.sendall(b"still here")
            assert accepted.recv(10) == b"still here"

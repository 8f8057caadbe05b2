"""From listening to drained, and the command that runs the edge alone."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile

import grpc
import httpx
import pytest
from aiohttp import web

from tests.unit.transformer.conftest import ANSWER
from transformer.__main__ import main, parse_args
from transformer.errors import PortTaken
from transformer.grpc.messages import SERVICE, message
from transformer.listening import Listening
from transformer.server import listen, serve_edge
from transformer.settings import EdgeLimits

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}


@pytest.fixture
def archive(archive_folder, tmp_path):
    path = tmp_path / "roofs.mar"
    with zipfile.ZipFile(path, "w") as file:
        file.write(archive_folder / "spec.json", "spec.json")
    return path


@pytest.fixture
def settings(settings):
    return dataclasses.replace(settings, limits=EdgeLimits(), grace_s=5.0)


@pytest.fixture
def start(spec):
    async def start(settings):
        stop = asyncio.Event()
        bound = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve_edge(spec, "cd" * 32, settings, bound.set_result, stop))
        return await bound, stop, task

    return start


async def test_what_is_under_way_is_answered_and_nothing_new_is_taken(start, settings, torchserve, images):
    called, go_on = asyncio.Event(), asyncio.Event()

    async def reply(_request, _body):
        called.set()
        await go_on.wait()
        return web.json_response(ANSWER)

    torchserve.reply = reply
    bound, stop, task = await start(settings)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}") as client:
        answer = asyncio.create_task(client.post(URL, content=images[0], headers=ONE))
        await called.wait()
        stop.set()
        await asyncio.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", bound.http_port)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{bound.grpc_port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(f"/{SERVICE}/ServerLive")(b"")
        assert not task.done()
        go_on.set()
        assert (await answer).status_code == 200
    async with asyncio.timeout(5):
        await task


async def test_the_grace_period_ends(start, settings, torchserve, images):
    called = asyncio.Event()

    async def reply(_request, _body):
        called.set()
        await asyncio.sleep(30)
        return web.Response()

    torchserve.reply = reply
    bound, stop, task = await start(dataclasses.replace(settings, grace_s=0.2))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}") as client:
        answer = asyncio.create_task(client.post(URL, content=images[0], headers=ONE))
        await called.wait()
        stop.set()
        async with asyncio.timeout(5):
            await task
        with contextlib.suppress(httpx.HTTPError):
            assert (await answer).status_code >= 500


async def test_cancelled_it_leaves_nothing_behind(start, settings):
    bound, _, task = await start(settings)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for port in (bound.http_port, bound.grpc_port):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(("which", "advice"), [("http_port", "another port"), ("grpc_port", "another port by --grpc-port")])
async def test_a_port_that_is_taken_is_named(spec, settings, which, advice):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = dataclasses.replace(settings, **{which: port})
        with pytest.raises(PortTaken, match=rf"serve\.port: .*{port}.*{advice}$") as caught:
            await serve_edge(spec, "cd" * 32, settings, lambda _: None, asyncio.Event())
        assert "GRPC_VERBOSITY" not in str(caught.value)


@pytest.mark.parametrize("host", ["nowhere.invalid", "203.0.113.7"])
def test_a_host_that_is_not_this_machine_is_named_and_not_its_port(host):
    with pytest.raises(PortTaken, match=rf"REST cannot listen on '{host}': .*; --host takes an address of this machine"):
        listen(host, 0)


async def test_one_port_for_both_protocols_is_refused(spec, settings):
    settings = dataclasses.replace(settings, http_port=8080, grpc_port=8080)
    with pytest.raises(PortTaken, match="REST and gRPC cannot both listen on port 8080; give gRPC another one by --grpc-port"):
        await serve_edge(spec, "cd" * 32, settings, lambda _: None, asyncio.Event())


def test_answers_do_not_wait_for_acknowledgements():
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_ipv6(start, settings):
    bound, stop, task = await start(dataclasses.replace(settings, host="::1"))
    assert bound == Listening("::1", bound.http_port, bound.grpc_port)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://[::1]:{bound.http_port}/v2/health/live")).status_code == 200
    stop.set()
    await task


async def test_all_addresses_are_those_of_both_versions(start, settings):
    bound, stop, task = await start(dataclasses.replace(settings, host="::"))
    assert (bound.host, bound.http_address) == ("::", f"[::]:{bound.http_port}")
    async with httpx.AsyncClient() as client:
        for address in ("127.0.0.1", "[::1]"):
            assert (await client.get(f"http://{address}:{bound.http_port}/v2/health/live")).status_code == 200
            async with grpc.aio.insecure_channel(f"{address}:{bound.grpc_port}") as channel:
                await channel.unary_unary(f"/{SERVICE}/ServerLive")(b"")
    stop.set()
    await task


async def test_without_ipv6_all_addresses_are_those_of_ipv4(start, settings, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    bound, stop, task = await start(dataclasses.replace(settings, host="::"))
    assert (bound.host, bound.http_address) == ("0.0.0.0", f"0.0.0.0:{bound.http_port}")
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{bound.http_port}/v2/health/live")).status_code == 200
    stop.set()
    await task


async def test_an_upload_that_never_ends_does_not_hold_the_end(start, settings):
    bound, stop, task = await start(dataclasses.replace(settings, grace_s=20.0, drain_s=0.2))
    reader, writer = await asyncio.open_connection("127.0.0.1", bound.http_port)
    writer.write(b"POST /v2/models/roofs/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\npart")
    await asyncio.sleep(0.05)
    stop.set()
    async with asyncio.timeout(5):
        assert b"model.not_ready" in await reader.read()
        writer.close()
        await task


async def test_a_large_body_that_is_refused_is_answered_to_a_client_that_keeps_sending(start, settings):
    bound, stop, task = await start(dataclasses.replace(settings, limits=EdgeLimits(max_body_bytes=1000)))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}") as client:
        response = await client.post(URL, content=bytes(30_000_000))
        assert (response.status_code, response.json()["code"]) == (413, "request.too_large")
        assert (await client.get("/v2/health/live")).status_code == 200
    stop.set()
    await task


def test_a_mistyped_flag_is_an_error(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--archive", "x.mar", "--http-prot", "1"])
    assert "--http-prot" in capsys.readouterr().err


def test_the_command_says_why_it_cannot_start(tmp_path, caplog):
    assert main(["--archive", str(tmp_path / "none.mar")]) == 1
    assert "archive.broken" in caplog.text


@pytest.mark.parametrize("nohup", [False, True])
async def test_the_end_of_its_terminal_ends_it_as_sigterm_does_but_not_under_nohup(archive, torchserve, nohup):
    upstream = ["--torchserve", torchserve.url, "--management", torchserve.url, "--drain-s", "0"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transformer", "--archive", str(archive), *upstream, "--http-port", "0", "--grpc-port", "0"),
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL),
    )
    await process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    if nohup:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.5)
        process.terminate()
    _, rest = await process.communicate()
    assert process.returncode == 0, rest.decode()
    assert "drained" in rest.decode()


@pytest.mark.parametrize(("protocol", "where"), [("both", ", gRPC on 127"), ("grpc", ", gRPC on 127"), ("rest", "$")])
async def test_the_command_serves_until_a_signal(archive, torchserve, images, protocol, where):
    flags = ["--host", "127.0.0.1", "--http-port", "0", "--grpc-port", "0", "--max-body-mib", "1", "--protocol", protocol]
    upstream = ["--torchserve", torchserve.url, "--management", torchserve.url]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transformer", "--archive", str(archive), *upstream, *flags),
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        said = json.loads(await process.stderr.readline())["event"]
        port = int(re.search(rf"REST on 127\.0\.0\.1:(\d+){where}", said)[1])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/v2/health/ready")).status_code == 200
            answer = await client.post(URL, content=images[0], headers=ONE)
            assert answer.json()["parameters"]["archive_digest"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    assert process.returncode == 0, rest.decode()
    assert "drained" in rest.decode()


async def test_rest_alone(start, settings):
    bound, stop, task = await start(dataclasses.replace(settings, protocol="rest"))
    assert bound.ports == (bound.http_port,)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}") as client:
        assert (await client.get("/v2/health/ready")).status_code == 200
    stop.set()
    await task


async def test_every_answer_and_the_metrics_tell_the_track(start, settings, images):
    bound, stop, task = await start(dataclasses.replace(settings, track="canary"))
    request = message("ModelInferRequest")(
        model_name="roofs",
        inputs=[{"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [images[0]]}}],
    )
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}") as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{bound.grpc_port}") as channel,
    ):
        answer = await client.post(URL, content=images[0], headers=ONE)
        assert answer.json()["parameters"]["track"] == "canary"
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=message("ModelInferResponse").FromString)
        assert (await infer(request.SerializeToString())).parameters["track"].string_param == "canary"
        [build] = re.findall("visor_build_info{(.*)} 1.0", (await client.get("/metrics")).text)
        assert 'track="canary"' in build
    stop.set()
    await task


async def test_without_a_track_answers_have_none(start, settings, images):
    bound, stop, task = await start(settings)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}") as client:
        answer = await client.post(URL, content=images[0], headers=ONE)
        assert "track" not in answer.json()["parameters"]
        assert 'track=""' in (await client.get("/metrics")).text
    stop.set()
    await task


def test_the_track_comes_from_the_flag_or_the_environment(monkeypatch):
    assert parse_args(["--archive", "x"]).track == ""
    monkeypatch.setenv("VISOR_TRACK", "stable")
    assert parse_args(["--archive", "x"]).track == "stable"
    assert parse_args(["--archive", "x", "--track", "canary"]).track == "canary"


def test_a_pod_has_time_for_every_grpc_connection_to_end():
    args = parse_args(["--archive", "x"])
    # grpc.max_connection_age_ms is varied by up to a tenth (gRPC proposal A9).
    assert 1.1 * args.grpc_age_s < args.drain_s < args.grace_s


def test_the_edge_imports_no_model_code():
    forbidden = ("torch", "timm", "torchvision", "kserve", "tritonclient", "PIL", "ts")
    code = f"import sys, transformer.__main__; print([name for name in {forbidden!r} if name in sys.modules])"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.strip() == "[]"

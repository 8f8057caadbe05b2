"""From listening to drained, and the command that runs the edge alone."""

import asyncio
import contextlib
import dataclasses
import hashlib
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

from handlers.errors import ArchiveBroken
from transformer.__main__ import main, parse_args
from transformer.archive import read_archive
from transformer.errors import PortTaken
from transformer.grpc_server import SERVICE
from transformer.server import EdgeSettings, listen, serve_edge
from transformer.settings import Bound

URL = "/v2/models/roofs/infer"
ANSWER = {
    "label": "intact",
    "confidence": 0.5,
    "probabilities": [0.5, 0.25, 0.25],
    "decision": "pass",
    "threshold": 0.4,
    "heatmap": None,
    "heatmap_label": None,
    "seconds": {},
}
ONE = {"Inference-Header-Content-Length": "0"}


@pytest.fixture
def archive(archive_folder, tmp_path):
    path = tmp_path / "roofs.mar"
    with zipfile.ZipFile(path, "w") as file:
        file.write(archive_folder / "spec.json", "spec.json")
    return path


@pytest.fixture
def settings(spec, torchserve):
    return EdgeSettings(
        spec=spec,
        archive_digest="cd" * 32,
        inference_url=torchserve.url,
        management_url=torchserve.url,
        host="127.0.0.1",
        http_port=0,
        grpc_port=0,
        grace_s=5.0,
    )


async def start(settings):
    stop = asyncio.Event()
    bound = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_edge(settings, bound.set_result, stop))
    return await bound, stop, task


async def test_what_is_under_way_is_answered_and_nothing_new_is_taken(settings, torchserve, images):
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


async def test_the_grace_period_ends(settings, torchserve, images):
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


async def test_cancelled_it_leaves_nothing_behind(settings):
    bound, _, task = await start(settings)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for port in (bound.http_port, bound.grpc_port):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("which", ["http_port", "grpc_port"])
async def test_a_port_that_is_taken_is_named(settings, which):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"serve\.port: .*{port}.*another port"):
            await serve_edge(dataclasses.replace(settings, **{which: port}), lambda _: None, asyncio.Event())


def test_answers_do_not_wait_for_acknowledgements():
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_ipv6(settings):
    bound, stop, task = await start(dataclasses.replace(settings, host="::1"))
    assert bound == Bound("::1", bound.http_port, bound.grpc_port)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://[::1]:{bound.http_port}/v2/health/live")).status_code == 200
    stop.set()
    await task


async def test_a_large_body_that_is_refused_is_answered_to_a_client_that_keeps_sending(settings):
    bound, stop, task = await start(dataclasses.replace(settings, max_body_bytes=1000))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bound.http_port}") as client:
        response = await client.post(URL, content=bytes(30_000_000))
        assert (response.status_code, response.json()["code"]) == (413, "request.too_large")
        assert (await client.get("/v2/health/live")).status_code == 200
    stop.set()
    await task


def test_an_archive_is_its_spec_and_its_digest(archive, spec):
    assert read_archive(archive) == (spec, hashlib.sha256(archive.read_bytes()).hexdigest())


def test_archives_that_are_none(tmp_path):
    with pytest.raises(ArchiveBroken, match="cannot be read: No such file"):
        read_archive(tmp_path / "none.mar")
    (tmp_path / "text.mar").write_text("no zip")
    with pytest.raises(ArchiveBroken, match="not an archive of visor"):
        read_archive(tmp_path / "text.mar")
    with zipfile.ZipFile(tmp_path / "other.mar", "w") as file:
        file.writestr("model.pt", b"")
    with pytest.raises(ArchiveBroken, match=r"spec\.json"):
        read_archive(tmp_path / "other.mar")
    with zipfile.ZipFile(tmp_path / "bad.mar", "w") as file:
        file.writestr("spec.json", b"{}")
    with pytest.raises(ArchiveBroken, match="not a valid spec"):
        read_archive(tmp_path / "bad.mar")


def test_a_mistyped_flag_is_an_error(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--archive", "x.mar", "--http-prot", "1"])
    assert "--http-prot" in capsys.readouterr().err


def test_the_command_says_why_it_cannot_start(tmp_path, caplog):
    assert main(["--archive", str(tmp_path / "none.mar")]) == 1
    assert "archive.broken" in caplog.text


async def test_the_command_serves_until_a_signal(archive, torchserve, images):
    flags = ["--host", "127.0.0.1", "--http-port", "0", "--grpc-port", "0", "--max-body-mib", "1"]
    upstream = ["--torchserve", torchserve.url, "--management", torchserve.url]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transformer", "--archive", str(archive), *upstream, *flags),
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        line = (await process.stderr.readline()).decode()
        port = int(re.search(r"REST on 127\.0\.0\.1:(\d+), gRPC on", line)[1])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/v2/health/ready")).status_code == 200
            answer = await client.post(URL, content=images[0], headers=ONE)
            assert answer.json()["parameters"]["archive_digest"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    assert process.returncode == 0, rest.decode()
    assert "drained" in rest.decode()


def test_the_edge_imports_no_model_code():
    forbidden = ("torch", "timm", "torchvision", "kserve", "tritonclient", "PIL", "ts")
    code = f"import sys, transformer.__main__; print([name for name in {forbidden!r} if name in sys.modules])"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.strip() == "[]"

"""The client that `helm test` runs, against a real edge on real ports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from aiohttp import ClientSession, web

from transformer.selftest import PICTURE, main, parse_args


async def test_both_protocols_tell_what_the_handler_says(edge, ask_handler, capsys):
    said = ask_handler(PICTURE)
    code = await asyncio.to_thread(main, ["--rest", f"http://{edge.http}/", "--grpc", edge.grpc, "--timeout-s", "10"])
    rest, grpc = capsys.readouterr().out.splitlines()
    told = f"roofs version 3: {said['label']} {said['confidence']:.3f} {said['decision']}, heat map 4x4, archive abababababab"
    assert code == 0
    assert rest == f"REST http://{edge.http}/: {told}"
    assert grpc == f"gRPC {edge.grpc}: {told}"


@pytest.mark.parametrize("protocol", ["--rest", "--grpc"])
async def test_it_waits_until_the_model_is_loaded(edge, torchserve, protocol, capsys):
    torchserve.workers = []
    address = f"http://{edge.http}" if protocol == "--rest" else edge.grpc
    task = asyncio.create_task(asyncio.to_thread(main, [protocol, address, "--timeout-s", "10"]))
    while not torchserve.polls:
        await asyncio.sleep(0.01)
    torchserve.workers = [{"id": "9000", "status": "READY"}]
    assert await task == 0
    assert "roofs version 3" in capsys.readouterr().out


@pytest.mark.parametrize("protocol", ["--rest", "--grpc"])
async def test_a_model_that_never_loads_is_a_failure(edge, torchserve, protocol, capsys):
    torchserve.workers = []
    address = f"http://{edge.http}" if protocol == "--rest" else edge.grpc
    assert await asyncio.to_thread(main, [protocol, address, "--timeout-s", "0.6"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"visor: selftest.failed: {address} did not get ready in time: ")


@pytest.mark.parametrize("protocol", ["--rest", "--grpc"])
def test_a_server_that_is_not_there_is_a_failure(free_port, protocol, capsys):
    address = f"http://127.0.0.1:{free_port}" if protocol == "--rest" else f"127.0.0.1:{free_port}"
    assert main([protocol, address, "--timeout-s", "0.6"]) == 1
    assert f"{address} did not get ready in time" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["--rest", "--grpc"])
async def test_a_refusal_is_told_with_the_servers_own_words(edge, torchserve, protocol, capsys):
    async def fail(_request, _body):
        return web.Response(status=500, text="out of memory")

    torchserve.reply = fail
    address = f"http://{edge.http}" if protocol == "--rest" else edge.grpc
    # gRPC calls this status UNAVAILABLE, as it does a server that is not there.
    assert await asyncio.to_thread(main, [protocol, address, "--timeout-s", "5"]) == 1
    assert "upstream.failed: TorchServe answered 500" in capsys.readouterr().err


async def test_an_answer_of_another_protocol_is_a_failure(capsys):
    async def answer(_request):
        return web.json_response([{"id": "roofs"}])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    assert await asyncio.to_thread(main, ["--rest", url, "--timeout-s", "5"]) == 1
    await runner.cleanup()
    assert capsys.readouterr().err == f"visor: selftest.failed: {url} answered, but not as V2 does: KeyError('name')\n"


@asynccontextmanager
async def gateway(edge: str, host: str, refusals: int) -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP gateway that knows one host, after its first `refusals` answers of 404: its address, and the paths it passed on."""
    asked = []

    async def answer(request):
        nonlocal refusals
        refusals -= 1
        if refusals >= 0 or request.host != host:
            return web.Response(status=404)
        asked.append(request.path)
        kept = {
            name: request.headers[name] for name in ("Content-Type", "Inference-Header-Content-Length") if name in request.headers
        }
        async with (
            ClientSession() as session,
            session.request(request.method, f"http://{edge}{request.path}", data=await request.read(), headers=kept) as reply,
        ):
            return web.Response(status=reply.status, body=await reply.read())

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


async def test_the_gateway_is_asked_by_its_host_once_it_knows_the_route(edge, capsys):
    async with gateway(edge.http, "roofs.example.com", refusals=2) as (address, asked):
        flags = ["--rest", f"http://{edge.http}", "--gateway", address, "--host", "roofs.example.com", "--timeout-s", "10"]
        assert await asyncio.to_thread(main, flags) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert second.startswith(f"REST http://{address} as roofs.example.com: roofs version 3: ")
    assert first.split(": ", 1)[1] == second.split(": ", 1)[1]
    assert asked == ["/v2/health/ready", "/v2/repository/index", "/v2/models/roofs/infer"]


async def test_a_gateway_that_takes_no_route_is_a_failure_though_the_model_answers(edge, capsys):
    async with gateway(edge.http, "other.example.com", refusals=0) as (address, _):
        flags = ["--rest", f"http://{edge.http}", "--gateway", address, "--host", "roofs.example.com", "--timeout-s", "0.6"]
        assert await asyncio.to_thread(main, flags) == 1
    said = capsys.readouterr()
    assert "roofs version 3" in said.out
    assert "answered 404; look at the status of the route of roofs.example.com" in said.err


async def test_a_gateway_without_a_route_for_grpc_is_a_failure_too(edge, capsys):
    bare = grpc.aio.server()
    port = bare.add_insecure_port("127.0.0.1:0")
    await bare.start()
    flags = ["--grpc", edge.grpc, "--gateway", f"127.0.0.1:{port}", "--host", "roofs.example.com", "--grpc-host", "g.example.com"]
    assert await asyncio.to_thread(main, [*flags, "--timeout-s", "0.6"]) == 1
    await bare.stop(0)
    said = capsys.readouterr().err
    assert "ServerReady did not answer: UNIMPLEMENTED" in said
    assert "look at the status of the route of g.example.com" in said


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ([], "--rest, --grpc or both"),
        (["--gateway", "gateway:80", "--host", "roofs.example.com"], "--rest, --grpc or both"),
        (["--rest", "http://roofs", "--gateway", "gateway:80"], "--gateway needs --host"),
    ],
)
def test_a_server_without_its_name_is_a_usage_error(flags, why, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_args(flags)
    assert caught.value.code == 2
    assert why in capsys.readouterr().err

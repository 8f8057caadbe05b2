"""The client that `helm test` runs, against a real edge on real ports."""

import asyncio

import pytest
from aiohttp import web

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


def test_no_server_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_args([])
    assert caught.value.code == 2
    assert "--rest, --grpc or both" in capsys.readouterr().err

"""The servers: which are asked, what becomes of one that is down, full, slow, or no V2 server at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from console.settings import Settings
from tests.unit.console.api.test_predict import code_of
from tests.unit.console.conftest import DIGEST, Edge, MiniTorchServe, running

PNG = {"Content-Type": "image/png"}
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def other(reply: Reply) -> AsyncIterator[str]:
    """A server that answers everything so; its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", reply)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_models_are_told_as_the_servers_tell_them(console: httpx.AsyncClient, edge: Edge) -> None:
    async with httpx.AsyncClient() as client:
        facts = (await client.get(f"http://{edge.http}/v2/models/roofs")).json()["parameters"]
    [model] = (await console.get("/models")).json()["models"]
    assert (model["name"], model["version"], model["digest"]) == ("roofs", "3", DIGEST)
    assert (model["labels"], model["positive"]) == (facts["labels"], facts["positive"])
    assert model["rule"] == {name: facts[name] for name in ("threshold", "review_from", "review_to")}
    assert (await console.get("/models/roofs")).json() == model
    assert code_of(await console.get("/models/<script>")) == (404, "console.model")


async def test_of_several_models_one_is_named(edge: Edge, images: list[bytes], choose: Callable[..., Settings]) -> None:
    async def second(request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/repository/index":
            return web.json_response([{"name": "walls", "version": "1", "state": "READY", "reason": ""}])
        return web.json_response({"name": "walls", "versions": ["1"], "parameters": {"labels": ["a", "b"]}})

    async with (
        other(second) as url,
        running(choose(servers=f"{url},http://{edge.http}")) as (address, _),
        httpx.AsyncClient(base_url=address) as client,
    ):
        assert [model["name"] for model in (await client.get("/models")).json()["models"]] == ["walls", "roofs"]
        unnamed = await client.post("/predict", content=images[0], headers=PNG)
        assert code_of(unnamed) == (404, "console.model")
        assert "roofs, walls" in unnamed.text
        assert (await client.post("/predict?model=roofs", content=images[0], headers=PNG)).status_code == 200


async def test_a_server_that_is_down_is_told_as_that_and_found_again(
    choose: Callable[..., Settings], free_port: int, images: list[bytes]
) -> None:
    async with (
        running(choose(servers=f"http://127.0.0.1:{free_port}")) as (address, _),
        httpx.AsyncClient(base_url=address) as client,
    ):
        down = await client.post("/predict", content=images[0], headers=PNG)
        assert code_of(down) == (503, "console.server_down")
        assert down.headers["retry-after"] == "5"
        assert str(free_port) not in down.text  # where servers are is not for clients
        assert code_of(await client.get("/models")) == (503, "console.server_down")
        batch = await client.post("/batch_predict", files={"images": ("a.png", images[0])})
        assert code_of(batch) == (503, "console.server_down")
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["trouble"]) == (200, ["console.server_down"])


async def test_a_working_server_answers_beside_one_that_is_down(
    edge: Edge, choose: Callable[..., Settings], free_port: int, images: list[bytes]
) -> None:
    async with (
        running(choose(servers=f"http://127.0.0.1:{free_port},http://{edge.http}")) as (address, _),
        httpx.AsyncClient(base_url=address) as client,
    ):
        assert (await client.post("/predict", content=images[0], headers=PNG)).status_code == 200
        assert (await client.get("/health")).json() == {
            "status": "ready",
            "models": ["roofs"],
            "trouble": ["console.server_down"],
        }


async def without_worker(_: web.Request, __: bytes) -> web.StreamResponse:
    return web.json_response({"code": 507, "type": "InternalServerException", "message": "Worker died."}, status=507)


async def test_a_server_that_asks_to_be_asked_later_is_waited_for(
    console: httpx.AsyncClient, torchserve: MiniTorchServe, images: list[bytes]
) -> None:
    torchserve.reply = without_worker

    async def recover() -> None:
        await asyncio.sleep(1.5)
        torchserve.reply = None

    _, answer = await asyncio.gather(recover(), console.post("/predict", content=images[0], headers=PNG))
    assert answer.status_code == 200
    assert len(torchserve.calls) >= 2


async def test_a_server_that_stays_so_is_told_with_its_own_code_once_the_time_is_up(
    choose: Callable[..., Settings], torchserve: MiniTorchServe, images: list[bytes]
) -> None:
    torchserve.reply = without_worker
    async with running(choose(max_wait_s=1.5)) as (address, _), httpx.AsyncClient(base_url=address) as client:
        answer = await client.post("/predict", content=images[0], headers=PNG)
        assert code_of(answer) == (503, "model.not_ready")
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, "<html>", (502, "console.server_failed")),
        (404, "<html>not here", (502, "console.server_failed")),
        (302, "", (502, "console.server_failed")),
        (401, '{"error": "request.unauthenticated: x", "code": "request.unauthenticated"}', (502, "console.server_failed")),
        (503, "no healthy upstream", (503, "console.server_down")),
        (502, "", (503, "console.server_down")),
        (500, json.dumps({"error": "internal: x", "code": "internal"}), (503, "console.server_down")),
        (200, json.dumps([{"nome": "x"}]), (502, "console.server_failed")),
    ],
)  # fmt: skip
async def test_what_is_no_v2_server_is_told_as_that(
    choose: Callable[..., Settings], images: list[bytes], status: int, body: str, told: tuple[int, str]
) -> None:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status, headers={"Location": "http://127.0.0.1:1/"})

    async with (
        other(reply) as url,
        running(choose(servers=url)) as (address, _),
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post("/predict", content=images[0], headers=PNG)
        assert code_of(answer) == told
        assert "html" not in answer.text


async def test_a_slow_server_is_told_as_that(
    choose: Callable[..., Settings], torchserve: MiniTorchServe, images: list[bytes]
) -> None:
    async def hang(_: web.Request, __: bytes) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    torchserve.reply = hang
    async with running(choose(timeout_s=0.3)) as (address, _), httpx.AsyncClient(base_url=address) as client:
        assert code_of(await client.post("/predict", content=images[0], headers=PNG)) == (504, "console.server_slow")


async def test_the_token_and_the_host_of_the_settings_are_sent(
    choose: Callable[..., Settings], images: list[bytes], tmp_path: Path
) -> None:
    heard: list[tuple[str | None, str | None]] = []

    async def reply(request: web.Request) -> web.StreamResponse:
        heard.append((request.headers.get("Host"), request.headers.get("Authorization")))
        return web.Response(status=404)

    token = tmp_path / "token"
    token.write_text("secret-token\n")
    async with other(reply) as url:
        servers = json.dumps([{"url": url, "host": "roofs.example.com", "model": "roofs", "token_file": str(token)}])
        async with running(choose(servers=servers)) as (address, _), httpx.AsyncClient(base_url=address) as client:
            await client.post("/predict", content=images[0], headers=PNG)
    assert set(heard) == {("roofs.example.com", "Bearer secret-token")}


async def test_pictures_are_counted_by_what_became_of_them(console: httpx.AsyncClient, images: list[bytes]) -> None:
    decision = (await console.post("/predict", content=images[0], headers=PNG)).json()["decision"]
    await console.post("/predict", content=b"no picture", headers=PNG)
    text = (await console.get("/metrics")).text
    assert f'visor_console_pictures_total{{model="roofs",outcome="{decision}"}} 1.0' in text
    assert 'visor_console_pictures_total{model="roofs",outcome="image.undecodable"} 1.0' in text
    assert 'visor_console_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'visor_console_requests_total{method="POST",route="/predict",status="400"} 1.0' in text


async def test_two_hundred_at_once_are_all_answered(console: httpx.AsyncClient, images: list[bytes]) -> None:
    async def ask(n: int) -> tuple[int, Any]:
        answer = await console.post("/predict", content=images[n % 4], headers=PNG)
        return answer.status_code, answer.json().get("label")

    first = [await ask(n) for n in range(4)]
    assert await asyncio.gather(*(ask(n) for n in range(200))) == first * 50


@pytest.mark.parametrize("tells", [True, False])
async def test_an_answer_has_the_labels_of_the_archive_that_gave_it(choose: Callable[..., Settings], *, tells: bool) -> None:
    """An archive of another order of labels has taken the place of the one that was told: its probabilities go by its own."""
    archives = [("1" * 64, ["a", "b"]), ("2" * 64, ["b", "a"])]

    async def reply(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/index"):
            return web.json_response([{"name": "roofs", "version": "1", "state": "READY", "reason": ""}])
        if request.method == "GET":
            digest, labels = archives[0]
            return web.json_response(
                {"name": "roofs", "versions": ["1"], "parameters": {"labels": labels, "archive_digest": digest}}
            )
        if tells:
            archives.reverse()
        outputs = [
            {"name": name, "datatype": kind, "shape": shape, "data": data}
            for name, kind, shape, data in (
                ("label", "BYTES", [1], ["b"]),
                ("decision", "BYTES", [1], ["pass"]),
                ("confidence", "FP32", [1], [0.75]),
                ("probabilities", "FP32", [1, 2], [0.75, 0.25]),
            )
        ]
        return web.json_response({"model_name": "roofs", "parameters": {"archive_digest": "2" * 64}, "outputs": outputs})

    async with (
        other(reply) as url,
        running(choose(servers=url)) as (address, _),
        httpx.AsyncClient(base_url=address) as client,
    ):
        assert (await client.get("/models/roofs")).json()["labels"] == ["a", "b"]
        await asyncio.sleep(1.1)  # it is not asked again sooner
        answered = await client.post("/predict", content=b"\x89PNG", headers=PNG)
        if tells:
            assert answered.json()["probabilities"] == {"b": 0.75, "a": 0.25}
        else:
            assert code_of(answered) == (502, "console.server_failed")

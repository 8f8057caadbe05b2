"""The shadow of one edge before another, both of them real: who is asked what, what is counted, and what users never see."""

import asyncio
import contextlib
import dataclasses
import gzip
import itertools
import json
import re
import socket
import threading
from collections import Counter
from time import perf_counter

import grpc
import httpx
import numpy as np
import pytest
from aiohttp import web

import transformer.shadow
from tests.unit.transformer.conftest import ANSWER, start_torchserve
from transformer.grpc.messages import SERVICE, message
from transformer.images import Picture
from transformer.metrics import Metrics
from transformer.request_log import Record
from transformer.shadow import MAX_CALLS, MAX_WAITING, Shadow
from transformer.tensors import encode_bytes
from transformer.upstream.dispatch import Question
from transformer.upstream.image_answers import ImageAnswer

URL = "/v2/models/roofs/infer"
RESULTS = ("agreed", "label", "decision", "error", "timeout", "dropped")
CANARY = {
    b"same": {},
    b"label": {"label": "unsure", "probabilities": [0.25, 0.25, 0.5]},
    b"flag": {"label": "damaged", "decision": "flag", "probabilities": [0.25, 0.75, 0.0]},
}
"""What the canary's worker answers to a picture of these bytes otherwise than the stable one's, which has one answer."""


@pytest.fixture
async def others(spec, handler):
    """The canary's worker."""
    async with start_torchserve(handler, spec) as mini:
        yield mini


@pytest.fixture
async def canary(start_edge, settings, others):
    others.reply = lambda _, body: answered({**ANSWER, **CANARY.get(body, {})})
    own = dataclasses.replace(settings, inference_url=others.url, management_url=others.url, track="canary")
    async with start_edge(own) as edge:
        yield edge


async def answered(answer):
    if answer is None:
        return web.json_response({"error": {"code": "image.undecodable", "message": "no picture"}}, status=400)
    return web.json_response(answer)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "shadow.json"


def tell(file, percent=100.0):
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"percent": percent}))
    new.replace(file)


@pytest.fixture
def start_stable(start_edge, settings, torchserve, file):
    """Run the stable edge before a canary at this address, whose worker has one answer, to whatever picture."""
    torchserve.reply = lambda _, body: answered(None if body == b"broken" else ANSWER)

    def start(address, **more):
        own = {"shadow_url": f"http://{address}", "shadow_file": file, "track": "stable", **more}
        return start_edge(dataclasses.replace(settings, **own))

    return start


async def infer(edge, *pictures, parameters=None, **options):
    """Ask about pictures over REST."""
    data = encode_bytes(pictures)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": parameters or {}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), **options.pop("headers", {})}
    async with httpx.AsyncClient() as client:
        return await client.post(f"http://{edge.http}{URL}", content=head + data, headers=headers, **options)


async def infer_grpc(edge, *pictures):
    async with grpc.aio.insecure_channel(edge.grpc) as channel:
        stub = channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=message("ModelInferResponse").FromString)
        tensor = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "contents": {"bytes_contents": list(pictures)}}
        return await stub(message("ModelInferRequest")(model_name="roofs", inputs=[tensor]).SerializeToString())


async def metrics(edge):
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{edge.http}/metrics")).text


async def counted(edge, name="visor_shadow_images_total", label="result"):
    """A counter by a label, without those that are 0."""
    found = re.findall(rf'^{name}{{.*\b{label}="(\w+)".*}} (\S+)$', await metrics(edge), re.MULTILINE)
    return {value: float(count) for value, count in found if float(count)}


async def value(edge, name):
    [found] = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", await metrics(edge), re.MULTILINE)
    return float(found)


async def eventually(edge, **expected):
    """The images are counted so, in a moment."""
    deadline = asyncio.get_running_loop().time() + 20
    while (found := await counted(edge)) != expected:
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def silent():
    """A server that takes requests and answers none."""
    seen: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: seen.append(writer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"{host}:{port}"
    for writer in seen:
        writer.close()
    server.close()


async def test_answers_are_compared_whatever_the_protocol(start_stable, canary, file):
    """By arithmetic: of REST's four pictures two agree, of gRPC's two one; scores are P(damaged), 0.25 here."""
    tell(file)
    async with start_stable(canary.http) as stable:
        assert (await infer(stable, b"same", b"label", b"flag", b"other")).status_code == 200
        await infer_grpc(stable, b"flag", b"same")
        await eventually(stable, agreed=3, label=1, decision=2)
        assert await value(stable, "visor_shadow_score_difference_count") == 6
        below = re.findall(r'^visor_shadow_score_difference_bucket{le="(\S+?)".*} (\S+)$', await metrics(stable), re.MULTILINE)
        assert {float(bound): float(count) for bound, count in below if bound in ("-0.001", "0.001", "0.2", "0.5")} == {
            -0.001: 0, 0.001: 4, 0.2: 4, 0.5: 6,
        }  # fmt: skip
        assert await value(stable, "visor_shadow_seconds_count") == 6
        # By hand: a pass stands for intact, 0.25 * 5 + 0.25 * 1, or unsure, 0.25 * 1 + 0.25 * 1; a flag for damaged, 0.25 * 1.
        costs = await counted(stable, "visor_shadow_cost_total", "whose")
        assert costs == pytest.approx({"stable": 6 * 1.5, "canary": 3 * 1.5 + 0.5 + 2 * 0.25})
        assert await value(stable, "visor_shadow_priced_images_total") == 6


async def test_of_a_request_s_images_one_is_drawn(start_stable, canary, file):
    """Of those that were chosen, whatever the protocol: three requests of seven pictures are three."""
    tell(file)
    async with start_stable(canary.http) as stable:
        await infer(stable, *[b"flag"] * 4)
        await infer_grpc(stable, b"same", b"same")
        await infer(stable, b"label")
        await eventually(stable, agreed=2, label=1, decision=4)
        assert await counted(stable, "visor_shadow_drawn_images_total") == {"agreed": 1, "label": 1, "decision": 1}
        assert await counted(stable, "visor_drawn_images_total") == {"pass": 3}  # by what the stable edge itself has answered


@pytest.mark.parametrize("patience_s", [0.01, 60.0])
async def test_the_canary_is_asked_while_no_users_image_waits(start_stable, canary, torchserve, file, monkeypatch, patience_s):
    """One worker with an image of another user: the canary is asked once that is answered, or when the image is late."""
    monkeypatch.setattr(transformer.shadow, "PATIENCE_S", patience_s)
    answers = asyncio.Event()

    async def answer(_, body):
        if body == b"slow":
            await answers.wait()
        return await answered(ANSWER)

    torchserve.reply = answer
    tell(file)
    async with start_stable(canary.http) as stable:
        slow = asyncio.create_task(infer(stable, b"slow"))
        while not torchserve.calls:
            await asyncio.sleep(0.01)
        await infer(stable, b"same")
        if patience_s > 1:
            await asyncio.sleep(0.3)
            assert not await counted(stable)
        else:
            await eventually(stable, agreed=1)
        answers.set()
        assert (await slow).status_code == 200
        await eventually(stable, agreed=2)


async def test_a_refused_picture_is_compared_too(start_stable, canary, others, file):
    others.reply = lambda _, body: answered(None if body in (b"broken", b"new to it") else ANSWER)
    tell(file)
    async with start_stable(canary.http) as stable:
        assert (await infer(stable, b"broken")).status_code == 400
        # The last one is refused before anybody is asked.
        assert (await infer(stable, b"broken", b"new to it", b"")).status_code == 200
        await eventually(stable, agreed=2, decision=1)


async def test_answers_of_the_cache_are_users_answers_too(start_stable, canary, torchserve, file):
    tell(file)
    async with start_stable(canary.http, cache_images=10) as stable:
        for _ in range(4):
            await infer(stable, b"flag")
        await eventually(stable, decision=4)
        assert len(torchserve.calls) == 1


async def test_the_canary_is_asked_the_same_question(start_stable, canary, others, file):
    """A request's own threshold and pixels; but no heat map, which nobody would look at."""
    tell(file)
    bodies = []

    async def reply(_request, body):
        bodies.append(body)
        return web.json_response(ANSWER)

    others.reply = reply
    async with start_stable(canary.http) as stable:
        assert (await infer(stable, b"same", parameters={"threshold": 0.75, "explain": True})).status_code == 200
        await eventually(stable, agreed=1)
        pixels = np.arange(60, dtype=np.uint8)
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 4, 5, 3], "parameters": {"binary_data_size": 60}}
        head = json.dumps({"inputs": [tensor]}).encode()
        async with httpx.AsyncClient() as client:
            headers = {"Inference-Header-Content-Length": str(len(head))}
            await client.post(f"http://{stable.http}{URL}", content=head + pixels.tobytes(), headers=headers)
        await eventually(stable, agreed=2)
    assert bodies == [b"same", pixels.tobytes()]
    assert others.calls[0]["x-visor-threshold"] == "0.75"
    assert "x-visor-explain" not in others.calls[0]
    assert others.calls[1]["x-visor-shape"] == "4,5"


async def test_the_canary_counts_a_shadow_neither_as_requests_nor_as_answers(start_stable, canary, file):
    tell(file)
    async with start_stable(canary.http) as stable:
        await infer(stable, b"same", headers={"x-request-id": "mine"})
        await eventually(stable, agreed=1)
        assert await value(stable, "visor_request_seconds_count") == 1
        assert not re.search(r"^visor_(request_seconds|decisions|confidence|stage)", await metrics(canary), re.MULTILINE)
        await infer(canary, b"same")
        assert await value(canary, "visor_request_seconds_count") == 1


async def test_a_canary_has_no_shadow(start_stable, canary, others, file):
    """Else it would agree with itself."""
    tell(file)
    async with start_stable(canary.http, track="canary") as second:
        await infer(second, b"same")
        assert others.calls == []
        assert "visor_shadow" not in await metrics(second)


@pytest.mark.parametrize("track", ["stable", ""])
async def test_nobody_hides_by_the_header_elsewhere(track, start_stable, canary, file, capfd):
    """It is a user's request like any other: counted, logged as one, which audits go by, and asked about."""
    tell(file)
    async with start_stable(canary.http, track=track) as stable:
        await infer(stable, b"flag", headers={"x-visor-shadow": "true", "x-request-id": "hiding"})
        await eventually(stable, decision=1)
        assert await value(stable, "visor_request_seconds_count") == 1
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"hiding"' in line]
    shadows = [line.get("shadow", False) for line in lines if line.get("event") == "request"]
    assert sorted(shadows) == [False, True]  # the user's own, and the canary's of what it was asked about it


async def test_a_token_is_sent_where_one_is_asked_for(start_stable, start_edge, settings, others, file, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("first-token-0123456789\n")
    own = dataclasses.replace(settings, inference_url=others.url, management_url=others.url, token_file=tokens)
    others.reply = lambda _, __: answered(ANSWER)
    async with start_edge(own) as canary, start_stable(canary.http, token_file=tokens) as stable:
        tell(file)
        await begun(stable)
        assert (await infer(stable, b"same", headers={"authorization": "Bearer first-token-0123456789"})).status_code == 200
        await eventually(stable, agreed=1)


async def begun(edge):
    """A shadow has begun."""
    async with asyncio.timeout(10):
        while "visor_shadow_images_total" not in await metrics(edge):
            await asyncio.sleep(0.05)


async def test_it_is_off_by_default(start_edge, settings, service):
    """No metric, and no shadow that a request could ask whether it wants something."""
    assert service._shadow is None
    async with start_edge(settings) as edge:
        await infer(edge, b"same")
        assert "visor_shadow" not in await metrics(edge)


async def test_without_a_file_there_is_none_and_a_new_one_is_followed(start_stable, canary, others, file, caplog):
    async with start_stable(canary.http) as stable:
        await infer(stable, b"same")
        assert "visor_shadow" not in await metrics(stable)
        tell(file)
        await begun(stable)
        assert await counted(stable) == {}
        assert len(re.findall("^visor_shadow_images_total", await metrics(stable), re.MULTILINE)) == len(RESULTS)
        await infer(stable, b"same")
        await eventually(stable, agreed=1)
        caplog.set_level("INFO", "transformer")
        for write, why in (
            (lambda: tell(file, 0), ""),
            (lambda: file.write_text("{"), "shadow.json cannot be used"),
            (file.unlink, ""),
        ):
            write()
            await said(caplog, f"{why}.*no canary is asked any more")
            await infer(stable, b"same")
            tell(file)
            await said(caplog, "of 100 % of the images http://127.0.0.1:[0-9]+ is asked, too")
        assert len(others.calls) == 1


async def said(caplog, words):
    """The log has come to say it, and is empty again."""
    async with asyncio.timeout(10):
        while not re.search(words, caplog.text, re.DOTALL):
            await asyncio.sleep(0.05)
    caplog.clear()


@pytest.mark.parametrize(
    "content",
    ['{"url": "http://elsewhere:80", "percent": 20}', '{"percent": 101}', '{"percent": NaN}', '{"percent": -1}', "{}", "[]", ""],
)
async def test_a_file_that_says_something_else_is_refused(content, spec, file, caplog):
    """Above all whom to ask: whoever may write the file would have users' images sent where he likes."""
    file.write_text(content)
    metrics = Metrics(spec, "ab")
    shadow = Shadow("http://canary:80", file, spec, metrics, 1 << 30)
    assert 'shadow.json cannot be used, {"percent": 0 to 100} is wanted' in caplog.text
    offer(shadow, b"same")
    assert b"visor_shadow" not in metrics.render()
    await shadow.close()


async def test_a_dead_canary_changes_nothing(start_stable, file, free_port, caplog):
    tell(file)
    async with start_stable(f"127.0.0.1:{free_port}") as stable:
        answers = [await infer(stable, b"same", b"flag") for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        await eventually(stable, error=20)
    assert len([one for one in caplog.records if "has no answer" in one.message]) == 1  # and not twenty


async def test_of_a_canary_that_hangs_a_bounded_number_waits(start_stable, file, monkeypatch):
    """Each has its deadline; the canary has four at once, 32 wait, and the others are dropped."""
    monkeypatch.setattr(transformer.shadow, "DEADLINE_S", 0.5)
    async with silent() as address, start_stable(address) as stable:
        tell(file)
        await begun(stable)
        answers = [await infer(stable, *[b"same"] * 6) for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        async with asyncio.timeout(20):
            while sum((found := await counted(stable)).values()) < 120:
                await asyncio.sleep(0.05)
        assert set(found) == {"timeout", "dropped"}
        assert MAX_CALLS + MAX_WAITING <= found["timeout"] < 120
        assert (await infer(stable, b"same")).status_code == 200


async def test_what_waits_is_bounded_in_bytes_too(spec, file):
    """An eighth of 16,000 bytes: 2,001 never fit, and 1,000 behind 1,000 and what a request says beside them do not."""
    async with silent() as address:
        tell(file)
        metrics = Metrics(spec, "ab")
        shadow = Shadow(f"http://{address}", file, spec, metrics, 16_000)
        offer(shadow, b"x" * 2_001)
        offer(shadow, b"x" * 1_000)
        offer(shadow, b"x" * 1_000)
        for name in (b"visor_shadow_images_total", b"visor_shadow_drawn_images_total"):
            assert name + b'{model="roofs",result="dropped",version="3"} 2.0' in metrics.render()
        await shadow.close()


def offer(shadow, *bodies):
    """Have it choose among answered pictures."""
    answer = ImageAnswer("intact", 0.5, np.array([0.5, 0.25, 0.25], np.float32), "pass", np.zeros((1, 1), np.float32), "", {})
    questions = [Question(Picture(body), explain=False, threshold=None, group=None, key=None) for body in bodies]
    shadow.offer(questions, [answer] * len(bodies), Record("rest", URL, inference=True, id="x"))


async def test_a_share_is_that_share(spec, file, free_port):
    """20 % of 5,000: 1,000 give or take five standard errors of 28."""
    tell(file, 20)
    metrics = Metrics(spec, "ab")
    shadow = Shadow(f"http://127.0.0.1:{free_port}", file, spec, metrics, 1 << 30)
    for _ in range(500):
        offer(shadow, *[b"x"] * 10)
    chosen = Counter(
        dict(
            re.findall(r'^visor_shadow_images_total.*result="(\w+)",version="3"} (\S+)', metrics.render().decode(), re.MULTILINE)
        )
    )
    assert 860 <= float(chosen["dropped"]) + MAX_WAITING + MAX_CALLS <= 1140
    await shadow.close()


async def test_what_is_under_way_ends_with_the_edge(start_stable, file):
    async with silent() as address:
        tell(file)
        async with asyncio.timeout(transformer.shadow.DEADLINE_S):
            async with start_stable(address) as stable:
                await infer(stable, *[b"same"] * 6)


async def test_a_resolver_that_hangs_changes_nothing_for_users(start_stable, file, monkeypatch):
    """Compressed requests are unpacked in the threads that name look-ups took all of, by more images than there are threads."""
    monkeypatch.setattr(transformer.shadow, "DEADLINE_S", 0.3)
    asked, let_go = [], threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if host == "canary.example":
            asked.append(host)
            let_go.wait(20)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    tell(file)
    try:
        async with start_stable("canary.example:80") as stable:
            for _ in range(7):
                assert (await infer(stable, *[b"same"] * 6)).status_code == 200
            async with asyncio.timeout(20):
                while (await counted(stable)).get("timeout", 0) < MAX_CALLS + MAX_WAITING:
                    await asyncio.sleep(0.05)
            began = perf_counter()
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["same"]}
            body = gzip.compress(json.dumps({"inputs": [tensor]}).encode())
            async with httpx.AsyncClient() as client:
                headers = {"content-encoding": "gzip", "content-type": "application/json"}
                answers = await asyncio.gather(
                    *(client.post(f"http://{stable.http}{URL}", content=body, headers=headers) for _ in range(20))
                )
            assert {answer.status_code for answer in answers} == {200}
            assert perf_counter() - began < 5
            assert asked == ["canary.example"]
    finally:
        let_go.set()


async def test_a_canary_that_answers_without_an_end_is_an_error(start_stable, file):
    """Its header or its body: what is read of it is bounded, and users are answered."""
    endless = itertools.cycle([b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"])
    sent = Counter()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(endless))
        with contextlib.suppress(ConnectionError):
            while sent[writer] < 256 << 20:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent[writer] += 65536
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        tell(file)
        async with start_stable(f"{host}:{port}") as stable:
            assert (await infer(stable, *[b"same"] * 4)).status_code == 200
            await eventually(stable, error=4)
    assert max(sent.values()) < 32 << 20


async def test_figures_that_cannot_be_are_an_error_and_spoil_no_sum(start_stable, canary, file):
    """Beside a good answer, whose costs the counters have alone."""
    good = await answer_of(canary)
    odd = (["nan:0:intact"], ["1e308:0:intact"])
    poisoned = [{**good, "outputs": [*good["outputs"][:4], {"data": classes}]} for classes in odd]
    replies = iter([*poisoned, {**good, "outputs": [{"data": [{}]}, *good["outputs"][1:]]}, good])
    app = web.Application()

    async def reply(_):
        return web.json_response(next(replies))

    app.router.add_post(URL, reply)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = site._server.sockets[0].getsockname()
    tell(file)
    async with start_stable(f"{host}:{port}") as stable:
        for _ in range(4):
            await infer(stable, b"same")
        await eventually(stable, error=3, agreed=1)
        assert await counted(stable, "visor_shadow_cost_total", "whose") == pytest.approx({"stable": 1.5, "canary": 1.5})
        assert await value(stable, "visor_shadow_seconds_count") == 1
    await runner.cleanup()


async def answer_of(edge):
    """An edge's answer to the outputs that a shadow asks for, as JSON."""
    outputs = [*({"name": name} for name in ("label", "decision", "score", "error"))]
    outputs.append({"name": "probabilities", "parameters": {"classification": 4}})
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["same"]}
    async with httpx.AsyncClient() as client:
        return (await client.post(f"http://{edge.http}{URL}", json={"inputs": [tensor], "outputs": outputs})).json()

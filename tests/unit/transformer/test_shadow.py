"""The shadow of one edge before another, both of them real: who is asked what, what is counted, and what users never see."""

import asyncio
import contextlib
import dataclasses
import json
import re
from collections import Counter

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


def point(file, url, percent=100.0):
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"url": url, "percent": percent}))
    new.replace(file)


@pytest.fixture
def start_stable(start_edge, settings, torchserve, file):
    """Run the stable edge, whose worker has one answer, to whatever picture."""
    torchserve.reply = lambda _, body: answered(None if body == b"broken" else ANSWER)
    return lambda **more: start_edge(dataclasses.replace(settings, **{"shadow_file": file, "track": "stable", **more}))


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
    yield f"http://{host}:{port}"
    for writer in seen:
        writer.close()
    server.close()


async def test_answers_are_compared_whatever_the_protocol(start_stable, canary, file):
    """By arithmetic: of REST's four pictures two agree, of gRPC's two one; scores are P(damaged), 0.25 here."""
    point(file, f"http://{canary.http}")
    async with start_stable() as stable:
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
    point(file, f"http://{canary.http}")
    async with start_stable() as stable:
        await infer(stable, *[b"flag"] * 4)
        await infer_grpc(stable, b"same", b"same")
        await infer(stable, b"label")
        await eventually(stable, agreed=2, label=1, decision=4)
        assert await counted(stable, "visor_shadow_drawn_images_total") == {"agreed": 1, "label": 1, "decision": 1}
        assert await counted(stable, "visor_drawn_images_total") == {"pass": 3}  # by what the stable edge itself has answered


async def test_a_refused_picture_is_compared_too(start_stable, canary, others, file):
    others.reply = lambda _, body: answered(None if body in (b"broken", b"new to it") else ANSWER)
    point(file, f"http://{canary.http}")
    async with start_stable() as stable:
        assert (await infer(stable, b"broken")).status_code == 400
        # The last one is refused before anybody is asked.
        assert (await infer(stable, b"broken", b"new to it", b"")).status_code == 200
        await eventually(stable, agreed=2, decision=1)


async def test_answers_of_the_cache_are_users_answers_too(start_stable, canary, torchserve, file):
    point(file, f"http://{canary.http}")
    async with start_stable(cache_images=10) as stable:
        for _ in range(4):
            await infer(stable, b"flag")
        await eventually(stable, decision=4)
        assert len(torchserve.calls) == 1


async def test_the_canary_is_asked_the_same_question(start_stable, canary, others, file):
    """A request's own threshold and pixels; but no heat map, which nobody would look at."""
    point(file, f"http://{canary.http}")
    bodies = []

    async def reply(_request, body):
        bodies.append(body)
        return web.json_response(ANSWER)

    others.reply = reply
    async with start_stable() as stable:
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
    point(file, f"http://{canary.http}")
    async with start_stable() as stable:
        await infer(stable, b"same", headers={"x-request-id": "mine"})
        await eventually(stable, agreed=1)
        assert await value(stable, "visor_request_seconds_count") == 1
        assert not re.search(r"^visor_(request_seconds|decisions|confidence|stage)", await metrics(canary), re.MULTILINE)
        await infer(canary, b"same")
        assert await value(canary, "visor_request_seconds_count") == 1


async def test_a_shadows_request_has_no_shadow_and_a_canary_none_at_all(start_stable, canary, others, file):
    """Else two edges that point at each other would never come to an end, and a canary would agree with itself."""
    point(file, f"http://{canary.http}")
    async with start_stable() as stable, start_stable(track="canary") as second:
        await infer(stable, b"same", headers={"x-visor-shadow": "true"})
        await infer(second, b"same")
        await infer(stable, b"flag")
        await eventually(stable, decision=1)
        assert len(others.calls) == 1
        assert "visor_shadow" not in await metrics(second)
        assert await value(stable, "visor_request_seconds_count") == 2  # where nobody hides by a header from what is counted


async def test_a_token_is_sent_where_one_is_asked_for(start_stable, start_edge, settings, others, file, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("first-token-0123456789\n")
    own = dataclasses.replace(settings, inference_url=others.url, management_url=others.url, token_file=tokens)
    others.reply = lambda _, __: answered(ANSWER)
    async with start_edge(own) as canary, start_stable(token_file=tokens) as stable:
        point(file, f"http://{canary.http}")
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
    async with start_stable() as stable:
        await infer(stable, b"same")
        assert "visor_shadow" not in await metrics(stable)
        point(file, f"http://{canary.http}")
        await begun(stable)
        assert await counted(stable) == {}
        assert len(re.findall("^visor_shadow_images_total", await metrics(stable), re.MULTILINE)) == len(RESULTS)
        await infer(stable, b"same")
        await eventually(stable, agreed=1)
        caplog.set_level("INFO", "transformer")
        for write, why in (
            (lambda: point(file, f"http://{canary.http}", 0), ""),
            (lambda: file.write_text("{"), "shadow.json cannot be used"),
            (file.unlink, ""),
        ):
            write()
            await said(caplog, f"{why}.*no canary is asked any more")
            await infer(stable, b"same")
            point(file, f"http://{canary.http}")
            await said(caplog, "of 100 % of the images http://127.0.0.1:[0-9]+ is asked, too")
        assert len(others.calls) == 1


async def said(caplog, words):
    """The log has come to say it, and is empty again."""
    async with asyncio.timeout(10):
        while not re.search(words, caplog.text, re.DOTALL):
            await asyncio.sleep(0.05)
    caplog.clear()


@pytest.mark.parametrize("url", ["https://a:1", "http://a/b", "http://a?b", "a:80", "http://", "http://a:0"])
async def test_a_target_that_cannot_be_asked_is_refused(url, spec, file, caplog):
    point(file, url)
    shadow = Shadow(file, spec, Metrics(spec, "ab"), 1 << 30)
    assert "is not of the form http://HOST:PORT" in caplog.text
    await shadow.close()


async def test_a_dead_canary_changes_nothing(start_stable, file, free_port, caplog):
    point(file, f"http://127.0.0.1:{free_port}")
    async with start_stable() as stable:
        answers = [await infer(stable, b"same", b"flag") for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        await eventually(stable, error=20)
    assert len([one for one in caplog.records if "has no answer" in one.message]) == 1  # and not twenty


async def test_of_a_canary_that_hangs_a_bounded_number_waits(start_stable, file, monkeypatch):
    """Each has its deadline; the canary has four at once, 32 wait, and the others are dropped."""
    monkeypatch.setattr(transformer.shadow, "DEADLINE_S", 0.5)
    async with silent() as url, start_stable() as stable:
        point(file, url)
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
    async with silent() as url:
        point(file, url)
        metrics = Metrics(spec, "ab")
        shadow = Shadow(file, spec, metrics, 16_000)
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
    point(file, f"http://127.0.0.1:{free_port}", 20)
    metrics = Metrics(spec, "ab")
    shadow = Shadow(file, spec, metrics, 1 << 30)
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
    async with silent() as url:
        point(file, url)
        async with asyncio.timeout(transformer.shadow.DEADLINE_S):
            async with start_stable() as stable:
                await infer(stable, *[b"same"] * 6)

"""One line a request: what it says, what it keeps to itself, and whose id is whose."""

import asyncio
import base64
import gc
import io
import json
import logging
import re
import weakref
from pathlib import Path

import grpc
import httpx
import pytest
import structlog
from aiohttp import web

from transformer.errors import ModelNotReady
from transformer.grpc.messages import SERVICE, message
from transformer.grpc.server import create_server
from transformer.metrics import Metrics
from transformer.request_log import Record, RequestLog, json_handler
from transformer.rest.app import create_app
from transformer.service import FLUSH_S, MAX_UNFLUSHED, Service
from transformer.settings import EdgeLimits

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}
MADE = re.compile("[0-9a-f]{16}")


class Lines(io.BytesIO):
    """What was logged, read back. `flush_service`: has what was not logged yet logged first."""

    def flush_service(self):
        raise NotImplementedError

    def read_back(self):
        self.flush_service()
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def level():
    return "all"


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def service(upstream, spec, level, lines):
    log = RequestLog(level, {"model": "roofs", "version": "3", "track": "canary"}, lines)
    limits = EdgeLimits(max_images=6, max_body_bytes=400_000)
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32), limits=limits, log=log)
    lines.flush_service = service.flush
    return service


@pytest.fixture
async def infer(service):
    """One image over gRPC."""
    server, port = create_server(service, "127.0.0.1", 0, age_s=10.0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=message("ModelInferResponse").FromString)

        def call(image, request_id="", **options):
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [image]}}
            request = message("ModelInferRequest")(model_name="roofs", inputs=[tensor], id=request_id)
            return stub(request.SerializeToString(), **options)

        yield call
    await server.stop(0)


async def test_a_line_says_what_became_of_a_request(client, lines, images, ask_handler):
    answer = await client.post(f"{URL}?secret=1", content=images[0], headers={**ONE, "authorization": "Bearer secret"})
    [line] = lines.read_back()
    assert MADE.fullmatch(line["request_id"])
    assert answer.headers["x-request-id"] == line["request_id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("time"))
    assert 0 < line["seconds"] < 60
    assert 0 <= line["queue_seconds"] <= line["seconds"]
    for measured in ("seconds", "queue_seconds", "request_id"):
        del line[measured]
    assert line == {
        "event": "request",
        "level": "info",
        "protocol": "rest",
        "method": "POST",
        "path": URL,
        "model": "roofs",
        "version": "3",
        "track": "canary",
        "status": 200,
        "code": "",
        "bytes": len(images[0]),
        "images": 1,
        "cache_hits": 0,
        "decisions": {ask_handler(images[0])["decision"]: 1},
    }


async def test_a_line_names_the_rule_that_a_request_brought(client, lines, images):
    for parameters in ({}, {"threshold": 0.25}):
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(images[0]).decode()]}
        await client.post(URL, json={"inputs": [tensor], "parameters": parameters})
    archives, own = lines.read_back()
    assert own["threshold"] == 0.25
    assert {"threshold", "group"} & archives.keys() == set()


def test_a_line_has_the_fields_that_the_guide_lists_and_no_other():
    record = Record("rest", URL, inference=True, shadow=True, threshold=0.25, group="north")
    record.end()
    file = io.BytesIO()
    RequestLog("all", {"model": "roofs", "version": "3", "track": "canary"}, file).write(record)
    text = (Path(__file__).parents[3] / "docs/guide.md").read_text()
    table = text[text.index("| field | what it is |") :].partition("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert json.loads(file.getvalue()).keys() == listed


async def test_a_line_is_written_without_anybody_asking(client, service, lines, images):
    await client.post(URL, content=images[0], headers=ONE)
    async with asyncio.timeout(10 * FLUSH_S):
        while not lines.getvalue():
            await asyncio.sleep(FLUSH_S / 10)
    lines.truncate(lines.seek(0))
    for _ in range(MAX_UNFLUSHED):
        assert not lines.getvalue()
        service.end(Record("rest", URL))
    assert len(lines.getvalue().splitlines()) == MAX_UNFLUSHED


async def test_a_request_is_forgotten_without_the_garbage_collector(client, service, images, monkeypatch):
    """It is kept for a while; what needs a collector then stays for long, and of one that was refused that is its body, too."""
    ended, end = [], service.end

    def watch(record):
        ended.append(weakref.ref(record))
        end(record)

    monkeypatch.setattr(service, "end", watch)
    gc.disable()
    try:
        for body in (images[0], images[0][:60], b"junk", bytes(400_001)):
            await client.post(URL, content=body, headers=ONE)
        await client.post(URL, content=b"{")
        service.flush()
        assert [record() for record in ended] == 5 * [None]
    finally:
        gc.enable()


async def test_an_error_has_its_code_and_the_images_none_of_their_content(client, lines):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["c2VjcmV0!"]}
    await client.post(URL, json={"inputs": [tensor]})
    await client.get("/v2/models/secrets" + "x" * 9000)
    image, path = lines.read_back()
    assert (image["level"], image["status"], image["code"]) == ("warning", 400, "image.undecodable")
    assert "c2VjcmV0" not in lines.getvalue().decode()
    assert (path["method"], path["code"], len(path["path"])) == ("GET", "model.not_found", 200)
    assert "images" not in path


async def test_grpc_has_lines_too(infer, lines, images):
    call = infer(images[0], metadata=[("x-request-id", "from-metadata")])
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "from-metadata"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(b"junk", request_id="from-message", metadata=[("x-request-id", "from-metadata")])
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "from-message"
    good, bad = lines.read_back()
    assert (good["protocol"], good["path"], good["status"], good["code"]) == ("grpc", f"/{SERVICE}/ModelInfer", "OK", "")
    assert (good["request_id"], good["images"], sum(good["decisions"].values())) == ("from-metadata", 1, 1)
    assert (bad["request_id"], bad["status"], bad["code"]) == ("from-message", "INVALID_ARGUMENT", "image.undecodable")


@pytest.mark.parametrize(
    ("in_body", "in_header", "expected"),
    [("body", "header", "body"), (None, "header", "header"), ("", "header", "header"), ("a b", "header", "header"),
     ("x" * 128, None, "x" * 128), ("x" * 129, None, None), ("a\r\nSet-Cookie: b", None, None), ("é", None, None),
     (None, None, None), (None, "a b", None)],
)  # fmt: skip
async def test_whose_id_a_request_has(client, lines, in_body, in_header, expected):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["YWI="]}
    headers = {} if in_header is None else {"x-request-id": in_header}
    answer = await client.post(URL, json={"id": in_body, "inputs": [tensor]}, headers=headers)
    [line] = lines.read_back()
    assert answer.headers["x-request-id"] == line["request_id"]
    assert line["request_id"] == expected if expected else MADE.fullmatch(line["request_id"])


@pytest.mark.parametrize(("level", "codes"), [("none", []), ("errors", ["request.json"]), ("all", ["", "", "request.json"])])
async def test_levels(client, lines, images, codes):
    await client.post(URL, content=images[0], headers=ONE)
    await client.get("/v2/models/roofs")
    await client.post(URL, content=b"{")
    assert [line["code"] for line in lines.read_back()] == codes


async def test_probes_and_scrapes_have_a_line_only_when_they_fail(client, lines, torchserve, caplog):
    for url in ("/v2/health/live", "/v2/health/ready", "/v2/models/roofs/ready", "/metrics"):
        await client.get(url)
    assert lines.read_back() == []
    torchserve.workers = []
    caplog.clear()
    await client.get("/v2/health/ready")
    assert [line["code"] for line in lines.read_back()] == ["model.not_ready"]
    assert caplog.messages == []  # which would be a second line, every second while a server starts


async def test_other_log_lines_of_a_request_have_its_id(service, torchserve, images):
    async def fail(_request, _body):
        return web.Response(status=500)

    torchserve.reply = fail
    stream, handler = io.StringIO(), json_handler()
    handler.setStream(stream)
    logger = logging.getLogger("transformer")
    logger.addHandler(handler)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
            await asyncio.gather(
                *(client.post(URL, content=images[0], headers={**ONE, "x-request-id": name}) for name in ("one", "two"))
            )
        logger.warning("of no request")
    finally:
        logger.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted(line.get("request_id", "") for line in lines) == ["", "one", "two"]
    assert all("upstream.failed" in line["event"] for line in lines if "request_id" in line)


def test_what_ends_a_request_without_an_answer():
    structlog.contextvars.clear_contextvars()
    lines = Lines()
    lines.flush_service = lambda: None
    for err in (asyncio.CancelledError(), ZeroDivisionError(), ModelNotReady("...")):
        record = Record("rest", URL)
        record.fail(err)
        RequestLog("errors", file=lines).write(record)
    told = [(line["level"], line["status"], line["code"]) for line in lines.read_back()]
    assert told == [("warning", 499, "request.gone"), ("error", 500, "internal"), ("error", 503, "model.not_ready")]


async def test_at_a_terminal_a_line_is_short_and_has_nothing_that_a_terminal_obeys(upstream, spec, images, ask_handler):
    lines = io.BytesIO()
    log = RequestLog("all", {"model": "roofs"}, lines, short=True)
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32), log=log)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
        await client.post(URL, content=images[0], headers=ONE)
        await client.post(URL, content=b"no picture", headers=ONE)
        await client.get("/v2/models/%1b%5b2J")
    service.flush()
    good, bad, odd = lines.getvalue().decode().splitlines()
    decided = f"1 {ask_handler(images[0])['decision']}"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  POST {URL}  200  {decided}  \d+ ms", good)
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  POST {URL}  400  image.undecodable  \d+ ms", bad)
    assert "GET /v2/models/\\x1b[2J  404  model.not_found" in odd
    assert max(map(len, (good, bad, odd))) < 100

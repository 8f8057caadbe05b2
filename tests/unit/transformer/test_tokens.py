"""Who may ask an edge that has tokens: the file, its rotation, and every address over REST and gRPC."""

import asyncio
import contextlib
import dataclasses
import hmac
import io
import json
import logging

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from openapi_spec_validator import validate
from starlette.routing import Route

import transformer.tokens
from transformer.errors import TokensUnusable, Unauthenticated
from transformer.grpc.messages import SERVICE, message, service_descriptor
from transformer.metrics import Metrics
from transformer.request_log import RequestLog
from transformer.rest.app import create_app
from transformer.selftest import main as selftest
from transformer.service import Service
from transformer.settings import EdgeLimits
from transformer.tokens import LOOK_S, Tokens, read_tokens

OPEN_PATHS = {"/v2/health/live", "/v2/health/ready", "/metrics"}
OPEN_METHODS = {"ServerLive", "ServerReady"}
"""What the docs say is open, and not what the code says."""

FIRST, SECOND, OTHER = "first-token-0123456789", "second/token+0123456789==", "other-token-0123456789"
BARE = 'Bearer realm="visor"'
NONE, WRONG, RIGHT = {}, {"authorization": f"Bearer {OTHER}"}, {"authorization": f"Bearer {FIRST}"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# until May\n{FIRST}\n\n  {SECOND}  \n")
    return path


@pytest.fixture
def clock(monkeypatch):
    """The time that `Tokens` sees; a test moves it on."""
    clock = [1000.0]
    monkeypatch.setattr(transformer.tokens.time, "monotonic", lambda: clock[0])
    return clock


def accepts(tokens, authorization):
    try:
        tokens.check(authorization)
    except Unauthenticated:
        return False
    return True


def test_one_token_a_line(file):
    assert read_tokens(file) == [FIRST, SECOND]
    file.write_bytes(f"{FIRST}\r\n{SECOND}".encode())
    assert read_tokens(file) == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no token"),
        (b"\n# nothing\n", "holds no token"),
        (b"short", "line 1 of .* is no token: 16 characters or more"),
        (FIRST.encode() + b"\ntwo words of a sentence", "line 2 of .* is no token"),
        (b"a" * 15, "line 1"),
        (b"=" * 40, "line 1"),
        (b"a" * 9000, "line 1"),
        (b"caf\xc3\xa9-0123456789012345", "other characters"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_not_shown(file, content, words):
    file.write_bytes(content)
    with pytest.raises(TokensUnusable, match=f"serve.tokens: .*{words}") as caught:
        Tokens(file)
    assert str(file) in str(caught.value)
    assert "sentence" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TokensUnusable, match="none is not there; a file of tokens is wanted, one a line"):
        Tokens(tmp_path / "none")


@pytest.mark.parametrize(
    ("authorization", "accepted", "challenge"),
    [
        (f"Bearer {FIRST}", True, ""),
        (f"bearer  {SECOND} ", True, ""),
        (None, False, BARE),
        ("", False, BARE),
        ("Bearer", False, BARE),
        ("Bearer ", False, BARE),
        (FIRST, False, BARE),
        (f"Basic {FIRST}", False, BARE),
        (f"Bearer {FIRST} {SECOND}", False, BARE),
        (f"Bearer {FIRST},{SECOND}", False, f'{BARE}, error="invalid_token"'),
        (f"Bearer {FIRST[:-1]}", False, f'{BARE}, error="invalid_token"'),
        (f"Bearer {FIRST}x", False, f'{BARE}, error="invalid_token"'),
        ("Bearer until", False, f'{BARE}, error="invalid_token"'),
        (f"Bearer {FIRST.upper()}", False, f'{BARE}, error="invalid_token"'),
        ("Bearer caf\xe9", False, BARE),
    ],
)
def test_a_token_is_one_of_the_file(file, authorization, accepted, challenge):
    tokens = Tokens(file)
    if accepted:
        tokens.check(authorization)
        return
    with pytest.raises(Unauthenticated, match=r"request\.unauthenticated: ") as caught:
        tokens.check(authorization)
    assert caught.value.challenge == challenge
    assert FIRST not in str(caught.value)


def test_every_token_is_compared_by_digest_whichever_is_right(file, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(transformer.tokens.hmac, "compare_digest", compare)
    tokens = Tokens(file)
    for authorization in (f"Bearer {FIRST}", f"Bearer {SECOND}", f"Bearer {OTHER}", "Bearer x"):
        compared.clear()
        accepts(tokens, authorization)
        assert [(len(one), len(other)) for one, other in compared] == [(32, 32)] * 2
    assert hmac.compare_digest is compare


def test_a_changed_file_is_read_again_within_its_time(file, clock, caplog):
    caplog.set_level(logging.INFO)
    tokens = Tokens(file)
    file.write_text(f"{SECOND}\n{OTHER}\n")
    assert (accepts(tokens, f"Bearer {FIRST}"), accepts(tokens, f"Bearer {OTHER}")) == (True, False)
    clock[0] += LOOK_S
    assert (accepts(tokens, f"Bearer {FIRST}"), accepts(tokens, f"Bearer {OTHER}")) == (False, True)
    assert accepts(tokens, f"Bearer {SECOND}")
    assert caplog.messages == [f"{file} has changed: 2 tokens are valid now"]
    assert OTHER not in caplog.text


def test_a_secret_that_kubernetes_swaps_is_followed(tmp_path, clock):
    """The kubelet writes a new folder and moves one symlink: the file's own link never changes."""
    for name, token in (("one", FIRST), ("two", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens").write_text(token)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "tokens").symlink_to("..data/tokens")
    tokens = Tokens(tmp_path / "tokens")
    assert accepts(tokens, f"Bearer {FIRST}")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "..data")
    clock[0] += LOOK_S
    assert (accepts(tokens, f"Bearer {FIRST}"), accepts(tokens, f"Bearer {OTHER}")) == (False, True)


def test_a_change_that_cannot_be_used_leaves_the_tokens_and_is_logged_once(file, clock, caplog):
    tokens = Tokens(file)
    for change, words in ((lambda: file.write_text(""), "holds no token"), (file.unlink, "is not there")):
        caplog.clear()
        change()
        for _ in range(3):
            clock[0] += LOOK_S
            assert (accepts(tokens, f"Bearer {FIRST}"), accepts(tokens, f"Bearer {OTHER}")) == (True, False)
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert words in record.getMessage()
        assert record.getMessage().endswith("the tokens before stay valid")
    file.write_text(OTHER)
    clock[0] += LOOK_S
    assert (accepts(tokens, f"Bearer {FIRST}"), accepts(tokens, f"Bearer {OTHER}")) == (False, True)


@pytest.fixture
def lines():
    return io.BytesIO()


@pytest.fixture
def service(upstream, spec, file, lines):
    limits = EdgeLimits(max_images=6, max_body_bytes=400_000)
    log = RequestLog("all", {}, lines)
    return Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32), limits=limits, log=log, tokens=Tokens(file))


async def test_every_address_but_health_and_metrics_asks_for_a_token(client, service):
    routes = [route for route in create_app(service).app.routes if isinstance(route, Route)]
    tried = 0
    for route in routes:
        path = route.path.replace("{call:path}", "status").format(name="roofs", version="3")
        for method in route.methods:
            for headers in (NONE, WRONG, RIGHT):
                response = await client.request(method, path, headers=headers)
                refused = headers is not RIGHT and path not in OPEN_PATHS
                assert (response.status_code == 401) is refused, (method, path)
                if refused and method != "HEAD":
                    assert response.json()["code"] == "request.unauthenticated"
                    assert response.headers["www-authenticate"].startswith(BARE)
                tried += 1
    assert tried > 60


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/", "/v2/", "/v2/health", "/v2/health/live/", "//v2/health/live", "/metrics/", "/v2/health/../models/roofs",
     "/v2/health/live%2f..%2f..%2fmodels/roofs", "/metrics%00", "/METRICS"],
)  # fmt: skip
async def test_what_only_looks_like_an_open_address_asks_for_one(client, path):
    response = await client.request("GET", httpx.URL("http://edge").copy_with(raw_path=path.encode()))
    assert response.status_code == 401


async def test_a_refusal_has_an_id_a_line_and_no_secret(client, service, lines):
    response = await client.get("/v2", headers={"Authorization": f"Bearer {OTHER}", "x-request-id": "77"})
    assert response.headers["x-request-id"] == "77"
    assert response.json()["error"].startswith("request.unauthenticated: ")
    assert response.headers["www-authenticate"] == f'{BARE}, error="invalid_token"'
    service.flush()
    [line] = map(json.loads, lines.getvalue().splitlines())
    assert (line["request_id"], line["status"], line["code"], line["level"]) == ("77", 401, "request.unauthenticated", "warning")
    assert OTHER not in lines.getvalue().decode()
    # Those who may not ask are no load that anything scales by.
    assert "visor_request_seconds_count" not in (await client.get("/metrics")).text


async def test_a_request_with_a_token_is_answered(client, images):
    headers = {"Inference-Header-Content-Length": "0", "authorization": f"Bearer {SECOND}"}
    response = await client.post("/v2/models/roofs/infer", content=images[0], headers=headers)
    assert response.status_code == 200


async def test_the_openapi_document_says_so(client):
    made = (await client.get("/openapi.json", headers={"Authorization": f"Bearer {FIRST}"})).json()
    validate(made)
    assert made["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert made["security"] == [{"token": []}]
    assert {path for path, item in made["paths"].items() if item.get("get", {}).get("security") == []} == OPEN_PATHS


@pytest.fixture
def with_tokens(settings, file):
    return dataclasses.replace(settings, token_file=file, drain_s=0.1)


def call(channel, method, **metadata):
    return channel.unary_unary(f"/{SERVICE}/{method}")(b"", metadata=tuple(metadata.items()))


async def test_every_method_but_health_asks_for_a_token(start_edge, with_tokens):
    methods = service_descriptor().methods_by_name
    assert set(methods) > OPEN_METHODS
    async with start_edge(with_tokens) as edge, grpc.aio.insecure_channel(edge.grpc) as channel:
        for method in methods:
            for metadata in (NONE, WRONG, RIGHT):
                code = None
                try:
                    await call(channel, method, **metadata)
                except grpc.aio.AioRpcError as err:
                    code, trailer, details = err.code(), dict(err.trailing_metadata()), err.details()
                refused = metadata is not RIGHT and method not in OPEN_METHODS
                assert (code is grpc.StatusCode.UNAUTHENTICATED) is refused, (method, code)
                if refused:
                    assert trailer["visor-code"] == "request.unauthenticated"
                    assert trailer["www-authenticate"].startswith(BARE)
                    assert details.startswith("request.unauthenticated: ")
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_large_message_without_a_token_is_refused_and_not_read(start_edge, with_tokens, capfd):
    """It is larger than any message may be, and still who sends it is what is wrong with it."""
    async with (
        start_edge(with_tokens) as edge,
        grpc.aio.insecure_channel(edge.grpc, options=[("grpc.max_send_message_length", -1)]) as channel,
    ):
        body = message("ModelInferRequest")(model_name="roofs", raw_input_contents=[bytes(8 << 20)]).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/{SERVICE}/ModelInfer")(body, metadata=(("x-request-id", "78"),))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert dict(caught.value.trailing_metadata())["x-request-id"] == "78"
    [line] = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"78"' in line]
    assert (line["status"], line["path"], line["bytes"]) == ("UNAUTHENTICATED", f"/{SERVICE}/ModelInfer", 0)


async def test_a_large_body_without_a_token_is_answered_to_a_client_that_keeps_sending(start_edge, with_tokens):
    async with start_edge(with_tokens) as edge, httpx.AsyncClient(base_url=f"http://{edge.http}") as client:
        response = await client.post("/v2/models/roofs/infer", content=bytes(30_000_000))
        assert (response.status_code, response.json()["code"]) == (401, "request.unauthenticated")
        assert (await client.get("/v2/health/live")).status_code == 200


async def test_the_tokens_of_a_running_edge_are_rotated(start_edge, with_tokens, file):
    async with start_edge(with_tokens) as edge, httpx.AsyncClient(base_url=f"http://{edge.http}") as client:

        async def status(token):
            return (await client.get("/v2", headers={"Authorization": f"Bearer {token}"})).status_code

        assert (await status(FIRST), await status(OTHER)) == (200, 401)
        file.write_text(f"{OTHER}\n")
        async with asyncio.timeout(5):
            while await status(OTHER) != 200:
                await asyncio.sleep(0.05)
        assert await status(FIRST) == 401


async def test_an_edge_without_usable_tokens_does_not_start(start_edge, with_tokens, file):
    file.write_text("")
    with pytest.raises(TokensUnusable, match="holds no token"):
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(start_edge(with_tokens))


async def test_the_selftest_brings_its_token(start_edge, with_tokens, file, capfd):
    async with start_edge(with_tokens) as edge:
        for protocol, address in (("--rest", f"http://{edge.http}"), ("--grpc", edge.grpc)):
            assert await asyncio.to_thread(selftest, [protocol, address, "--token-file", str(file)]) == 0
            assert "roofs version 3" in capfd.readouterr().out
            assert await asyncio.to_thread(selftest, [protocol, address]) == 1
            assert "request.unauthenticated" in capfd.readouterr().err
